/**
 * A thread that stops for ever at a chosen step of one operation, until it is terminated there.
 *
 * Steps are the calls of `Atomics` and of the operating system: everything that publishes, locks, frees, writes or
 * syncs passes through one of them. No code of the database knows of it.
 */

import { Emdb, type EmdbShare } from "../../src/index.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { operations, type OperationName } from "./operations.ts";

export interface Order {
  readonly share: EmdbShare;
  readonly operation: OperationName;
  /** Stops before this step, counted from 1. */
  readonly step: number;
  /** Whether an earlier write of its is still in the ring then. */
  readonly hasPending: boolean;
  /** Word 0: 1 stuck, 2 done. Word 1: steps of the whole operation. */
  readonly report: SharedArrayBuffer;
}

const ATOMICS = ["add", "and", "compareExchange", "load", "or", "store", "sub"] as const;
const CALLS = [
  "allocate",
  "close",
  "commit",
  "decommit",
  "map",
  "sync",
  "truncate",
  "unlink",
  "unmap",
  "write",
] as const;

let isArmed = false;
let steps = 0;

/** Puts `pass` in front of every call that is a step. */
function guard(pass: () => void): void {
  const wrap = (owner: object, name: string): void => {
    const own = owner as Record<string, (...args: unknown[]) => unknown>;
    const call = own[name]!;
    own[name] = (...args: unknown[]): unknown => {
      if (isArmed) pass();
      return call.apply(owner, args);
    };
  };
  for (const name of ATOMICS) wrap(Atomics, name);
  for (const name of CALLS) wrap(hostSystem(), name);
}

self.onmessage = ({ data }: MessageEvent<Order>): void => {
  const report = new Int32Array(data.report);
  const { store, notify, wait } = Atomics;
  const tell = (word: number): void => {
    store(report, 1, steps);
    store(report, 0, word);
    notify(report, 0);
  };
  guard(() => {
    steps += 1;
    if (steps !== data.step) return;
    tell(1);
    for (;;) wait(report, 2, 0);
  });
  const db = Emdb.attach(data.share);
  const { prepare, run } = operations[data.operation];
  const ready = prepare(db);
  // It is there already, as the very same.
  if (data.hasPending) db.insert("base 0", "value 0");
  isArmed = true;
  run(db, ready);
  isArmed = false;
  tell(2);
};
