/**
 * Errors at chosen calls.
 *
 * Every call of `System` that can fail has a number, counted from 0 in the life of a process; a fault says
 * at which number which error comes, once or from there on.
 */

import { Errno } from "../../src/ffi/errno.ts";
import type { ErrnoName } from "../../src/ffi/errno.ts";

export type CallName =
  | "open"
  | "close"
  | "read"
  | "write"
  | "sync"
  | "forgetCached"
  | "syncFolder"
  | "allocate"
  | "truncate"
  | "size"
  | "status"
  | "statusOf"
  | "realPath"
  | "rename"
  | "link"
  | "unlink"
  | "makeFolder"
  | "list"
  | "lock"
  | "unlock"
  | "map"
  | "mapPrivate"
  | "unmap"
  | "mapView"
  | "reserve"
  | "commit"
  | "decommit"
  | "release";

export interface Fault {
  readonly atCall: number;
  readonly errno: ErrnoName;
  /** From that call on; "same" only calls of the name that was hit first, "all" every call. */
  readonly repeat: "once" | "same" | "all";
  /** How much of a failing write gets into the file; 0 when left out. */
  readonly partial?: number;
  /** The error is a lie: what was asked for has happened all the same. */
  readonly hasEffect?: boolean;
}

export class FaultPlan {
  /** How often an error was given. */
  firedCount = 0;
  /** The calls that the faults hit first. */
  readonly hitNames = new Map<Fault, CallName>();
  readonly #faults: readonly Fault[];

  constructor(faults: readonly Fault[]) {
    this.#faults = faults;
  }

  match(name: CallName, index: number): Fault | undefined {
    for (const fault of this.#faults) {
      if (index === fault.atCall) this.hitNames.set(fault, name);
      const isSame = fault.repeat === "same" && name === this.hitNames.get(fault);
      const isHit = index === fault.atCall || (index > fault.atCall && (fault.repeat === "all" || isSame));
      if (!isHit) continue;
      this.firedCount += 1;
      return fault;
    }
    return undefined;
  }
}

const FILE_ERRORS: readonly ErrnoName[] = ["EIO", "EACCES", "EROFS", "EMFILE", "ENOSPC", "EDQUOT"];
const SPACE_ERRORS: readonly ErrnoName[] = ["EIO", "ENOSPC", "EDQUOT", "EROFS"];
const NAME_ERRORS: readonly ErrnoName[] = ["EIO", "EACCES", "EROFS", "ENOSPC"];
const MEMORY_ERRORS: readonly ErrnoName[] = ["ENOMEM"];

const PLAUSIBLE: Partial<Record<CallName, readonly ErrnoName[]>> = {
  open: FILE_ERRORS,
  write: SPACE_ERRORS,
  allocate: [...SPACE_ERRORS, "EOPNOTSUPP"],
  truncate: ["EIO", "EROFS"],
  rename: NAME_ERRORS,
  link: NAME_ERRORS,
  unlink: NAME_ERRORS,
  makeFolder: NAME_ERRORS,
  list: ["EIO", "EACCES", "EMFILE"],
  lock: ["EIO", "EWOULDBLOCK"],
  map: MEMORY_ERRORS,
  mapPrivate: MEMORY_ERRORS,
  mapView: MEMORY_ERRORS,
  unmap: MEMORY_ERRORS,
  reserve: MEMORY_ERRORS,
  commit: MEMORY_ERRORS,
  decommit: MEMORY_ERRORS,
  release: MEMORY_ERRORS,
  sync: ["EIO", "ENOSPC", "EDQUOT"],
};

/** The errors that a call may come back with in this world. */
export function plausibleErrors(name: CallName): readonly ErrnoName[] {
  return PLAUSIBLE[name] ?? ["EIO"];
}

export function errnoOf(fault: Fault): number {
  return -Errno[fault.errno];
}
