/**
 * The one error class and the one assertion of emdb.
 *
 * `EmdbError` is for what can happen to a caller; its `code` is API and never changes meaning.
 * `assert` is for what only a bug of ours can break; it is always on.
 */

import type { LockHolder } from "./api/types.ts";

/** What went wrong, in a word that programs can rely on; README.md has a sentence and advice for each. */
export type EmdbErrorCode =
  /** An argument that makes no sense. */
  | "EMDB_INVALID_ARGUMENT"
  /** Options that are wrong, contradict each other, or differ from those of the first open. */
  | "EMDB_INVALID_CONFIG"
  /** A key, value or name beyond its limit. */
  | "EMDB_TOO_LARGE"
  /** A call after `close`. */
  | "EMDB_CLOSED"
  /** A write to a database that was opened with `readOnly`. */
  | "EMDB_READ_ONLY"
  /** There is no file, with `createIfMissing: false`, or no folder. */
  | "EMDB_NOT_FOUND"
  /** The namespace of this handle was dropped. */
  | "EMDB_NAMESPACE_DROPPED"
  /** A callback that runs with the lock returned a promise, and nothing was written. */
  | "EMDB_TRANSACTION_ASYNC"
  /** This platform, or this version of Bun, cannot do it, or there is not the memory to stretch a passphrase. */
  | "EMDB_UNSUPPORTED"
  /** Another process, or another Worker without `attach`, has it open. */
  | "EMDB_LOCKED"
  /** The file is something else, and was not touched. */
  | "EMDB_NOT_A_DATABASE"
  /** The file is of a newer format, and was not touched. */
  | "EMDB_VERSION"
  /** What was whole has changed: `offset` says where. */
  | "EMDB_CORRUPTED"
  /** A wrong key or passphrase. */
  | "EMDB_KEY_MISMATCH"
  /** The disk is full, or a limit is reached, and nothing was written. */
  | "EMDB_FULL"
  /** A system call failed: `syscall` and `errno` say which and how. */
  | "EMDB_IO"
  /** A sync failed earlier, so what the disk holds is unknown: close and open again. */
  | "EMDB_POISONED"
  /** An `AbortSignal` ended a long call. */
  | "EMDB_ABORTED";

const BRAND = Symbol.for("emdb.error.1");

/** What an `EmdbError` carries besides its code and message. */
export interface EmdbErrorDetails {
  readonly path?: string | undefined;
  readonly syscall?: string | undefined;
  readonly errno?: string | undefined;
  readonly offset?: number | undefined;
  readonly holder?: LockHolder | undefined;
  readonly cause?: unknown;
}

/**
 * The one error class. `code` is API, the message is prose that names the numbers.
 *
 * EMDB_POISONED: a sync failed, so what reached the disk is unknown; writes are refused until reopen.
 */
export class EmdbError extends Error {
  /** Which kind of error; part of the interface. */
  readonly code: EmdbErrorCode;
  /** The file that it is about, if it is about one. */
  declare readonly path?: string;
  /** EMDB_IO and EMDB_FULL: the system call that failed, as `"fdatasync"`. */
  declare readonly syscall?: string;
  /** EMDB_IO and EMDB_FULL: the name of its errno, as `"EIO"`. */
  declare readonly errno?: string;
  /** EMDB_CORRUPTED: where in the file. */
  declare readonly offset?: number;
  /** EMDB_LOCKED: who has it. */
  declare readonly holder?: LockHolder;

  /** An error of another evaluation of this module is one as well: `bun --hot` evaluates it anew, and engines outlive that. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (this !== EmdbError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === "object" && value !== null && (value as { readonly [BRAND]?: unknown })[BRAND] === true;
  }

  // What errors of all evaluations have in common; no member of their type, which has those of the contract alone.
  static {
    Object.defineProperty(this.prototype, BRAND, { value: true });
  }

  constructor(code: EmdbErrorCode, message: string, details: EmdbErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "EmdbError";
    this.code = code;
    if (details.path !== undefined) this.path = details.path;
    if (details.syscall !== undefined) this.syscall = details.syscall;
    if (details.errno !== undefined) this.errno = details.errno;
    if (details.offset !== undefined) this.offset = details.offset;
    if (details.holder !== undefined) this.holder = details.holder;
  }
}

/** Whether it tells that a record has rotted, or another part of a file. */
export function isRot(error: unknown): error is EmdbError {
  return error instanceof EmdbError && error.code === "EMDB_CORRUPTED";
}

/** States a belief of ours; a failure is a bug in emdb, never the caller's doing. */
export function assert(belief: boolean, message: string): asserts belief {
  if (!belief) throw new Error(`emdb: internal error: ${message}`);
}
