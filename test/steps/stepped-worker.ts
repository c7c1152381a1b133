/**
 * One thread of a stepped run: attaches, does operations of its scenario at random, and leaves or dies, a step at a time.
 *
 * As "commit" it is the commit Worker of another thread: the program that the package starts from text, run here.
 *
 * One that has left lives again, in another life: what it has loaded is good for all of them.
 */

import { drainMicrotasks } from "bun:jsc";
import { Baton, Death } from "./baton.ts";
import { Disk, LOG_FILE, bareNumbers } from "./disk.ts";
import { bare, beginAnew, changeModule, expectChanged, instrument, stepped } from "./instrument.ts";
import type { Emdb, EmdbShare } from "../../src/index.ts";
import type { CommitOrders } from "../../src/log/commit-script.ts";
import type { System } from "../../src/ffi/system.ts";

export interface Orders {
  readonly baton: SharedArrayBuffer;
  readonly thread: number;
  readonly role: "client" | "commit";
  readonly share: EmdbShare;
  readonly seed: number;
  readonly operations: number;
  /** One operation in so many lets keys come or go by the hundred. */
  readonly churnOneIn: number;
  /** One operation in so many is a flush. */
  readonly flushOneIn: number;
  readonly rows: SharedArrayBuffer;
  /** See `disk.ts`. */
  readonly disk: SharedArrayBuffer;
  readonly compactOneIn: number;
  /** Only reads, and so is at work while a swap holds the lock. */
  readonly isReader: boolean;
  /** Reads are ranges, of an ordered index whose nodes are small, so that few keys make a tree of some levels. */
  readonly isOrdered: boolean;
  /** Dies so many steps after a compacted file is synced, or after the log has its words; 0: it does not. */
  readonly diesInSwapAt: number;
  readonly diesAfterWords: boolean;
  /** Where the files go that compactions replace. */
  readonly past: { readonly path: string; readonly kept: string };
  /** Flushes go through the first client's commit Worker, half of them. */
  readonly hasCommitWorker: boolean;
  /** To the thread that is this one's commit Worker, or whose commit Worker this one is. */
  readonly port?: MessagePort;
}

/** What it says at the end. */
export interface Said {
  readonly rows: number;
  readonly begunAt: number;
  readonly hasDied: boolean;
  readonly failure: string | undefined;
}

const NAME_BASE = 90_000_000;
/** Of a thread's first run; remembered for all its lives. */
const FIRST_RUN = "let hasRun = false;";
/** Few, so that the threads meet on each. */
const KEYS = 14;
const Numbers = Float64Array;
const LOG_VISIBLE = 0;
/** How probable it is that somebody else comes between two stores of a swap. */
const INTERRUPTED = 0.4;
/** Calls that do something, or whose answers change. */
const CALLS = [
  ...(["allocate", "close", "commit", "decommit", "map", "mapView", "read", "reserve"] as const),
  ...(["status", "statusOf", "truncate", "unlink", "unmap"] as const),
];

/** The life at hand, of which the system calls tell. */
class CallsOfLife {
  readonly orders: Orders;
  readonly disk: Disk;
  readonly shared: Float64Array;
  /** The words are exchanged between two calls: what lies between two of those stores is looked at again and again. */
  chance: number | undefined;
  isSwapping = false;
  nowMs = 0;

  constructor(orders: Orders) {
    this.orders = orders;
    this.disk = new Disk(orders.disk, orders.share);
    this.shared = bareNumbers(orders.share);
  }
}

let life: CallsOfLife | undefined;
let stopKeeping: (() => void) | undefined;
/** Renames as the system does them, or as `keepReplaced` does. */
let renames: Pick<System, "rename"> | undefined;

async function beginLife(baton: Baton, orders: Orders): Promise<void> {
  if (life === undefined) await instrumentSystem(baton);
  life = new CallsOfLife(orders);
  const { keepReplaced } = await import("../workers/history-log.ts");
  stopKeeping?.();
  stopKeeping = keepReplaced(renames as System, orders.past);
  deferred.length = 0;
  globalThis.Worker = TrueWorker;
  if (orders.port !== undefined) installCommitWorker(orders.port);
  else if (orders.hasCommitWorker) refuseWorkers();
}

/** The system calls as steps, and what they tell of the disk. */
async function instrumentSystem(baton: Baton): Promise<void> {
  const { hostSystem } = await import("../../src/ffi/host.ts");
  const system = hostSystem() as unknown as Record<string, (...args: never[]) => unknown>;
  renames = { rename: hostSystem().rename.bind(system) };
  const wrap = (name: string, around: (call: () => unknown, args: readonly unknown[]) => unknown): void => {
    const own = system[name]!;
    system[name] = (...args: never[]): unknown => {
      baton.step();
      return around(() => own.apply(system, args), args);
    };
  };
  for (const name of CALLS) wrap(name, (call) => call());
  wrap("rename", (_, [from, to]) => renames!.rename(from as string, to as string));
  wrap("open", (call) => {
    const handle = call() as number;
    life!.disk.opened(handle);
    return handle;
  });
  wrap("write", (call, [handle, , span]) => {
    life!.disk.wrote(handle as number, span as { position: number; bytes: number });
    return call();
  });
  wrap("sync", (_, [handle]) => {
    const { orders, disk, shared } = life!;
    if (handle !== shared[LOG_FILE] && orders.diesInSwapAt > 0 && !orders.diesAfterWords)
      baton.dieIn(orders.diesInSwapAt);
    return disk.sync(baton, handle as number);
  });
  wrap("syncFolder", (call) => {
    const now = life!;
    now.isSwapping = true;
    const result = call();
    if (now.orders.seed % 2 === 0) now.chance = baton.interrupt(INTERRUPTED);
    return result;
  });
  wrap("release", (call) => {
    const now = life!;
    if (now.chance !== undefined) baton.interrupt(now.chance);
    now.chance = undefined;
    if (now.isSwapping && now.orders.diesAfterWords) baton.dieIn(now.orders.diesInSwapAt);
    now.isSwapping = false;
    return call();
  });
  // Long work pauses wherever it may.
  system["monotonic"] = () => (life!.nowMs += 6);
  system["threadId"] = () => NAME_BASE + life!.orders.thread;
  const isAlive = system["isThreadAlive"]!;
  system["isThreadAlive"] = (thread: never): unknown =>
    thread >= NAME_BASE ? baton.isAlive(thread) : isAlive.call(system, thread);
}

/** All is loaded; whoever begins to run stands still most of the time, so nobody does before everybody is. */
async function sayLoaded(): Promise<void> {
  const told = new Promise<void>((resolve) => (begin = resolve));
  postMessage("loaded");
  return told;
}

let begin: (() => void) | undefined;

/** Work for the next turn of this thread's event loop, which turns when the scenario says so. */
const deferred: (() => void)[] = [];

function turn(): void {
  drainMicrotasks();
  for (const work of deferred.splice(0)) work();
  drainMicrotasks();
}

/** Turns the loop until a promise is settled. */
async function finished(promise: Promise<void>): Promise<void> {
  let isSettled = false;
  const settle = (): void => void (isSettled = true);
  promise.then(settle, settle);
  while (!isSettled) turn();
  return promise;
}

/** A thread's compactions, one at a time, which go on while the loop turns. */
class Compactions {
  readonly #db: Emdb;
  #isRunning = false;
  #failure: Error | undefined;

  constructor(db: Emdb) {
    this.#db = db;
  }

  /** Begins one, or goes on with it. */
  goOn(): void {
    if (!this.#isRunning) {
      this.#isRunning = true;
      const over = (failure?: Error): void => {
        this.#isRunning = false;
        this.#failure = failure;
      };
      this.#db.compact().then(() => over(), over);
    }
    this.turn();
  }

  turn(): void {
    turn();
    if (this.#failure !== undefined) throw this.#failure;
  }

  finish(): void {
    while (this.#isRunning) this.turn();
  }
}

async function runClient(baton: Baton, orders: Orders): Promise<Said> {
  globalThis.setImmediate = ((work: () => void) => void deferred.push(work)) as unknown as typeof setImmediate;
  await beginLife(baton, orders);
  const { Emdb } = await import("../../src/index.ts");
  const { Recorder } = await import("../workers/history-recorder.ts");
  const { Random } = await import("../sim/random.ts");
  expectChanged();
  const { disk, shared } = life!;
  const random = new Random(orders.seed);
  await sayLoaded();
  let clock = 0;
  let recorder: InstanceType<typeof Recorder> | undefined;
  const told = (hasDied: boolean, failure: string | undefined): Said => ({
    rows: recorder?.count ?? 0,
    begunAt: recorder?.begunAt ?? 0,
    hasDied,
    failure,
  });
  beginAnew();
  baton.join(NAME_BASE + orders.thread);
  try {
    const db = Emdb.attach(orders.share);
    recorder = new Recorder({
      db,
      random,
      index: orders.thread + 1,
      rows: new Numbers(orders.rows),
      tick: () => {
        baton.step();
        // Two events of one thread never have one time.
        clock = Math.max(clock + 1, baton.steps);
        return clock;
      },
      keys: KEYS,
      churnOneIn: orders.churnOneIn,
      hasZeroCopies: orders.compactOneIn > 0,
      isReader: orders.isReader,
      hasRanges: orders.isOrdered,
    });
    const compactions = new Compactions(db);
    const flush = async (): Promise<void> => {
      const target = shared[LOG_VISIBLE]!;
      if (orders.hasCommitWorker && random.chance(0.6)) await finished(db.flush());
      else db.flushSync();
      disk.expectDurable(target);
    };
    // A read is short, and a compaction is long.
    const operations = orders.operations * (orders.isReader ? 5 : 1);
    for (let operation = 0; operation < operations; operation += 1) {
      if (!orders.isReader && random.below(orders.flushOneIn) === 0) await flush();
      else recorder.one();
      const isCompacting = orders.compactOneIn > 0 && !orders.isReader;
      if (isCompacting && random.below(orders.compactOneIn) === 0) compactions.goOn();
      if (random.chance(isCompacting ? 0.5 : 0.05)) compactions.turn();
    }
    recorder.finish();
    compactions.finish();
    turn();
    db.closeSync();
    return told(false, undefined);
  } catch (error) {
    if (baton.isDead) return told(true, undefined);
    return told(false, error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    baton.leave();
  }
}

/** Where the package starts its commit Worker, the thread at the other end of the port is told what to do. */
function installCommitWorker(port: MessagePort): void {
  const ready = new Int32Array(new SharedArrayBuffer(4));
  globalThis.Worker = class {
    addEventListener(): void {}
    unref(): void {}
    postMessage(orders: CommitOrders): void {
      port.postMessage({ ...orders, flags: bare(orders.flags), numbers: bare(orders.numbers), ready: bare(ready) });
      // In earnest, with the baton in hand: the other thread is there before anybody goes on.
      trueWait(bare(ready), 0, 0);
    }
  } as unknown as typeof Worker;
}

/** Only the first client can start one; the others use its, or sync by themselves. */
function refuseWorkers(): void {
  globalThis.Worker = function refuse(): never {
    throw new Error("no Worker can be started here");
  } as unknown as typeof Worker;
}

const TrueWorker = globalThis.Worker;
const trueWait = Atomics.wait;
const { store: trueStore, notify: trueNotify } = Atomics;

/** The end of the commit Worker's program. */
class Exit extends Error {}

async function runCommit(baton: Baton, orders: Orders): Promise<Said> {
  const { COMMIT_SCRIPT } = await import("../../src/log/commit-script.ts");
  const text = COMMIT_SCRIPT.replace(/^import .*$/m, "").replace("makeSync(orders.recipe)", "self.sync");
  const disk = new Disk(orders.disk, orders.share);
  const self: { onmessage?: (event: { data: unknown }) => void; sync: (handle: number) => number } = {
    sync: (handle) => disk.sync(baton, handle),
  };
  const exit = (): never => {
    throw new Exit();
  };
  // oxlint-disable-next-line typescript/no-implied-eval -- The package starts this very text as a Worker.
  const program = new Function("self", "postMessage", "process", "performance", text) as (...args: unknown[]) => void;
  program(self, () => undefined, { exit }, { now: () => baton.steps });
  await sayLoaded();
  const order = await new Promise<CommitOrders & { ready: Int32Array }>((resolve) => {
    orders.port!.onmessage = ({ data }: MessageEvent<CommitOrders & { ready: Int32Array }>) => resolve(data);
  });
  const said = { rows: 0, begunAt: 0, hasDied: false };
  try {
    const data = { ...order, flags: stepped(order.flags, baton), numbers: stepped(order.numbers, baton) };
    baton.join(NAME_BASE + orders.thread, () => {
      trueStore(order.ready, 0, 1);
      trueNotify(order.ready, 0);
    });
    self.onmessage!({ data });
    return { ...said, failure: "the commit Worker's program returned" };
  } catch (error) {
    const isExpected = error instanceof Exit || error instanceof Death;
    return { ...said, hasDied: error instanceof Death, failure: isExpected ? undefined : String(error) };
  } finally {
    baton.leave();
    orders.port!.close();
  }
}

/** What steps of every life are told to. */
let baton: Baton | undefined;

function instrumentAll({ baton: buffer, thread, isOrdered }: Orders): Baton {
  const own = new Baton(buffer, thread);
  instrument(own);
  changeModule(
    /src[\\/]engine[\\/]door\.ts$/,
    FIRST_RUN,
    `${FIRST_RUN} globalThis.emdbBegin = () => (hasRun = false);`,
  );
  if (isOrdered) {
    changeModule(/src[\\/]ordered[\\/]node\.ts$/, "{ capacity: 63,", "{ capacity: 4,");
    changeModule(/src[\\/]ordered[\\/]ordered\.ts$/, "const PURGE_STEP = 8;", "const PURGE_STEP = 2;");
  }
  return own;
}

self.onmessage = async ({ data }: MessageEvent<Orders | "begin">): Promise<void> => {
  if (data === "begin") {
    begin?.();
    return;
  }
  baton ??= instrumentAll(data);
  postMessage(await (data.role === "client" ? runClient(baton, data) : runCommit(baton, data)));
};
