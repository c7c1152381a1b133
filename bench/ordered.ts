/**
 * What the ordered index costs and gives: prefix scans beside the peers, inserts and removes with and without it,
 * and how long it takes to be built at open. Ranges and full scans: `ranges.ts`.
 *
 *     bun ordered.ts [records]
 */

import { Emdb } from "../src/index.ts";
import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { load } from "./lib/load.ts";
import { openStore } from "./lib/peers-of.ts";

const records = Number(process.argv[2] ?? 1_000_000);
const data = new Data({ seed: 3 });
const ROUNDS = 15;
/** Two bytes: some fifteen records of a million. */
const PREFIX_BYTES = 2;

const median = (all: number[]): number => all.toSorted((a, b) => a - b)[all.length >> 1] ?? 0;

function timed(call: () => number): number {
  const started = performance.now();
  const count = call();
  return ((performance.now() - started) * 1e6) / Math.max(count, 1);
}

/** Prefix scans, the stores taking turns, so that a noisy moment meets all of them. */
async function prefixScans(): Promise<void> {
  using folder = new Folder();
  const names = ["emdb", "lmdb", "sqlite"];
  const settings = { durability: "none", isOrdered: true } as const;
  const stores = await Promise.all(names.map((name) => openStore(name, folder, `prefix-${name}`, settings)));
  for (const store of stores) await load(store, data, records);
  const prefixes = data.shuffledKeys(records, 200).map((key) => key.slice(0, PREFIX_BYTES));
  const perPrefix = Math.max(1, Math.round(records / 256 ** PREFIX_BYTES));
  const times = names.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    stores.forEach((store, index) => {
      const scan = (): number => {
        for (const prefix of prefixes) store.range?.(prefix, perPrefix);
        return prefixes.length;
      };
      times[index]?.push(timed(scan));
    });
  }
  const own = median(times[0] ?? []);
  names.forEach((name, index) => {
    const ns = median(times[index] ?? []);
    console.log(`prefix scan of ${perPrefix}, ${name}: ${(ns / 1000).toFixed(1)} us (${(ns / own).toFixed(2)}x)`);
  });
  for (const store of stores) await store.close();
}

/** Single writes with and without the index, in turns over two databases of one size. */
function writes(): void {
  const stores = [false, true].map((rangeScans) => Emdb.openInMemory({ rangeScans }));
  const step = 20_000;
  for (let from = 0; from < records; from += step) {
    const entries = data.entries(from, Math.min(records, from + step));
    for (const store of stores) store.insertMany(entries);
  }
  const kinds = ["insert", "overwrite", "remove"] as const;
  const times = kinds.map(() => stores.map((): number[] => []));
  for (let round = 0; round < ROUNDS; round++) {
    const entries = data.entries(records + round * 2000, records + (round + 1) * 2000);
    kinds.forEach((kind, row) => {
      stores.forEach((store, index) => {
        const write = (): number => {
          for (const [key, value] of entries) {
            if (kind === "remove") store.remove(key);
            else store.insert(key, value);
          }
          return entries.length;
        };
        times[row]?.[index]?.push(timed(write));
      });
    });
  }
  kinds.forEach((kind, row) => {
    const [without = 0, with_ = 0] = (times[row] ?? []).map(median);
    console.log(`${kind}: ${without.toFixed(0)} ns without, ${with_.toFixed(0)} ns with the ordered index`);
  });
  for (const store of stores) {
    console.log(`index memory: ${(store.stats().indexBytes / records).toFixed(1)} B a record`);
    store.closeSync();
  }
}

/** Opening a log that was closed in good order, with and without the index to be built. */
function build(): void {
  using folder = new Folder();
  const path = folder.at("build.emdb");
  const made = Emdb.open(path);
  for (let from = 0; from < records; from += 20_000)
    made.insertMany(data.entries(from, Math.min(records, from + 20_000)));
  made.closeSync();
  const [without, with_] = [false, true].map((rangeScans) =>
    median(
      Array.from({ length: 3 }, () =>
        timed(() => {
          Emdb.open(path, { rangeScans }).closeSync();
          return records;
        }),
      ),
    ),
  );
  const own = (with_ ?? 0) - (without ?? 0);
  console.log(`build at open: ${own.toFixed(0)} ns a record, ${(1000 / own).toFixed(2)} M records/s`);
}

build();
writes();
await prefixScans();
