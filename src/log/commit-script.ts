/**
 * The program of the commit Worker, as text: it syncs the file for every thread's flushes, so that no event
 * loop waits for a disk. A string works where a file would not: from source, bundled, compiled into an
 * executable, and inside another Worker. It imports nothing but the runtime's own FFI.
 *
 * It is told once what to call and where the shared words are, and then sleeps on `request`. Asked, it leads or
 * joins: whoever sets `owner` runs one sync that covers all that had been written when it began; everybody else
 * waits for `done` and looks again.
 *
 *     request (its own, i32)   0 count of requests   1 not 0: end   4 requests that a sync of their own was made for;
 *                              the counts wrap, so nobody asks which is larger
 *     wanted (its own, f64)    1 how far the log has to be durable
 *     owner, done, errno, joined, state: words of the shared block, by index
 *
 * It gathers before it leads: who cannot wait leads meanwhile, and is never kept by a wait for others.
 */

import type { SyncRecipe } from "../ffi/sync-recipe.ts";

/** What the Worker is told first; plain data. */
export interface CommitOrders {
  readonly recipe: SyncRecipe;
  readonly own: SharedArrayBuffer;
  /** Views of the shared block: the engine's flags and the log's numbers. */
  readonly flags: Int32Array;
  readonly numbers: Float64Array;
  readonly waitMsMax: number;
  readonly batchMax: number;
  /** Every request gets a sync of its own, whatever is durable already. */
  readonly isEach: boolean;
  readonly at: CommitIndexes;
  /** What it puts into `owner`. */
  readonly name: number;
}

/** Where the words are that flushing threads and commit Workers talk through. */
export interface CommitIndexes {
  readonly owner: number;
  readonly done: number;
  readonly errno: number;
  readonly joined: number;
  readonly state: number;
  /** The bit of `state` that a failed sync sets. */
  readonly poisoned: number;
  readonly logWritten: number;
  readonly logDurable: number;
  /** The open file, which a compaction replaces. */
  readonly logFile: number;
}

export const COMMIT_SCRIPT = `
import { dlopen, read } from "bun:ffi";

function open(recipe) {
  const calls = {
    [recipe.call]: { args: recipe.args, returns: "i32" },
    [recipe.errnoCall]: { args: [], returns: recipe.isErrnoAddress ? "ptr" : "u32" },
  };
  if (recipe.fallback) calls[recipe.fallback] = { args: [recipe.args[0]], returns: "i32" };
  if (recipe.reopen) {
    calls[recipe.reopen.call] = { args: ["ptr", ...recipe.reopen.values.map(() => "u32")], returns: "i64_fast" };
    calls[recipe.reopen.close] = { args: ["ptr"], returns: "i32" };
  }
  for (const name of recipe.libraries) {
    try { return dlopen(name, calls).symbols; } catch {}
  }
  throw new Error("no library offers " + recipe.call);
}

function makeSync(recipe) {
  const calls = open(recipe);
  const address = recipe.isErrnoAddress ? calls[recipe.errnoCall]() : 0;
  const errno = recipe.isErrnoAddress ? () => read.i32(address, 0) : () => calls[recipe.errnoCall]();
  const isFine = (result) => (recipe.success === "not zero" ? result !== 0 : result !== -1);
  const syncOne = (file) => {
    for (;;) {
      if (isFine(calls[recipe.call](file, ...recipe.values))) return 0;
      const number = errno();
      if (recipe.fallbackOn.includes(number) && isFine(calls[recipe.fallback](file))) return 0;
      if (number !== recipe.interrupted) return number || -1;
    }
  };
  const { reopen } = recipe;
  if (!reopen) return syncOne;
  return (file) => {
    const second = calls[reopen.call](file, ...reopen.values);
    if (second === -1) return syncOne(file);
    const number = syncOne(second);
    calls[reopen.close](second);
    return number;
  };
}

function gather(orders, request, isDone) {
  const { flags, at, waitMsMax, batchMax } = orders;
  if (waitMsMax === 0) return;
  const until = performance.now() + waitMsMax;
  for (;;) {
    const joined = Atomics.load(flags, at.joined);
    const left = until - performance.now();
    if (joined >= batchMax || left <= 0 || isDone() || Atomics.load(request, 1) !== 0) return;
    Atomics.wait(flags, at.joined, joined, Math.min(left, 5));
  }
}

function lead(orders, sync, request, served) {
  const { flags, numbers, at } = orders;
  Atomics.add(flags, at.done, 0);
  const target = numbers[at.logWritten];
  const number = sync(numbers[at.logFile]);
  if (number !== 0) {
    Atomics.store(flags, at.errno, number);
    Atomics.or(flags, at.state, at.poisoned);
  } else if (numbers[at.logDurable] < target && (Atomics.load(flags, at.state) & at.poisoned) === 0) {
    numbers[at.logDurable] = target;
  }
  Atomics.store(request, 4, served);
  Atomics.compareExchange(flags, at.owner, orders.name, 0);
  Atomics.add(flags, at.done, 1);
  Atomics.notify(flags, at.done);
}

function serve(orders, sync, request, wanted, served) {
  const { flags, numbers, at, name, isEach } = orders;
  const isDone = () => {
    if (Atomics.load(flags, at.state) !== 0) return true;
    return isEach ? Atomics.load(request, 4) === served : numbers[at.logDurable] >= wanted[1];
  };
  gather(orders, request, isDone);
  for (;;) {
    const done = Atomics.load(flags, at.done);
    if (isDone()) return;
    if (Atomics.compareExchange(flags, at.owner, 0, name) === 0) lead(orders, sync, request, served);
    else Atomics.wait(flags, at.done, done, 100);
  }
}

self.onmessage = (event) => {
  const orders = event.data;
  const sync = makeSync(orders.recipe);
  const request = new Int32Array(orders.own);
  const wanted = new Float64Array(orders.own);
  postMessage("ready");
  let served = 0;
  for (;;) {
    Atomics.wait(request, 0, served);
    served = Atomics.load(request, 0);
    if (Atomics.load(request, 1) !== 0) break;
    serve(orders, sync, request, wanted, served);
  }
  process.exit(0);
};
`;
