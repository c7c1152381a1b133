/**
 * One stepped life of a database: threads work on it in an order that follows from a seed, some of them die, and what
 * they saw and left is judged by the log's order.
 */

import { mkdirSync, readdirSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { SWEEP_INTERVAL_MS_MAX } from "../../src/limits.ts";
import { fastFolder } from "../engine/fixture.ts";
import { Random } from "../sim/random.ts";
import { HistoryCheck } from "../workers/history-check.ts";
import { COLUMNS, KIND, liveMarks } from "../workers/history-facts.ts";
import { versionsIn, type Version } from "../workers/history-log.ts";
import { THREADS_MAX, VERDICTS, type Baton } from "./baton.ts";
import { newDisk } from "./disk.ts";
import type { Orders, Said } from "./stepped-worker.ts";
import { Threads } from "./threads.ts";

export interface LifePlan {
  readonly clients: number;
  /** The first client flushes through a commit Worker, which is one more thread. */
  readonly hasCommitWorker: boolean;
  readonly deaths: number;
  readonly operations: number;
  readonly churnOneIn: number;
  readonly flushOneIn: number;
  /** One operation in so many begins a compaction, which goes on beside those that follow; 0: none does. */
  readonly compactOneIn: number;
  readonly writesThrough: boolean;
  /** The last client only reads. */
  readonly hasReader: boolean;
  /** There is an ordered index, and what is read is read as ranges. */
  readonly isOrdered: boolean;
  /** Deaths come while a file takes another's place, and not anywhere. */
  readonly diesInSwap: boolean;
}

export interface Outcome {
  readonly steps: number;
  readonly judged: number;
  readonly deaths: number;
  /** Files that compactions have replaced. */
  readonly swaps: number;
  readonly faults: readonly string[];
}

/** Steps of a swap from the sync of the new file on: about so many. */
const SWAP_STEPS = 2500;
/** Of those, what comes after the log has its words. */
const EMPTY_STEPS = 14;
const ROWS_MAX = 40_000;
/**
 * How probable it is that a thread is interrupted at a step; each has one of its own. One who is let run for long beside
 * one who is interrupted at every turn does much between two steps of the other: fine and coarse orders find
 * different faults.
 */
const SWITCH_CHANCES = [0.0002, 0.003, 0.03, 0.2] as const;
const PREFILL = 300;

/** Runs `body` with the system's chance replaced: the seed of the index decides what its shards look like. */
function withChanceFrom<T>(random: Random, body: () => T): T {
  const system = hostSystem() as { random: (into: Uint8Array) => void };
  const own = system.random;
  system.random = (into) => random.randomize(into);
  try {
    return body();
  } finally {
    system.random = own;
  }
}

/** Of all lives of a file. */
const threads = new Threads();

export function endThreads(): void {
  threads.end();
}

class Life implements Disposable {
  readonly #folder = fastFolder();
  readonly #kept = this.#folder.file("replaced");
  readonly #path = this.#folder.file("data.emdb");
  readonly #plan: LifePlan;
  readonly #random: Random;
  readonly #baton: Baton = threads.baton;
  readonly #rows: SharedArrayBuffer[];
  readonly #workers: { readonly worker: Worker; readonly orders: Orders }[] = [];
  readonly #loaded: Promise<void>[] = [];
  readonly #said: Promise<Said>[] = [];
  readonly faults: string[] = [];
  /** Workers that are not this life's any more. */
  readonly #leaving = new Set<Worker>();
  #isFine = false;
  #db: Emdb;
  steps = 0;

  constructor(seed: number, plan: LifePlan) {
    this.#plan = plan;
    this.#random = new Random(seed);
    this.#rows = Array.from({ length: plan.clients }, () => new SharedArrayBuffer(ROWS_MAX * COLUMNS * 8));
    // Nothing happens by the clock: no thread would know when.
    const flushPolicy = plan.writesThrough ? "write-through" : "group";
    const options = { sweepIntervalMs: SWEEP_INTERVAL_MS_MAX, flushPolicy, rangeScans: plan.isOrdered } as const;
    this.#db = withChanceFrom(new Random(this.#random.word()), () => Emdb.open(this.#path, options));
    // This thread's nodes are of full size; those of a tree are the threads' own.
    const fill = plan.isOrdered ? 0 : PREFILL;
    this.#db.insertMany(Array.from({ length: fill }, (_, index) => [`prefilled ${index}`, "filler"] as const));
    this.#db.flushSync();
    mkdirSync(this.#kept);
  }

  async run(): Promise<Outcome> {
    // What the fill has put off is done before anybody else is there.
    await new Promise((resolve) => setImmediate(resolve));
    const random = this.#random;
    const { clients, hasCommitWorker } = this.#plan;
    this.#baton.reset(random.word());
    for (let thread = 0; thread < THREADS_MAX; thread += 1)
      this.#baton.setSwitchChance(thread, random.pick(SWITCH_CHANCES));
    const channel = hasCommitWorker ? new MessageChannel() : undefined;
    const share = this.#db.share();
    const disk = newDisk(share, this.#db.stats().logicalSizeBytes, this.#plan.writesThrough);
    const past = { path: this.#path, kept: this.#kept };
    const common = {
      baton: this.#baton.buffer,
      share,
      disk,
      past,
      diesInSwapAt: 0,
      diesAfterWords: false,
      isReader: false,
      ...this.#plan,
    };
    for (let thread = 0; thread < clients; thread += 1) {
      const port = thread === 0 ? channel?.port1 : undefined;
      const isDying = this.#plan.diesInSwap && thread < this.#plan.deaths;
      const isReader = this.#plan.hasReader && thread === clients - 1;
      const diesAfterWords = isDying && random.chance(0.6);
      const diesInSwapAt = isDying ? 1 + random.below(diesAfterWords ? EMPTY_STEPS : SWAP_STEPS) : 0;
      const own = { isReader, diesInSwapAt, diesAfterWords, seed: random.word() };
      const orders = { ...common, ...own, thread, role: "client", rows: this.#rows[thread]! } as const;
      this.#start(port === undefined ? orders : { ...orders, port });
    }
    if (channel !== undefined) {
      const orders = { ...common, thread: clients, role: "commit", seed: 0, rows: disk, port: channel.port2 } as const;
      this.#start(orders);
    }
    for (let death = 0; death < this.#plan.deaths && !this.#plan.diesInSwap; death += 1)
      this.#baton.setDeath(death, 1 + Math.floor(this.#deathAt()));
    await Promise.all(this.#loaded);
    for (const { worker } of this.#workers) worker.postMessage("begin");
    await this.#baton.direct(clients);
    const said = await Promise.all(this.#said.filter((_, thread) => this.#baton.hasJoined(thread)));
    this.steps = this.#baton.steps;
    const outcome = await this.#judge(said.slice(0, clients));
    if (outcome.faults.length === 0) this.#giveBack(said);
    return outcome;
  }

  /** Those that have left are there for the next life. */
  #giveBack(said: readonly Said[]): void {
    for (const [thread, { hasDied, failure }] of said.entries()) {
      if (hasDied || failure !== undefined) continue;
      const { worker, orders } = this.#workers[thread]!;
      threads.giveBack(worker, orders);
      this.#leaving.add(worker);
    }
    this.#isFine = true;
  }

  /** Early ones as often as late ones, whatever the length of the run. */
  #deathAt(): number {
    const random = this.#random;
    return 2 ** (5 + (random.below(1000) / 1000) * 12);
  }

  #start(orders: Orders): void {
    const worker = threads.take(orders);
    const loaded = Promise.withResolvers<void>();
    this.#workers.push({ worker, orders });
    this.#loaded.push(loaded.promise);
    this.#said.push(
      new Promise((resolve) => {
        worker.onmessage = ({ data }: MessageEvent<Said | "loaded">) => {
          if (data === "loaded") loaded.resolve();
          else resolve(data);
        };
        worker.onerror = ({ message }) => {
          this.#baton.abandon(orders.thread);
          loaded.resolve();
          resolve({ rows: 0, begunAt: 0, hasDied: false, failure: message });
        };
      }),
    );
    worker.postMessage(orders, orders.port === undefined ? [] : [orders.port]);
  }

  async #judge(said: readonly Said[]): Promise<Outcome> {
    for (const { failure } of said) if (failure !== undefined) this.faults.push(failure);
    const deaths = said.filter(({ hasDied }) => hasDied).length;
    if (this.#baton.verdict === VERDICTS.deadlock) this.faults.push("everybody waited for somebody");
    let judged = 0;
    if (this.faults.length === 0) judged = this.#judgeHistory(said);
    const isLong = this.#plan.compactOneIn > 0 || this.#plan.isOrdered;
    if (isLong && this.faults.length === 0) await this.#judgeOneMore();
    const swaps = readdirSync(this.#kept).length;
    return { steps: this.steps, judged, deaths, swaps, faults: this.faults };
  }

  #judgeHistory(said: readonly Said[]): number {
    const db = this.#db;
    // Takes a dead one's lock over, and what it left half-done back.
    db.insert("afterwards", "written");
    db.flushSync();
    const versions = versionsIn(this.#path, this.#kept);
    const records = said.map(({ rows }, thread) => new Float64Array(this.#rows[thread]!, 0, rows * COLUMNS));
    const check = new HistoryCheck(versions, [...records, ...lastWrites(said, versions, records)]);
    this.faults.push(...check.faults);
    const logged = versions.map((list) => list.at(-1)!.mark);
    if (!Bun.deepEquals(liveMarks(db), logged)) this.faults.push("what is live is not what the log says");
    this.#judgeCounts();
    return check.count;
  }

  /** Whatever the others have left, a compaction goes on from there. */
  async #judgeOneMore(): Promise<void> {
    const shown = (): string[] => [...this.#db.iter()].map(([key, value]) => `${key.toHex()}=${value.toHex()}`).sort();
    const before = shown();
    await this.#db.compact();
    const after = shown();
    if (!Bun.deepEquals(before, after)) this.faults.push("one more compaction changes what is shown");
    for (const { reason } of (await this.#db.verify()).problems) this.faults.push(`verify finds ${reason}`);
  }

  #judgeCounts(): void {
    const walked = [...this.#db.keys()];
    if (walked.length !== this.#db.len()) this.faults.push(`${walked.length} walked, ${this.#db.len()} counted`);
    this.#judgeOrder();
    if (walked.some((key) => this.#db.get(key) === undefined)) this.faults.push("a walk shows what a get does not");
    this.#db.closeSync();
    this.#db = Emdb.open(this.#path, { rangeScans: this.#plan.isOrdered });
    if (this.#db.len() !== walked.length) this.faults.push("a reopen counts otherwise");
    this.#judgeOrder();
  }

  #judgeOrder(): void {
    if (!this.#plan.isOrdered) return;
    const shown = (records: Iterable<readonly [Uint8Array, Uint8Array]>): string[] =>
      Array.from(records, ([key, value]) => `${key.toHex()} ${value.toHex()}`);
    const walked = shown(this.#db.iter()).sort();
    const isAlike = [false, true].every((reverse) => {
      const ranged = shown(this.#db.range({ reverse }));
      return Bun.deepEquals(reverse ? ranged.reverse() : ranged, walked);
    });
    if (!isAlike) this.faults.push("a range and a walk differ");
  }

  [Symbol.dispose](): void {
    for (const { worker } of this.#workers) if (!this.#leaving.has(worker)) worker.terminate();
    if (!this.#isFine) threads.end();
    this.#db.closeSync();
    this.#folder[Symbol.dispose]();
  }
}

/** What a dead thread was writing or removing when it died is in the log, or not; as far as it is, it counts as done. */
function lastWrites(
  said: readonly Said[],
  versions: readonly (readonly Version[])[],
  records: readonly Float64Array[],
): Float64Array[] {
  const begun = said.filter(({ hasDied }) => hasDied).map(({ begunAt }) => begunAt);
  const writes = said.flatMap(({ hasDied, begunAt }, thread) => {
    if (!hasDied) return [];
    const known = new Set<number>();
    const record = records[thread]!;
    for (let at = 0; at < record.length; at += COLUMNS) known.add(record[at + 2]!);
    const rows: number[] = [];
    for (const [key, list] of versions.entries()) {
      for (const { mark } of list) {
        if (Math.floor(mark / 2 ** 32) !== thread + 1 || known.has(mark)) continue;
        rows.push(KIND.write, key, mark, begunAt, Infinity);
      }
    }
    return [Float64Array.from(rows)];
  });
  return [...writes, Float64Array.from(lastRemovals(begun, versions, records))];
}

/** Removals that nobody has told of, one for each of the dead: by whom is not said, so they began when the first of those did. */
function lastRemovals(
  begun: readonly number[],
  versions: readonly (readonly Version[])[],
  records: readonly Float64Array[],
): number[] {
  const told = new Set<number>();
  for (const record of records)
    for (let at = 0; at < record.length; at += COLUMNS) if (record[at] === KIND.remove) told.add(record[at + 2]!);
  const rows = versions.flatMap((list, key) =>
    list.flatMap(({ mark }, index) => {
      const removed = index > 0 && mark === 0 ? list[index - 1]!.mark : 0;
      return removed === 0 || told.has(removed) ? [] : [[KIND.remove, key, removed, Math.min(...begun), Infinity]];
    }),
  );
  return rows.slice(0, begun.length).flat();
}

export async function liveOnce(seed: number, plan: LifePlan): Promise<Outcome> {
  let outcome: Outcome = { steps: 0, judged: 0, deaths: 0, swaps: 0, faults: [] };
  try {
    using life = new Life(seed, plan);
    outcome = await life.run();
  } catch (error) {
    const fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { ...outcome, faults: [...outcome.faults, fault] };
  }
  return outcome;
}
