/** A thread that compacts or backs up, and stops for ever at a chosen step of it, until it is terminated there. */

import { Emdb, type EmdbShare } from "../../src/index.ts";
import { hostSystem } from "../../src/ffi/host.ts";

interface Order {
  readonly share: EmdbShare;
  /** Of a backup; without one it compacts. */
  readonly target?: string;
  /** Stops at this step, counted from 1; 0: at none. */
  readonly step: number;
  /** Of the calls with this name only. */
  readonly call?: string;
  /** Counted from the first call with this name. */
  readonly after?: string;
  /** Counts only the steps at which files are opened, closed, named, unnamed, or folders synced. */
  readonly isOfFiles?: boolean;
  /** Word 0: 1 stuck, 2 done. Words 1 and 2: steps of the whole operation, and those of files. */
  readonly report: SharedArrayBuffer;
}

const ATOMICS = ["add", "compareExchange", "load", "or", "store", "sub"] as const;
const CALLS = [
  "allocate",
  "close",
  "map",
  "open",
  "read",
  "release",
  "rename",
  "reserve",
  "statusOf",
  "sync",
  "syncFolder",
  "truncate",
  "unlink",
  "unmap",
  "write",
] as const;
const OF_FILES: ReadonlySet<string> = new Set(["open", "close", "unlink", "rename", "syncFolder"]);
/**
 * After these it stops too: what was opened is not in the words yet, what was closed still is. Not after the open of a
 * lock, a folder or what a backup replaces: others may have that open, so nobody can tell which handle was lost (docs/workers.md).
 */
const STOPS_AFTER: ReadonlySet<string> = new Set(["open", "close", "map", "unmap", "release"]);

let isArmed = false;
let steps = 0;
let fileSteps = 0;

function guard(pass: (name: string, isOfFiles: boolean) => void): void {
  const wrap = (owner: object, name: string): void => {
    const own = owner as Record<string, (...args: unknown[]) => unknown>;
    const call = own[name]!;
    own[name] = (...args: unknown[]): unknown => {
      const isOfFiles = owner !== Atomics && OF_FILES.has(name);
      if (isArmed) pass(name, isOfFiles);
      const result = call.apply(owner, args);
      const isOthersToo = /\.lock$|copy\.emdb$/.test(String(args[0])) || args[1] === "folder";
      if (isArmed && STOPS_AFTER.has(name) && !isOthersToo) pass(name, isOfFiles);
      return result;
    };
  };
  for (const name of ATOMICS) wrap(Atomics, name);
  const system = hostSystem();
  for (const name of CALLS) wrap(system, name);
}

async function run({ share, target, step, call, after, isOfFiles, report }: Order): Promise<void> {
  const words = new Int32Array(report);
  const { store, notify, wait } = Atomics;
  const tell = (word: number): void => {
    store(words, 1, steps);
    store(words, 2, fileSteps);
    store(words, 0, word);
    notify(words, 0);
  };
  let hasBegun = after === undefined;
  guard((name, touchesFiles) => {
    hasBegun ||= name === after;
    if (!hasBegun || (call !== undefined && name !== call)) return;
    steps += 1;
    if (touchesFiles) fileSteps += 1;
    if (isOfFiles === true ? !touchesFiles || fileSteps !== step : steps !== step) return;
    tell(1);
    for (;;) wait(words, 3, 0);
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
