/**
 * Compaction and backup while reads and writes go on: how long each takes, the longest time that a read or a write waits
 * meanwhile, how late the event loop is, and the memory that it takes.
 *
 * The log holds each record twice when it begins. A turn of the event loop does a few reads and overwrites, or, beside one
 * more compaction, fifty thousand over a hundredth of the keys.
 */

import { statSync } from "node:fs";

import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { LoopDelay } from "./lib/loop-delay.ts";
import { processMemory } from "./lib/memory.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { quantile } from "./lib/statistics.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";
import { Emdb } from "../src/index.ts";

const variants: Readonly<Record<string, object>> = {
  emdb: {},
  "emdb-ordered": { rangeScans: true },
  "emdb-aes": { encryption: { key: new Uint8Array(32).fill(7) } },
};
/** Keys, and reads and writes of one turn of the event loop: what a service does, and a loop that hardly ever turns. */
interface Load {
  readonly keys: number;
  readonly perTurn: number;
}

/** Works beside something until it is done; notes what waited longest. */
async function beside(db: Emdb, data: Data, { keys, perTurn }: Load, work: Promise<void>): Promise<Row[]> {
  let isDone = false;
  const done = work.finally(() => (isDone = true));
  const delay = new LoopDelay();
  delay.start();
  let [longestRead, longestWrite, writes] = [0, 0, 0];
  let peakBytes = 0;
  for (let index = 1; !isDone; index += 1) {
    for (let step = 0; step < perTurn; step += 1) {
      const key = data.key((index * perTurn + step * 7919) % keys);
      const began = performance.now();
      db.get(key);
      const between = performance.now();
      db.insert(key, data.value(step));
      const ended = performance.now();
      longestRead = Math.max(longestRead, between - began);
      longestWrite = Math.max(longestWrite, ended - between);
      writes += 1;
    }
    if (index % 64 === 0) peakBytes = Math.max(peakBytes, processMemory().anonymousBytes);
    await new Promise((resolve) => setImmediate(resolve));
  }
  delay.stop();
  await done;
  return [
    { row: "longest read meanwhile", value: longestRead, unit: "ms", better: "lower" },
    { row: "longest write meanwhile", value: longestWrite, unit: "ms", better: "lower" },
    { row: "event loop late, p99", value: quantile(delay.samplesMs, 0.99), unit: "ms", better: "lower" },
    { row: "event loop late, most", value: quantile(delay.samplesMs, 1), unit: "ms", better: "lower" },
    { row: "writes meanwhile", value: writes, unit: "" },
    { row: "anonymous memory, most", value: peakBytes / 2 ** 20, unit: "MiB", better: "lower" },
  ];
}

async function run(subject: string, options: Options): Promise<Outcome> {
  const records = numberOption(options, "records");
  const data = new Data({ seed: numberOption(options, "seed") });
  using folder = new Folder();
  const settings = variants[subject] ?? {};
  const db = Emdb.open(folder.at("log"), settings);
  for (let round = 0; round < 2; round += 1) {
    for (let from = 0; from < records; from += 10_000)
      db.insertMany(data.entries(from, Math.min(records, from + 10_000)));
  }
  db.flushSync();
  Bun.gc(true);
  const rows: Row[] = [];
  const size = (what: string): void =>
    void rows.push({ row: what, value: statSync(folder.at("log")).size / 2 ** 20, unit: "MiB" });
  const service: Load = { keys: records, perTurn: 16 };
  const time = async (name: string, work: () => Promise<void>, load = service): Promise<void> => {
    const before = processMemory().anonymousBytes;
    const began = performance.now();
    const meanwhile = await beside(db, data, load, work());
    rows.push({ row: name, value: performance.now() - began, unit: "ms", better: "lower" });
    rows.push({ row: `${name}: anonymous memory before`, value: before / 2 ** 20, unit: "MiB" });
    for (const row of meanwhile) rows.push({ ...row, row: `${name}: ${row.row}` });
  };
  size("size before");
  await time("compact", () => db.compact());
  size("size after");
  await time("compact beside a loop", () => db.compact(), { keys: Math.ceil(records / 100), perTurn: 50_000 });
  size("size after a loop");
  await time("backup", () => db.backupTo(folder.at("copy")));
  await time("verify", async () => void (await db.verify()));
  const quiet = performance.now();
  await db.compact();
  rows.push({ row: "compact with nobody beside", value: performance.now() - quiet, unit: "ms", better: "lower" });
  await db.close();
  return { rows, settings: JSON.stringify(Object.keys(settings)) };
}

const workload: Workload = {
  title: "Compaction and backup while serving",
  notes: [
    "A read or a write waits for the lock, the swap, or the step of the event loop before it, whatever is longest.",
  ],
  defaults: { peers: "emdb,emdb-ordered,emdb-aes", records: "1m" },
  unavailable: async (subject) => (subject in variants ? undefined : "it is about emdb alone"),
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
