/** Values from 16 B to 1 MiB: insert, get as a copy, get as a view. */

import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { checkLoaded } from "./lib/load.ts";
import { numberOption, numbersOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { openStore, peerUnavailable, settingsOf, unsynced } from "./lib/peers-of.ts";
import { perCall } from "./lib/time.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

function sizeText(bytes: number): string {
  return bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} B`;
}

/** Batches and reads of a small store, so that the first size does not pay for compiling them. */
async function warmUp(subject: string, folder: Folder, seed: number): Promise<void> {
  const store = await openStore(subject, folder, "warm");
  const data = new Data({ seed });
  for (let from = 0; from < 20_000; from += 1000) await store.insertMany(data.entries(from, from + 1000));
  await checkLoaded(store, data, 20_000);
  await store.close();
}

async function sizeRows(subject: string, folder: Folder, data: Data, records: number, lookups: number): Promise<Row[]> {
  const store = await openStore(subject, folder, `values${data.valueBytes}`, {
    ...unsynced,
    valueBytes: data.valueBytes,
  });
  const entries = data.entries(0, records);
  const start = Bun.nanoseconds();
  // Batches of about 8 MiB, so that no peer holds a transaction of everything.
  const step = Math.max(1, Math.floor((8 << 20) / data.valueBytes));
  for (let from = 0; from < records; from += step) await store.insertMany(entries.slice(from, from + step));
  const loadNs = (Bun.nanoseconds() - start) / records;
  await checkLoaded(store, data, records);
  const keys = data.shuffledKeys(records, lookups);
  const { getView } = store;
  let bytes = 0;
  const get = (index: number): unknown => {
    const value = store.get(keys[index] ?? keys[0]!);
    // The last byte is touched: a view whose pages were never read would win for nothing.
    if (value instanceof Uint8Array) bytes += value[value.length - 1] ?? 0;
    return value;
  };
  const view = (index: number): void => {
    const value = getView?.(keys[index] ?? keys[0]!);
    if (value !== undefined) bytes += value[data.valueBytes - 1] ?? 0;
  };
  await perCall(Math.min(2000, lookups), get);
  // What was garbage before is not this row's.
  Bun.gc(true);
  const size = sizeText(data.valueBytes);
  const rows: Row[] = [
    { row: `${size}: insertMany`, value: loadNs / 1000, unit: "us", better: "lower" },
    { row: `${size}: get`, value: (await perCall(lookups, get)) / 1000, unit: "us", better: "lower" },
  ];
  if (getView !== undefined) {
    await perCall(Math.min(2000, lookups), view);
    Bun.gc(true);
    rows.push({ row: `${size}: get, view`, value: (await perCall(lookups, view)) / 1000, unit: "us", better: "lower" });
  }
  if (bytes < 0) throw new Error("unreachable: keeps the reads from being optimised away");
  await store.close();
  return rows;
}

async function run(subject: string, options: Options): Promise<Outcome> {
  using folder = new Folder();
  const rows: Row[] = [];
  const total = numberOption(options, "total-bytes");
  await warmUp(subject, folder, numberOption(options, "seed"));
  for (const valueBytes of numbersOption(options, "sizes")) {
    const data = new Data({ seed: numberOption(options, "seed"), valueBytes });
    const records = Math.max(16, Math.min(numberOption(options, "records"), Math.floor(total / valueBytes)));
    const lookups = Math.min(100_000, Math.max(200, Math.floor(total / valueBytes)));
    rows.push(...(await sizeRows(subject, folder, data, records, lookups)));
  }
  return { rows, settings: settingsOf(subject, "none") };
}

const workload: Workload = {
  title: "Value sizes",
  notes: [
    "Per call. lmdb's view is valid until the next call, emdb's for ever.",
    "sqlite's table is WITHOUT ROWID only up to rows of a twentieth of a page, as its documentation advises.",
  ],
  defaults: {
    peers: "emdb,lmdb,sqlite,level",
    records: "100k",
    sizes: "16,150,1024,4096,16384,65536,262144,1048576",
    "total-bytes": "256m",
  },
  unavailable: peerUnavailable,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
