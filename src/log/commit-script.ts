/**
 * The program of the commit Worker, as text: it syncs the file for every thread's flushes, so that no event
 * loop waits for a disk. A string works where a file would not: from source, bundled, compiled into an
 * executable, and inside another Worker. It imports nothing but the runtime's own FFI.
 *
 * It is told once what to call and where the shared words are, and then sleeps on a count of requests. Asked, it leads or
 * joins: whoever sets `owner` runs one sync that covers all that had been written when it began; everybody else
 * waits for `done` and looks again. Requests that come while it syncs it finds when it looks at the count again, so nobody
 * has to be woken for them.
 *
 *     requests       count of requests: one of the shared block, for every thread's flushes; or, where each flush gets a sync
 *                    of its own, one of the thread's own. It wraps, so nobody asks which is larger.
 *     own (i32)      0 count of requests of its own   1 its state   2 requests that a sync of their own was made for
 *     its state      0 has not begun   1 at work   2 told to end   3 has ended, and touches nothing any more
 *     owner, done, errno, joined, state, requests: words of the shared block, by index
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
  readonly requests: number;
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
      let number = errno();
      if (recipe.fallbackOn.includes(number)) {
        if (isFine(calls[recipe.fallback](file))) return 0;
        number = errno();
      }
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

function gather(orders, own, isDone) {
  const { flags, at, waitMsMax, batchMax } = orders;
  if (waitMsMax === 0) return;
  const until = performance.now() + waitMsMax;
  for (;;) {
    const joined = Atomics.load(flags, at.joined);
    const left = until - performance.now();
    if (joined >= batchMax || left <= 0 || isDone() || Atomics.load(own, 1) !== 1) return;
    Atomics.wait(flags, at.joined, joined, Math.min(left, 5));
  }
}

function lead(orders, sync, own, served) {
  const { flags, numbers, at } = orders;
  // Behind the one by which \`owner\` was taken: of two, one is a barrier (ffi/barrier.ts).
  Atomics.add(flags, at.done, 0);
  const target = numbers[at.logWritten];
  const number = sync(numbers[at.logFile]);
  if (number !== 0) {
    Atomics.store(flags, at.errno, number);
    Atomics.or(flags, at.state, at.poisoned);
  } else if (numbers[at.logDurable] < target && (Atomics.load(flags, at.state) & at.poisoned) === 0) {
    numbers[at.logDurable] = target;
  }
  Atomics.store(own, 2, served);
  Atomics.compareExchange(flags, at.owner, orders.name, 0);
  Atomics.add(flags, at.done, 1);
  Atomics.notify(flags, at.done);
}

function serve(orders, sync, own, served) {
  const { flags, numbers, at, name, isEach } = orders;
  const wanted = numbers[at.logWritten];
  const isDone = () => {
    if (Atomics.load(flags, at.state) !== 0) return true;
    return isEach ? Atomics.load(own, 2) === served : numbers[at.logDurable] >= wanted;
  };
  gather(orders, own, isDone);
  for (;;) {
    const done = Atomics.load(flags, at.done);
    if (isDone()) return;
    if (Atomics.compareExchange(flags, at.owner, 0, name) === 0) lead(orders, sync, own, served);
    else Atomics.wait(flags, at.done, done, 100);
  }
}

function work(orders, own) {
  const sync = makeSync(orders.recipe);
  const [requests, index] = orders.isEach ? [own, 0] : [orders.flags, orders.at.requests];
  postMessage("ready");
  // Whatever was asked for before it was there is served first.
  let served = (Atomics.load(requests, index) - 1) | 0;
  for (;;) {
    Atomics.wait(requests, index, served);
    served = Atomics.load(requests, index);
    // Others may have asked before they knew that it would end: all that had is covered by one more sync.
    const isOver = Atomics.load(own, 1) !== 1;
    if (!isOver || !orders.isEach) serve(orders, sync, own, served);
    if (isOver) return;
  }
}

self.onmessage = (event) => {
  const orders = event.data;
  const own = new Int32Array(orders.own);
  try {
    if (Atomics.compareExchange(own, 1, 0, 1) === 0) work(orders, own);
  } finally {
    Atomics.store(own, 1, 3);
    Atomics.notify(own, 1);
  }
  process.exit(0);
};
`;
