/**
 * Long work on one thread beside a Worker that writes one long batch after the other: how long each takes, and how late
 * the event loop is meanwhile. A batch has the writer's lock to its end.
 */

import { Data } from "./lib/data.ts";
import type { BatchWork } from "./lib/batch-writer.ts";
import { Folder } from "./lib/folder.ts";
import { LoopDelay } from "./lib/loop-delay.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { quantile } from "./lib/statistics.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";
import { Emdb } from "../src/index.ts";

const variants: Readonly<Record<string, object>> = { emdb: {}, "emdb-ordered": { rangeScans: true } };
/** A few flushes, one after the other, each of a write of its own. */
const flushes = 10;

/** What the Worker answers next. */
function answer(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<unknown>) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  });
}

async function timed(name: string, work: () => Promise<unknown>): Promise<Row[]> {
  const delay = new LoopDelay();
  delay.start();
  const began = performance.now();
  await work();
  const took = performance.now() - began;
  await new Promise((resolve) => setTimeout(resolve, 2));
  delay.stop();
  return [
    { row: name, value: took, unit: "ms", better: "lower" },
    { row: `${name}: event loop late, p99`, value: quantile(delay.samplesMs, 0.99), unit: "ms", better: "lower" },
    { row: `${name}: event loop late, most`, value: quantile(delay.samplesMs, 1), unit: "ms", better: "lower" },
  ];
}

async function run(subject: string, options: Options): Promise<Outcome> {
  const [records, seed] = [numberOption(options, "records"), numberOption(options, "seed")];
  const data = new Data({ seed });
  using folder = new Folder();
  const db = Emdb.open(folder.at("log"), variants[subject]);
  db.insertMany(data.entries(0, records));
  db.flushSync();
  const worker = new Worker(new URL("./lib/batch-writer.ts", import.meta.url).href);
  const begun = answer(worker);
  worker.postMessage({ share: db.share(), seed, records, batch: numberOption(options, "batch") } satisfies BatchWork);
  await begun;
  const rows: Row[] = [];
  rows.push(...(await timed("verify", () => db.verify())));
  rows.push(...(await timed("checkpoint", () => db.checkpoint())));
  rows.push(...(await timed("backup", () => db.backupTo(folder.at("copy")))));
  rows.push(...(await timed("compact", () => db.compact())));
  const flushAll = async (): Promise<void> => {
    for (let index = 0; index < flushes; index += 1) await db.flush();
  };
  rows.push(...(await timed(`${flushes} flushes`, flushAll)));
  const ended = answer(worker);
  worker.postMessage("end");
  rows.push({ row: "batches meanwhile", value: Number(await ended), unit: "" });
  worker.terminate();
  await db.close();
  return { rows, settings: JSON.stringify(variants[subject]) };
}

const workload: Workload = {
  title: "Long work beside a Worker that writes batches",
  notes: ["The Worker lets its event loop turn between two batches, and has the writer's lock for each."],
  defaults: { peers: "emdb,emdb-ordered", records: "200k", batch: "100k" },
  unavailable: async (subject) => (subject in variants ? undefined : "it is about emdb alone"),
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
