/**
 * What the ordered index costs and gives: prefix scans, ranges and full scans beside the peers, of records that came as one
 * batch, as five, and by and by and were compacted in the order of their keys, inserts and removes with and without it,
 * how even a load of sorted and of random keys is, and opening with its leaves in the image and without.
 *
 *     bun ordered.ts [records] [part ...]      parts: open, load, batches, order, writes, memory, ranges, five, compacted
 *
 * Times of ranges and opens are of the processor, not of the clock, and the stores take turns: on a machine that is busy
 * with other work these ratios hold better. `ranges.ts` has the same with a process for each store, by the clock.
 */

import { BatchOrder } from "../src/engine/write/batch-order.ts";
import { Ordering } from "../src/engine/ordering/ordering.ts";
import { Emdb } from "../src/index.ts";
import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { load } from "./lib/load.ts";
import { countAndWords } from "./lib/options.ts";
import { orders } from "./lib/orders.ts";
import { openStore } from "./lib/peers-of.ts";
import type { Store } from "./peers/peer.ts";

const given = countAndWords(process.argv.slice(2), [
  "open",
  "load",
  "batches",
  "order",
  "writes",
  "memory",
  "ranges",
  "five",
  "compacted",
]);
const records = given.count;
const data = new Data({ seed: 3 });
const parts = new Set(given.words);
/** Of so few records no figure is meant to be kept: it is seen whether all of this still runs. */
const isTrial = records < 10_000;
const ROUNDS = isTrial ? 2 : 15;
/** Of short ones more, or their median is one of rounds in which the code is being compiled. */
const SHORT_ROUNDS = isTrial ? 2 : 60;
/** Two bytes: some fifteen records of a million. */
const PREFIX_BYTES = 2;
/** A load is cut into so many stretches, which should cost the same. */
const STRETCHES = 10;

const median = (all: number[]): number => all.toSorted((a, b) => a - b)[all.length >> 1] ?? 0;

/** Microseconds of the processor. */
function processor(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Microseconds of this thread. */
function ownTime(): number {
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

const ORDERED = { durability: "none", isOrdered: true } as const;
/** As they come to a server that is asked by many: ten neighbours are in ten places then. */
const SMALL_BATCH = 10_000;

/** Records that came as so many batches. */
async function ranges(batches: number): Promise<void> {
  using folder = new Folder();
  const names = ["emdb", "lmdb", "sqlite"];
  const stores = await Promise.all(names.map((name) => openStore(name, folder, `prefix-${name}`, ORDERED)));
  for (const store of stores) await load(store, data, records, Math.ceil(records / batches));
  await compareRanges(names, stores);
}

/** Records that came by small batches, as they lie then and compacted in the order of their keys. */
async function compacted(): Promise<void> {
  using folder = new Folder();
  const names = ["compacted", "not compacted", "lmdb", "sqlite"];
  const peers = ["emdb", "emdb", "lmdb", "sqlite"];
  const stores = await Promise.all(peers.map((name, index) => openStore(name, folder, `store-${index}`, ORDERED)));
  for (const store of stores) await load(store, data, records, SMALL_BATCH);
  const [inOrder, inLogOrder] = stores;
  const timed = async (run: () => unknown): Promise<string> => {
    const started = performance.now();
    await run();
    return (performance.now() - started).toFixed(0);
  };
  const plain = await timed(() => inLogOrder?.compact?.());
  const first = await timed(() => inOrder?.compactInKeyOrder?.());
  const second = await timed(() => inOrder?.compactInKeyOrder?.());
  console.log(`compaction in the order of keys: ${first} ms, once more ${second} ms, in that of the log ${plain} ms`);
  await compareRanges(names, stores);
}

/** Prefix scans, ranges and full scans, the stores taking turns, so that a noisy moment meets all of them; ratios to the first. */
async function compareRanges(names: readonly string[], stores: readonly Store[]): Promise<void> {
  const keys = data.shuffledKeys(records, 8192);
  const perPrefix = Math.max(1, Math.round(records / 256 ** PREFIX_BYTES));
  let next = 0;
  const some = (store: Store, count: number, limit: number, bytes?: number): number => {
    for (let index = 0; index < count; index++)
      store.range?.(keys[(next + index) % keys.length]!.slice(0, bytes), limit);
    return count;
  };
  const kinds: [string, number, (store: Store) => number][] = [
    [`prefix scan of ${perPrefix}`, ROUNDS, (store) => some(store, 1000, perPrefix, PREFIX_BYTES)],
    ["range of 10", SHORT_ROUNDS, (store) => some(store, 2000, 10)],
    ["range of 1000", SHORT_ROUNDS, (store) => some(store, 40, 1000)],
    ["full scan, per record", 5, (store) => Number(store.range?.(new Uint8Array(1), records + 1) ?? 0)],
  ];
  for (const [what, rounds, run] of kinds) {
    const times = names.map((): number[] => []);
    for (let round = 0; round < rounds; round++, next += 2000) {
      stores.forEach((store, index) => {
        // Nobody pays for the garbage of the one before.
        Bun.gc(true);
        const started = processor();
        const count = run(store);
        times[index]?.push(((processor() - started) * 1000) / count);
      });
    }
    const own = times[0] ?? [];
    names.forEach((name, index) => {
      const all = times[index] ?? [];
      const ratio = `${(median(all) / median(own)).toFixed(2)}x, best ${(Math.min(...all) / Math.min(...own)).toFixed(2)}x`;
      console.log(`${what}, ${name}: ${median(all).toFixed(0)} ns, best ${Math.min(...all).toFixed(0)} (${ratio})`);
    });
  }
  for (const store of stores) await store.close();
}

/** Loading sorted and random keys one by one: whether the last records cost what the first do, and the longest pause. */
function loads(): void {
  for (const order of ["random", "sorted", "backwards"] as const) {
    using folder = new Folder();
    const db = Emdb.open(folder.at("load.emdb"), { rangeScans: true });
    const perStretch = Math.floor(records / STRETCHES);
    const costs: number[] = [];
    let longest = 0;
    for (let stretch = 0; stretch < STRETCHES; stretch++) {
      const entries = data.entries(stretch * perStretch, (stretch + 1) * perStretch);
      const number = Buffer.alloc(8);
      entries.forEach(([key], index) => {
        if (order === "random") return;
        const rank = stretch * perStretch + index;
        number.writeBigUInt64BE(BigInt(order === "sorted" ? rank : records - rank));
        key.set(number);
      });
      const started = processor();
      for (const [key, value] of entries) {
        const before = ownTime();
        db.insert(key, value);
        longest = Math.max(longest, (ownTime() - before) / 1000);
      }
      costs.push(((processor() - started) * 1000) / perStretch);
    }
    const [first = 0, last = 0] = [costs[0], costs.at(-1)];
    const steps = costs.map((cost) => cost.toFixed(0)).join(" ");
    console.log(
      `load of ${order} keys: ${steps} ns (last / first: ${(last / first).toFixed(2)}), longest ${longest.toFixed(1)} ms`,
    );
    db.closeSync();
  }
}

/** A load by batches: without the index, with it, and with each key entered as it comes instead of in the order of all. */
function batches(): void {
  const { prototype } = Ordering;
  const inOrder = Object.getOwnPropertyDescriptor(prototype, "beginBatch")!;
  const kinds = ["without the index", "with it", "in the order of coming"] as const;
  for (const size of [records, 10_000, 1000]) {
    const times = kinds.map((): number[] => []);
    for (let round = 0; round < 5; round++) {
      kinds.forEach((kind, index) => {
        const db = Emdb.openInMemory({ rangeScans: kind !== "without the index" });
        if (kind === "in the order of coming")
          Object.defineProperty(prototype, "beginBatch", { value: () => undefined });
        let spent = 0;
        for (let from = 0; from < records; from += size) {
          const entries = data.entries(from, Math.min(records, from + size));
          const started = processor();
          db.insertMany(entries);
          spent += processor() - started;
        }
        times[index]?.push((spent * 1000) / records);
        Object.defineProperty(prototype, "beginBatch", inOrder);
        db.closeSync();
        Bun.gc(true);
      });
    }
    const all = kinds.map((kind, index) => `${median(times[index] ?? []).toFixed(0)} ns ${kind}`).join(", ");
    console.log(`batches of ${size}: ${all}`);
  }
}

/** Nanoseconds of the processor for each of so many calls or records. */
function each(count: number, run: () => void): number {
  const started = processor();
  run();
  return ((processor() - started) * 1000) / count;
}

/** Loads one batch, of arrays that lie on the heap in its order or anywhere; returns the time for a record. */
function loadOnce(db: Emdb, isScattered: boolean): number {
  const entries = data.entries(0, records).map(([key, value]) => [key, value.slice()] as const);
  const batch = isScattered ? data.shuffled(records, records).map((number) => entries[number]!) : entries;
  Bun.gc(true);
  return each(records, () => db.insertMany(batch));
}

/** What it costs and gives that a batch is written in the order of its keys, and what a batch costs whose arrays lie anywhere on the heap. */
function order(): void {
  const inOrder = Object.getOwnPropertyDescriptor(BatchOrder, "of")!;
  const kinds = ["in the order of keys", "in the order of coming"] as const;
  const rows = ["load", "load of arrays that lie anywhere", "range of 10", "full scan"] as const;
  const times = rows.map(() => kinds.map((): number[] => []));
  const keys = data.shuffledKeys(records, 8192);
  const ranges = (db: Emdb, part: number): void => {
    for (let at = 0; at < 2000; at++) {
      const gte = keys[(part * 2000 + at) % keys.length]!;
      for (const _ of db.range({ gte, limit: 10 }));
    }
  };
  for (let round = 0; round < 5; round++) {
    for (const [index, kind] of kinds.entries()) {
      const loads = [false, true].map((isScattered) => {
        using folder = new Folder();
        using db = Emdb.open(folder.at("order.emdb"), { rangeScans: true });
        if (kind === "in the order of coming") Object.defineProperty(BatchOrder, "of", { value: () => undefined });
        const spent = loadOnce(db, isScattered);
        Object.defineProperty(BatchOrder, "of", inOrder);
        Bun.gc(true);
        // The first ones touch pages for the first time, with code that is not compiled yet.
        for (let part = 0; part < 2 * ROUNDS && !isScattered; part++) {
          if (part < ROUNDS) ranges(db, part);
          else times[2]?.[index]?.push(each(2000, () => ranges(db, part)));
        }
        const scan = (): void => {
          for (const _ of db.range());
        };
        if (!isScattered) times[3]?.[index]?.push(each(records, scan));
        return spent;
      });
      loads.forEach((spent, row) => times[row]?.[index]?.push(spent));
    }
  }
  rows.forEach((row, at) => {
    const all = kinds.map((kind, index) => `${median(times[at]?.[index] ?? []).toFixed(0)} ns ${kind}`);
    console.log(`${row}, a record or range: ${all.join(", ")}`);
  });
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
        const started = processor();
        const count = write();
        times[row]?.[index]?.push(((processor() - started) * 1000) / count);
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

/** What the ordered index takes, by the order in which keys come one by one. */
function memory(): void {
  const perRecord = (keys: Iterable<string>, rangeScans: boolean): number => {
    using db = Emdb.openInMemory({ rangeScans });
    for (const key of keys) db.insert(key, "");
    return db.stats().indexBytes / db.len();
  };
  for (const [name, keys] of Object.entries(orders)) {
    const [without, both] = [perRecord(keys(records), false), perRecord(keys(records), true)];
    console.log(`keys ${name}: ${(both - without).toFixed(1)} B a record, ${both.toFixed(1)} with the hash index`);
  }
}

/** Opening a log that was closed in good order: without the index, with it to be built, and with it in the image. */
function opens(): void {
  using folder = new Folder();
  const path = folder.at("build.emdb");
  const made = Emdb.open(path);
  for (let from = 0; from < records; from += 20_000)
    made.insertMany(data.entries(from, Math.min(records, from + 20_000)));
  made.closeSync();
  const timesOf = (rangeScans: boolean): string => {
    const times = Array.from({ length: 5 }, () => {
      const [clock, started] = [performance.now(), processor()];
      const db = Emdb.open(path, { rangeScans, readOnly: true });
      const spent = [(processor() - started) / 1000, performance.now() - clock] as const;
      db.closeSync();
      return spent;
    });
    const best = times.toSorted((one, other) => one[0] - other[0])[0] ?? [0, 0];
    return `${best[0].toFixed(0)} ms of the processor, ${best[1].toFixed(0)} by the clock`;
  };
  console.log(`open without the index: ${timesOf(false)}`);
  console.log(`open, the index to be built: ${timesOf(true)}`);
  Emdb.open(path, { rangeScans: true }).closeSync();
  console.log(`open, the index in the image: ${timesOf(true)}`);
  console.log(`open without it, though it is in the image: ${timesOf(false)}`);
}

const isWanted = (part: string): boolean => parts.size === 0 || parts.has(part);
if (isWanted("open")) opens();
if (isWanted("load")) loads();
if (isWanted("batches")) batches();
if (isWanted("order")) order();
if (isWanted("writes")) writes();
if (isWanted("memory")) memory();
if (isWanted("ranges")) await ranges(1);
if (isWanted("five")) await ranges(5);
if (isWanted("compacted")) await compacted();
