/** Started by verify.test.ts: writes to the database that it is sent, in every way, until it is told to stop. */

import { Emdb, type EmdbShare } from "../../src/index.ts";
import { Random } from "../sim/random.ts";

declare const self: Worker;

const state = { isStopped: false };

async function write(share: EmdbShare): Promise<void> {
  const db = Emdb.attach(share);
  const random = new Random(77);
  const key = (): string => `key ${random.below(5000)}`;
  for (let round = 1; !state.isStopped; round += 1) {
    for (let step = 0; step < 50; step += 1) {
      db.insert(key(), "x".repeat(random.below(200)));
      db.remove(key());
      db.insertMany(Array.from({ length: 20 }, (): [string, string] => [key(), "batch"]));
      db.namespace("shared").insert(key(), "there");
    }
    if (round % 10 === 0) db.namespace("shared").clear();
    if (round % 25 === 0) db.dropNamespace("shared");
    if (round === 3) postMessage("writing");
    await new Promise<void>((resolve) => void setImmediate(resolve));
  }
  await db.close();
  postMessage("stopped");
}

self.addEventListener("message", ({ data }: MessageEvent<EmdbShare | "stop">) => {
  if (data === "stop") state.isStopped = true;
  else void write(data);
});
