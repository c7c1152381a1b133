/**
 * Sweeping: what a removed record costs when 1, 10 or 100 of 100 records have expired, by the queue of deadlines and
 * by a walk over the whole key space as it was before there was one; the first sweep after a reopen by the image, with the
 * queue in it and without; and what a deadline adds to an insert.
 */

import type { Engine } from "../src/engine/engine.ts";
import { openFile, openMemory } from "../src/engine/open/open.ts";
import { hostSystem } from "../src/ffi/host.ts";
import type { System } from "../src/ffi/system.ts";
import { HASH_BITS } from "../src/keydir/hash.ts";
import { isTombstone } from "../src/keydir/keydir.ts";
import { Data, randomFrom, shuffledNumbers } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { once, perCall } from "./lib/time.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

type Config = Parameters<typeof openMemory>[1];

const config: Config = {
  defaultTtlMs: 0,
  rangeScans: false,
  flushPlan: { kind: "on-each-flush" },
  encryption: undefined,
  cipher: undefined,
  verifyReads: false,
};
const startMs = 1_700_000_000_000;

interface Bench extends Disposable {
  readonly engine: Engine;
  readonly clock: { nowMs: number };
}

/** An engine, in memory without a path, over a clock that is moved by hand. */
function openBench(path?: string): Bench {
  const clock = { nowMs: startMs };
  const system = new Proxy(hostSystem(), {
    get(target, name) {
      if (name === "now") return () => clock.nowMs;
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === "function" ? member.bind(target) : member;
    },
  }) as System;
  const environment = { system, defer: (work: () => void) => void setImmediate(work), hasWorkers: false };
  const options = { ...config, createIfMissing: true, readOnly: false, lockTimeoutMs: 0 };
  const opened =
    path === undefined
      ? openMemory(environment, config)
      : openFile(environment, { path, createFolders: false, config: options });
  return { engine: opened.engine, clock, [Symbol.dispose]: () => opened.leave() };
}

/** The sweep as it was without a queue: looks at every record, then removes the expired ones by key. */
function sweepByWalk(engine: Engine, nowMs: number): number {
  const { core, spaces, defaultSpace } = engine;
  const { keydir, lookup, heap } = core;
  const root = spaces.root(defaultSpace);
  const keys: Uint8Array[] = [];
  for (let hash = 0; hash < 1 << HASH_BITS;) {
    const shard = keydir.shardOf(root, hash);
    for (const page of shard.pages) {
      for (let at = 0; at < 4096; at += 8) {
        const low = heap.read32(heap.pageAddress(page) + at);
        const high = heap.read32(heap.pageAddress(page) + at + 4);
        const units = heap.positions.units(low, high);
        if (units === 0 || isTombstone(high)) continue;
        lookup.loadAt(units * 8);
        const expiresAtMs = lookup.expiresAtMs();
        if (expiresAtMs !== 0 && expiresAtMs <= nowMs) keys.push(lookup.keyCopy());
      }
    }
    hash += 1 << (HASH_BITS - shard.depth);
  }
  engine.writeBatch(keys.map((key) => ({ space: defaultSpace, key, value: undefined, expiresAtMs: 0 })));
  return keys.length;
}

/** Fills a database of which `expired` records are past their deadline a minute later; the rest live for days. */
function fill(bench: Bench, data: Data, records: number, expired: number): void {
  const { engine, clock } = bench;
  const random = randomFrom(7);
  for (const index of shuffledNumbers(records, records, 11)) {
    const ttlMs = index < expired ? 1 + random() * 50_000 : 86_400_000 * (1 + random());
    engine.insert(engine.defaultSpace, data.key(index), data.value(index), clock.nowMs + Math.floor(ttlMs));
  }
  clock.nowMs += 60_000;
}

async function sweeps(subject: string, data: Data, records: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const share of [1, 10, 100]) {
    using bench = openBench();
    const { engine, clock } = bench;
    const expired = Math.floor((records * share) / 100);
    fill(bench, data, records, expired);
    if (share === 1) {
      const { bytes } = engine.core.expiry.facts(engine.defaultSpace.address);
      rows.push({ row: "queue memory per record with a deadline", value: bytes / records, unit: "B" });
    }
    let pauseNs = 0;
    let last = Bun.nanoseconds();
    engine.core.mutex.giveWay = () => {
      const now = Bun.nanoseconds();
      pauseNs = Math.max(pauseNs, now - last);
      last = Bun.nanoseconds();
    };
    let swept = 0;
    const nanoseconds = await once(() => {
      last = Bun.nanoseconds();
      swept = subject === "walk" ? sweepByWalk(engine, clock.nowMs) : engine.sweepExpired(engine.defaultSpace);
    });
    pauseNs = Math.max(pauseNs, Bun.nanoseconds() - last);
    if (swept !== expired) throw new Error(`${swept} of ${expired} records were swept`);
    rows.push(
      { row: `sweep, ${share} % expired, in all`, value: nanoseconds / 1e6, unit: "ms", better: "lower" },
      { row: `sweep, ${share} % expired, per removed`, value: nanoseconds / expired, unit: "ns", better: "lower" },
      { row: `sweep, ${share} % expired, longest hold of the lock`, value: pauseNs / 1e6, unit: "ms", better: "lower" },
    );
    const nothing = await once(() =>
      subject === "walk" ? sweepByWalk(engine, clock.nowMs) : engine.sweepExpired(engine.defaultSpace),
    );
    if (share === 1)
      rows.push({ row: "sweep, nothing expired, in all", value: nothing / 1000, unit: "us", better: "lower" });
  }
  return rows;
}

/** Ten of all records have expired when the database is opened again by its image. */
async function reopened(subject: string, data: Data, records: number): Promise<Row[]> {
  using folder = new Folder();
  const path = folder.at("log");
  {
    using bench = openBench(path);
    fill(bench, data, records, 10);
    // A queue that nobody keeps is in no image: the next sweep walks.
    if (subject === "walk") bench.engine.core.expiry.forget(bench.engine.defaultSpace.address);
  }
  let bench: Bench | undefined;
  const opening = await once(() => (bench = openBench(path)));
  using again = bench!;
  again.clock.nowMs += 60_000;
  let swept = 0;
  const first = await once(() => (swept = again.engine.sweepExpired(again.engine.defaultSpace)));
  if (swept !== 10) throw new Error(`${swept} records were swept`);
  return [
    { row: "open by the image", value: opening / 1e6, unit: "ms", better: "lower" },
    { row: "first sweep after it, 10 expired", value: first / 1e6, unit: "ms", better: "lower" },
  ];
}

/** Inserts into a fresh database, then overwrites all of it, with three kinds of deadlines. */
async function inserts(data: Data, records: number): Promise<Row[]> {
  const rows: Row[] = [];
  const random = randomFrom(9);
  const kinds: readonly (readonly [string, (index: number) => number])[] = [
    ["no deadline", () => 0],
    ["one TTL for all", (index) => startMs + 3_600_000 + Math.floor(index / 100)],
    ["random TTLs", () => startMs + Math.floor(3_600_000 * (1 + random()))],
  ];
  const entries = data.entries(0, records);
  for (const [kind, deadlineOf] of kinds) {
    using bench = openBench();
    const { engine } = bench;
    const deadlines = Float64Array.from({ length: 2 * records }, (_, index) => deadlineOf(index));
    const insert = (index: number): void => {
      const [key, value] = entries[index % records] ?? entries[0]!;
      engine.insert(engine.defaultSpace, key, value, deadlines[index]!);
    };
    rows.push({ row: `insert, ${kind}`, value: await perCall(records, insert), unit: "ns", better: "lower" });
    const again = await perCall(records, (index) => insert(records + index));
    rows.push({ row: `overwrite, ${kind}`, value: again, unit: "ns", better: "lower" });
  }
  return rows;
}

async function run(subject: string, options: Options): Promise<Outcome> {
  const data = new Data({ seed: numberOption(options, "seed") });
  const records = numberOption(options, "records");
  // Compiles every path on a small database, so that no row below pays for compilation.
  await sweeps(subject, data, 20_000);
  await inserts(data, 20_000);
  const rows = await sweeps(subject, data, records);
  await reopened(subject, data, 20_000);
  rows.push(...(await reopened(subject, data, records)));
  if (subject === "queue") rows.push(...(await inserts(data, Math.min(records, numberOption(options, "inserts")))));
  return { rows, settings: subject === "walk" ? "looks at every record, one batch" : "sweepExpired" };
}

const workload: Workload = {
  title: "Expiry",
  notes: [
    "In memory but for the rows of an open, 24-byte keys, 150-byte values; every record has a deadline, in an order unlike that of the inserts.",
    "walk: what a sweep costs without the queue, on the same index and log.",
  ],
  defaults: { peers: "queue,walk", records: "1m", inserts: "500k", repeat: "1" },
  unavailable: async () => undefined,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
