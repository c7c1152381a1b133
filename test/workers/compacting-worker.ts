/** A thread that compacts or backs up, and stops for ever at a chosen step of it, until it is terminated there. */

import { Emdb, type EmdbShare } from "../../src/index.ts";
import { hostSystem } from "../../src/ffi/host.ts";

interface Order {
  readonly share: EmdbShare;
  /** Of a backup; without one it compacts. */
  readonly target?: string;
  /** Stops before this step, counted from 1. */
  readonly step: number;
  /** Of the calls with this name only. */
  readonly call?: string;
  /** Counted from the first call with this name. */
  readonly after?: string;
  /** Word 0: 1 stuck, 2 done. Word 1: steps of the whole operation. */
  readonly report: SharedArrayBuffer;
}

const ATOMICS = ["add", "compareExchange", "load", "or", "store", "sub"] as const;
const CALLS = [
  // Not "close": a thread that ends between forgetting a handle and closing it loses the handle (docs/workers.md).
  "allocate",
  "map",
  "open",
  "read",
  "release",
  "rename",
  "reserve",
  "sync",
  "syncFolder",
] as const;
const MORE_CALLS = ["truncate", "unlink", "unmap", "write"] as const;

let isArmed = false;
let steps = 0;

function guard(pass: (name: string) => void): void {
  const wrap = (owner: object, name: string): void => {
    const own = owner as Record<string, (...args: unknown[]) => unknown>;
    const call = own[name]!;
    own[name] = (...args: unknown[]): unknown => {
      if (isArmed) pass(name);
      return call.apply(owner, args);
    };
  };
  for (const name of ATOMICS) wrap(Atomics, name);
  for (const name of [...CALLS, ...MORE_CALLS]) wrap(hostSystem(), name);
}

async function run({ share, target, step, call, after, report }: Order): Promise<void> {
  const words = new Int32Array(report);
  const { store, notify, wait } = Atomics;
  const tell = (word: number): void => {
    store(words, 1, steps);
    store(words, 0, word);
    notify(words, 0);
  };
  let hasBegun = after === undefined;
  guard((name) => {
    hasBegun ||= name === after;
    if (!hasBegun || (call !== undefined && name !== call)) return;
    steps += 1;
    if (steps !== step) return;
    tell(1);
    for (;;) wait(words, 2, 0);
  });
  const db = Emdb.attach(share);
  isArmed = true;
  if (target === undefined) await db.compact();
  else await db.backupTo(target);
  isArmed = false;
  tell(2);
}

self.onmessage = ({ data }: MessageEvent<Order>): void => {
  void run(data).catch((error: unknown) => reportError(error));
};
