/** The plain calls: bulk load, get, getMany, insert, durable insert, batches, remove, iterate; memory and file size. */

import { bareGet, bareStore } from "./lib/bare-get.ts";
import { chase } from "./lib/chase.ts";
import { Data } from "./lib/data.ts";
import { bytesUnder, Folder } from "./lib/folder.ts";
import { AppendFile, libc } from "./lib/libc.ts";
import { load } from "./lib/load.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { openStore, peerUnavailable, settingsOf } from "./lib/peers-of.ts";
import { median } from "./lib/statistics.ts";
import { once, perCall } from "./lib/time.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";
import type { Store } from "./peers/peer.ts";

const perRecord = { unit: "ns", better: "lower" } as const;

/** Compiles every path once on a small store of its own, so that no row below pays for compilation. */
async function warmUp(subject: string, folder: Folder, data: Data, options: Options): Promise<void> {
  const store = await openStore(subject, folder, "warm");
  const count = Math.min(20_000, numberOption(options, "records"));
  await load(store, data, count);
  const keys = data.shuffledKeys(count, count);
  await perCall(count, (index) => store.get(keys[index] ?? keys[0]!));
  await perCall(Math.min(100_000, numberOption(options, "inserts")), (index) =>
    store.insert(data.key(index), data.value(index + 1)),
  );
  await perCall(Math.min(100, count / 100), (index) => store.getMany?.(keys.slice(index * 100, index * 100 + 100)));
  await perCall(Math.min(2000, count), (index) => store.remove(keys[index] ?? keys[0]!));
  await store.iterate();
  await store.close();
}

/** Keys that are in memory at a time: what else is in the heap, the collector goes over while a store makes values. */
const KEYS_AT_ONCE = 20_000;

/** Nanoseconds for each key of an operation on the keys with some numbers, which are made some at a time outside the timing. */
async function perKey(
  data: Data,
  numbers: readonly number[],
  operation: (key: Uint8Array) => unknown,
): Promise<number> {
  let elapsed = 0;
  for (let from = 0; from < numbers.length; from += KEYS_AT_ONCE) {
    const keys = numbers.slice(from, from + KEYS_AT_ONCE).map((number) => data.key(number));
    elapsed += (await perCall(keys.length, (index) => operation(keys[index] ?? keys[0]!))) * keys.length;
  }
  return elapsed / numbers.length;
}

async function reads(store: Store, data: Data, records: number, lookups: number): Promise<Row[]> {
  const hits = data.shuffled(records, lookups);
  const misses = data.missing(records, lookups);
  const rows: Row[] = [];
  let found = 0;
  const { getView, getMany } = store;
  const measure = async (
    row: string,
    numbers: readonly number[],
    operation: (key: Uint8Array) => unknown,
  ): Promise<void> => {
    await perKey(data, numbers.slice(0, 1000), operation);
    // What was garbage before is not this row's.
    Bun.gc(true);
    rows.push({ row, value: await perKey(data, numbers, operation), ...perRecord });
  };
  await measure("get, hits", hits, (key) => {
    const value = store.get(key);
    if (value !== undefined) found++;
    return value;
  });
  if (found < lookups) throw new Error(`${found} of ${lookups} keys were found`);
  if (getView !== undefined) {
    let touched = 0;
    await measure("get, hits, view", hits, (key) => {
      // The last byte is read: a peer that copies has been there, and a view whose bytes nobody wants would win for nothing.
      touched += getView(key)![data.valueBytes - 1]!;
    });
    if (!(touched >= 0)) throw new Error("a view was too short");
  }
  await measure("get, misses", misses, (key) => {
    const value = store.get(key);
    if (value !== undefined) throw new Error("a missing key was found");
    return value;
  });
  if (getMany !== undefined) rows.push(...(await manyAndOne(store, getMany, { data, hits })));
  return rows;
}

/** Blocks of keys in turn, one by one and by the hundred: what else the machine does hits both. */
async function manyAndOne(
  store: Store,
  getMany: NonNullable<Store["getMany"]>,
  { data, hits }: { readonly data: Data; readonly hits: readonly number[] },
): Promise<Row[]> {
  const block = Math.min(KEYS_AT_ONCE / 2, Math.floor(hits.length / 4));
  const many: number[] = [];
  const ratios: number[] = [];
  for (let from = 0; from + 2 * block <= hits.length; from += 2 * block) {
    const keys = hits.slice(from, from + 2 * block).map((number) => data.key(number));
    const groups = Array.from({ length: Math.floor(block / 100) }, (_, group) =>
      keys.slice(block + group * 100, block + group * 100 + 100),
    );
    const one = await perCall(block, (index) => store.get(keys[index]!));
    const perKeyNs = (await perCall(groups.length, (index) => getMany(groups[index]!))) / 100;
    many.push(perKeyNs);
    ratios.push(perKeyNs / one);
  }
  return [
    { row: "getMany of 100, per key", value: median(many), ...perRecord },
    { row: "getMany over get, in turn", value: median(ratios), unit: "ratio" },
  ];
}

/** Two dependent misses in a region as large as the store, beside which `get` is to be read. */
function missRows(regionBytes: number, folder: Folder): Row[] {
  const { typedArrayNs, pointerNs, memcpyNs } = chase(regionBytes, 400_000, folder.at("chase"));
  return [
    { row: "2 dependent misses, typed array", value: 2 * typedArrayNs, unit: "ns" },
    { row: "2 dependent misses, mapped file, read.u32", value: 2 * pointerNs, unit: "ns" },
    { row: "2 dependent misses, mapped file, FFI memcpy of 24 B", value: 2 * memcpyNs, unit: "ns" },
  ];
}

/** The least that a get can cost here, measured in the same process. */
async function bareRows(data: Data, records: number, lookups: number, folder: Folder): Promise<Row[]> {
  if (libc === undefined) return [];
  using store = bareStore(libc, data, { records, path: folder.at("bare-get") });
  const hits = data.shuffled(records, lookups);
  const find = bareGet(libc, store.places);
  Bun.gc(true);
  const get = (key: Uint8Array): Uint8Array => {
    const value = find(key);
    if (value === undefined) throw new Error("a record is missing");
    return value;
  };
  await perKey(data, hits.slice(0, 20_000), get);
  return [{ row: "bare get: hash, bucket, frame, copy", value: await perKey(data, hits, get), unit: "ns" }];
}

/** A row as a multiple of others of the same process. */
function ratioRows(rows: readonly Row[]): Row[] {
  const value = (row: string): number => rows.find((one) => one.row === row)?.value ?? Number.NaN;
  const ratios = [
    ["get, hits", "bare get: hash, bucket, frame, copy", "get over bare get"],
    ["get, hits", "2 dependent misses, mapped file, FFI memcpy of 24 B", "get over 2 dependent misses"],
  ] as const;
  return ratios
    .map(([over, under, row]): Row => ({ row, value: value(over) / value(under), unit: "ratio" }))
    .filter((row) => Number.isFinite(row.value));
}

/** Inserts one by one into an empty store, and the longest single call among them. */
async function inserts(subject: string, folder: Folder, data: Data, count: number): Promise<Row[]> {
  const store = await openStore(subject, folder, "inserts");
  const slice = 100_000;
  let elapsed = 0;
  let longest = 0;
  for (let from = 0; from < count; from += slice) {
    const entries = data.entries(from, Math.min(count, from + slice));
    // Every 64 calls share two clock readings: a pause shows, and the clock does not.
    for (let at = 0; at < entries.length; at += 64) {
      const group = Math.min(64, entries.length - at);
      const nanoseconds =
        (await perCall(group, (index) => store.insert(...(entries[at + index] ?? entries[0]!)))) * group;
      elapsed += nanoseconds;
      longest = Math.max(longest, nanoseconds);
    }
  }
  const rows: Row[] = [
    { row: "insert, visible on return", value: elapsed / count, ...perRecord },
    { row: "insert, longest pause of 64 calls", value: longest / 1e6, unit: "ms", better: "lower" },
  ];
  const { insertQueued, settled } = store;
  if (insertQueued !== undefined && settled !== undefined) {
    const entries = data.entries(count, count + Math.min(count, slice));
    const nanoseconds = await once(async () => {
      for (const [key, value] of entries) insertQueued(key, value);
      await settled();
    });
    rows.push({ row: "insert, queued and then awaited together", value: nanoseconds / entries.length, ...perRecord });
  }
  await store.close();
  return rows;
}

/** Durable writes in blocks that alternate with a bare append and sync on the same disk. */
async function durable(subject: string, folder: Folder, data: Data, count: number): Promise<Row[]> {
  const store = await openStore(subject, folder, "durable", { durability: "sync", isOrdered: false });
  const { insertDurable } = store;
  const rows: Row[] = [];
  if (insertDurable !== undefined) {
    using bare = libc === undefined ? undefined : new AppendFile(libc, folder.at("bare"), 64 << 20);
    const record = new Uint8Array(190);
    const block = Math.max(10, Math.floor(count / 20));
    const own: number[] = [];
    const ratios: number[] = [];
    const floor: number[] = [];
    for (let from = 0; from < count; from += block) {
      const nanoseconds = await perCall(block, (index) => insertDurable(data.key(from + index), data.value(index)));
      own.push(nanoseconds);
      if (bare === undefined) continue;
      const bareNs = await perCall(block, () => {
        bare.append(record);
        bare.sync();
      });
      floor.push(bareNs);
      ratios.push(nanoseconds / bareNs);
    }
    rows.push({ row: "insert, durable on return", value: median(own) / 1000, unit: "us", better: "lower" });
    rows.push({ row: "bare pwrite + fdatasync beside it", value: median(floor) / 1000, unit: "us" });
    rows.push({ row: "durable insert over bare", value: median(ratios), unit: "ratio" });
    const batches = Array.from({ length: 20 }, (_, index) =>
      data.entries(count + index * 1000, count + index * 1000 + 1000),
    );
    const batchNs = await perCall(batches.length, (index) => store.insertMany(batches[index] ?? []));
    rows.push({ row: "durable batches of 1000, per record", value: batchNs / 1000, ...perRecord });
  }
  await store.close();
  return rows;
}

/** Bulk load, reads, iteration, size after a clean close, removals. */
async function life(
  subject: string,
  folder: Folder,
  data: Data,
  options: Options,
): Promise<{ rows: Row[]; fileBytes: number }> {
  const records = numberOption(options, "records");
  const payload = records * (data.keyBytes + data.valueBytes);
  const store = await openStore(subject, folder, "core");
  const rows: Row[] = [
    { row: "bulk load (insertMany), per record", value: (await load(store, data, records)) / records, ...perRecord },
  ];
  const { flush } = store;
  if (flush !== undefined) rows.push({ row: "flush after the load", value: (await once(flush)) / 1e6, unit: "ms" });
  rows.push(...(await reads(store, data, records, Math.min(records, numberOption(options, "lookups")))));
  const iterateNs = await once(async () => {
    const bytes = await store.iterate();
    if (bytes !== payload) throw new Error(`iteration saw ${bytes} of ${payload} bytes`);
  });
  rows.push({ row: "iterate, per record", value: iterateNs / records, ...perRecord });
  if (store.indexBytes !== undefined)
    rows.push({ row: "index memory per record", value: store.indexBytes() / records, unit: "B" });
  const removals = data.shuffledKeys(records, Math.min(records, numberOption(options, "removes")));
  const remove = async (from: Store): Promise<void> => {
    const value = await perCall(removals.length, (index) => from.remove(removals[index] ?? removals[0]!));
    for (const key of removals.slice(0, 100))
      if ((await from.get(key)) !== undefined) throw new Error("a removed key was found");
    rows.push({ row: "remove, per record", value, ...perRecord });
  };
  const isOnDisk = bytesUnder(folder.at("core")) > 0;
  if (!isOnDisk) await remove(store);
  await store.close();
  const fileBytes = bytesUnder(folder.at("core"));
  if (!isOnDisk) return { rows, fileBytes };
  rows.push({ row: "file over payload, after load and close", value: fileBytes / payload, unit: "ratio" });
  const again = await openStore(subject, folder, "core");
  await remove(again);
  await again.close();
  return { rows, fileBytes };
}

async function run(subject: string, options: Options): Promise<Outcome> {
  using folder = new Folder();
  const data = new Data({ seed: numberOption(options, "seed") });
  const records = numberOption(options, "records");
  await warmUp(subject, folder, data, options);
  const { rows, fileBytes } = await life(subject, folder, data, options);
  rows.push(...missRows(Math.max(fileBytes, records * (data.keyBytes + data.valueBytes)), folder));
  rows.push(...(await bareRows(data, records, Math.min(records, numberOption(options, "lookups")), folder)));
  rows.push(...ratioRows(rows));
  rows.push(...(await inserts(subject, folder, data, Math.min(records, numberOption(options, "inserts")))));
  rows.push(...(await durable(subject, folder, data, numberOption(options, "durable"))));
  return { rows, settings: settingsOf(subject, "none") };
}

const workload: Workload = {
  title: "Core calls",
  notes: [
    "24-byte random keys, 150-byte random values, made outside the timing, 20 000 at a time for reads, and the same for all; keys lie in memory in the order of use.",
    "Rows without a sync: a killed process loses emdb's last writes until the event loop turns or 2 MiB are pending, and none of lmdb's, sqlite's or level's.",
    'lmdb\'s guide recommends queued puts: "insert, queued and then awaited together" is that, where "insert, visible on return" is putSync.',
    "Durable rows reopen each peer at its durable setting: lmdb without noSync and writemap, sqlite synchronous = full, level sync: true.",
    "lmdb view: getBinaryFast, valid until the next call; emdb view: getZeroCopy, valid for ever.",
  ],
  defaults: {
    peers: "emdb,lmdb,sqlite,sqlite-exclusive,level,map",
    records: "1m",
    lookups: "1m",
    inserts: "200k",
    removes: "100k",
    durable: "400",
  },
  unavailable: peerUnavailable,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
