/**
 * Ranges without a lock while another Worker divides, joins and frees the nodes they read.
 *
 * The writer inserts and removes two records at a time, one below "b" and one above, in one batch: any range over
 * everything must show both or none, in order, with the same value.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { Random } from "../sim/random.ts";

setDefaultTimeout(60_000);

const decoder = new TextDecoder();

function heard(worker: Worker, wanted: string): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.addEventListener("message", ({ data }) => data === wanted && resolve());
    worker.addEventListener("error", ({ message }) => reject(new Error(message)));
  });
}

/** Walks everything; throws when a pair is shown in part, or keys are out of order. Returns the pairs. */
function walkPairs(db: Emdb, isReverse: boolean): number {
  const seen = new Map<string, string>();
  let last: string | undefined;
  let pairs = 0;
  for (const [keyBytes, valueBytes] of db.range({ reverse: isReverse })) {
    const key = decoder.decode(keyBytes);
    const value = decoder.decode(valueBytes);
    if (last !== undefined && (isReverse ? key >= last : key <= last)) throw new Error(`${key} comes behind ${last}`);
    last = key;
    const name = key.slice(1);
    const partner = seen.get(name);
    if (partner === undefined) seen.set(name, value);
    else {
      if (partner !== value) throw new Error(`the pair ${name} shows ${partner} and ${value}`);
      seen.delete(name);
      pairs += 1;
    }
  }
  if (seen.size > 0) throw new Error(`${seen.size} pairs are shown in part, as ${[...seen][0]?.join("=")}`);
  return pairs;
}

test("ranges of one Worker are whole and in order while another writes", async () => {
  using db = Emdb.openInMemory({ rangeScans: true });
  const worker = new Worker(new URL("./ordered-worker.ts", import.meta.url).href);
  const writing = heard(worker, "writing");
  const stopped = heard(worker, "stopped");
  try {
    worker.postMessage(db.share(), []);
    await writing;
    const random = new Random(3);
    let most = 0;
    for (let round = 0; round < 40; round += 1) {
      most = Math.max(most, walkPairs(db, round % 2 === 1));
      for (let step = 0; step < 50; step += 1) {
        const gte = `a${random.below(20_000).toString(36).padStart(12, "0")}`;
        const keys = [...db.range({ gte, limit: 10 })].map(([key]) => decoder.decode(key));
        if (keys.some((key, index) => key < (keys[index - 1] ?? gte)))
          throw new Error(`out of order: ${keys.join(" ")}`);
      }
      if (round % 10 === 0) await new Promise<void>((resolve) => void setImmediate(resolve));
    }
    expect(most).toBeGreaterThan(100);
    worker.postMessage("stop", []);
    await stopped;
    expect(walkPairs(db, false) * 2).toBe(db.len());
  } finally {
    worker.terminate();
  }
});
