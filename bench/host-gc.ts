/** What an open database of several GiB does to the garbage collector of its host. */

import { fileURLToPath } from "node:url";

import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { processMemory } from "./lib/memory.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { fileUnavailable, openStore, settingsOf, unsynced } from "./lib/peers-of.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

/** The subjects that open nothing: one with nothing in the process but the loop, one with the library loaded. */
const nothing = "none";
const loaded = "loaded";

const kept: unknown[] = [];

/** Makes short-lived objects and small buffers, keeping a small window of them alive; returns peaks. */
function makeGarbage(rounds: number): Row[] {
  let rss = 0;
  let anonymous = 0;
  const start = Bun.nanoseconds();
  for (let round = 0; round < rounds; round++) {
    kept[round % 2000] = {
      round,
      text: `value ${round}`,
      bytes: new Uint8Array(200),
      list: [round, round + 1, { deep: round }],
    };
    if (round % 20_000 !== 0) continue;
    const memory = processMemory();
    rss = Math.max(rss, memory.rssBytes);
    anonymous = Math.max(anonymous, memory.anonymousBytes);
  }
  const elapsed = Bun.nanoseconds() - start;
  return [
    { row: "garbage loop: time", value: elapsed / 1e6, unit: "ms", better: "lower" },
    { row: "garbage loop: peak RSS", value: rss / 2 ** 20, unit: "MiB", better: "lower" },
    {
      row: "garbage loop: peak RSS without file-mapped pages",
      value: anonymous / 2 ** 20,
      unit: "MiB",
      better: "lower",
    },
  ];
}

function fill(
  subject: string,
  path: string,
  options: Options,
  shape: { readonly records: number; readonly valueBytes: number },
): void {
  const loader = fileURLToPath(new URL("./lib/loader.ts", import.meta.url));
  const { records, valueBytes } = shape;
  const done = Bun.spawnSync(
    [
      process.execPath,
      "run",
      loader,
      `--subject=${subject}`,
      `--path=${path}`,
      `--seed=${options["seed"]}`,
      `--records=${records}`,
      `--value-bytes=${valueBytes}`,
    ],
    { stdout: "ignore", stderr: "pipe" },
  );
  if (done.exitCode !== 0) throw new Error(`loading failed: ${done.stderr.toString()}`);
}

async function run(subject: string, options: Options): Promise<Outcome> {
  const rounds = numberOption(options, "rounds");
  if (subject === nothing) return { rows: makeGarbage(rounds), settings: "no database" };
  if (subject === loaded) {
    await import("../src/index.ts");
    return { rows: makeGarbage(rounds), settings: "emdb is imported, and opens nothing" };
  }
  using folder = new Folder();
  const valueBytes = numberOption(options, "value-bytes");
  const records = Math.max(1, Math.floor(numberOption(options, "bytes") / (valueBytes + 24)));
  fill(subject, folder.at("host"), options, { records, valueBytes });
  const store = await openStore(subject, folder, "host", { ...unsynced, valueBytes });
  // Only keys are needed: values of this shape would put 64 MiB on the heap that is to be measured.
  const data = new Data({ seed: numberOption(options, "seed"), valueBytes: 1 });
  // Reads all over the file: whatever a peer maps or caches on reading is there before the loop.
  const reads = numberOption(options, "reads");
  const step = Math.max(1, Math.floor(records / reads));
  for (let index = 0; index < records && reads > 0; index += step)
    if ((await store.get(data.key(index))) === undefined) throw new Error("a record is missing");
  const opened = processMemory();
  const rows = makeGarbage(rounds);
  rows.push({ row: "RSS after open and reads, before the loop", value: opened.rssBytes / 2 ** 20, unit: "MiB" });
  rows.push({ row: "file-mapped part of it", value: opened.mappedBytes / 2 ** 20, unit: "MiB" });
  await store.close();
  return { rows, settings: settingsOf(subject, "none", { valueBytes }) };
}

const workload: Workload = {
  title: "Garbage collection of the host",
  notes: ["The database is filled by another process. RSS without file-mapped pages is RssAnon of /proc/self/status."],
  defaults: { peers: "none,loaded,emdb,lmdb,sqlite", bytes: "3g", "value-bytes": "4096", rounds: "5m", reads: "50k" },
  unavailable: async (subject) => (subject === nothing || subject === loaded ? undefined : fileUnavailable(subject)),
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
