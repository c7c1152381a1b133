/**
 * What all threads of one open database have in common, as plain data: the token that `share` gives and
 * `attach` takes, and what is needed to let go of everything at the end.
 *
 * Invariant: of a token nothing is used that has not been checked. Its fields lead to addresses, handles and files, and it
 * comes through the hands of callers, who may merge two, change one, or bring one of an earlier open. The shared block, to
 * which alone the addresses belong, has a check of all that a token says, and knows where it is itself.
 */

import { EmdbError } from "../../errors.ts";
import { addressOf } from "../../ffi/memory.ts";
import { BLOCK_ADDRESS, CONTROL_BYTES, Control, TOKEN_CHECK } from "./control.ts";
import type { FileHandle, System } from "../../ffi/system.ts";
import type { Cipher } from "../../crypto/cipher.ts";
import type { EmdbShare, RecoveryReport } from "../../api/types.ts";
import type { AutoCompactPlan, FlushPlan } from "../life.ts";

/** The part of the configuration that every thread goes by. */
export interface SharedConfig {
  readonly defaultTtlMs: number;
  readonly sweepIntervalMs: number;
  readonly autoCompact: AutoCompactPlan | undefined;
  readonly rangeScans: boolean;
  readonly flushPlan: FlushPlan;
  readonly verifyReads: boolean;
}

export interface SharedBase extends EmdbShare {
  /** Names this open, in this process. */
  readonly id: string;
  readonly pid: number;
  readonly buffer: SharedArrayBuffer;
  /** Of the log; its generation is in the shared words. */
  readonly fileId: Uint8Array;
  /** Of an encrypted database; the data key itself is in memory that only its address here leads to. */
  readonly cipher: Cipher | undefined;
  readonly seed: Uint8Array;
  readonly config: SharedConfig;
  readonly isReadOnly: boolean;
  readonly recovery: RecoveryReport;
  /** The real path; undefined for a log in memory. The open file is in the shared words. */
  readonly path: string | undefined;
  /** The header page that a file of the log would have; undefined for one that has a file. It gives no secret away. */
  readonly page: Uint8Array | undefined;
  readonly lock: { readonly handle: FileHandle; readonly identity: string } | undefined;
  /** Where the log ended when it was opened, if it had been closed in good order; 0 otherwise. */
  readonly cleanEnd: number;
}

/** A token as it came: nothing of it is believed yet. */
type Claimed = { readonly [Field in keyof SharedBase]?: unknown };

const NO_TOKEN = "attach takes what db.share() returned, posted as it is from another Worker of this process";

/** What a token says of the database, as text; the block that it leads to stands beside it. */
function textOf(base: Claimed): string {
  const { kind, id, pid, cipher, config, isReadOnly, recovery, path, lock, cleanEnd } = base;
  const [fileId, seed, page] = [base.fileId, base.seed, base.page].map(hexOf);
  return JSON.stringify({
    kind,
    id,
    pid,
    cipher,
    config,
    isReadOnly,
    recovery,
    path,
    lock,
    cleanEnd,
    fileId,
    seed,
    page,
  });
}

/** Anything else than bytes makes no text that bytes make. */
function hexOf(bytes: unknown): unknown {
  return bytes instanceof Uint8Array ? bytes.toHex() : bytes === undefined ? undefined : null;
}

/** The base that a text tells of: what has been checked and no more, and nobody else can change it. */
function baseOf(buffer: SharedArrayBuffer, text: string): SharedBase {
  const { fileId, seed, page, ...told } = JSON.parse(text) as Omit<SharedBase, "fileId" | "seed" | "page"> & {
    readonly fileId: string;
    readonly seed: string;
    readonly page?: string;
  };
  return {
    ...told,
    buffer,
    fileId: Uint8Array.fromHex(fileId),
    seed: Uint8Array.fromHex(seed),
    page: page === undefined ? undefined : Uint8Array.fromHex(page),
  };
}

/** 53 bits, and never 0. */
function checkOf(text: string): number {
  return Number(BigInt.asUintN(53, Bun.hash(text))) + 1;
}

/** The token of a database, by which others attach: whatever becomes of it, the base stays as it is. */
export function tokenOf(base: SharedBase): SharedBase {
  const { buffer } = base;
  const { numbers } = new Control(buffer);
  const text = textOf(base);
  numbers[TOKEN_CHECK] = checkOf(text);
  numbers[BLOCK_ADDRESS] = addressOf(new Uint8Array(buffer));
  return baseOf(buffer, text);
}

/** What is said of the database that a block of memory is of; undefined when that never was said of it. */
function checkedBase(token: Claimed): SharedBase | undefined {
  const { buffer } = token;
  if (!(buffer instanceof SharedArrayBuffer) || buffer.byteLength !== CONTROL_BYTES) return undefined;
  const { numbers } = new Control(buffer);
  // In a copy of a block there are the same addresses, and nobody's locks.
  if (numbers[BLOCK_ADDRESS] !== addressOf(new Uint8Array(buffer))) return undefined;
  const text = textOf(token);
  return numbers[TOKEN_CHECK] === checkOf(text) ? baseOf(buffer, text) : undefined;
}

/** The base that a token tells of, if it is one of a database of this process, or an error that says what it is instead. */
export function checkedShare(share: unknown, system: System): SharedBase {
  let base: SharedBase | undefined;
  try {
    // Each field is looked at once: who looks again may find another.
    const token: Claimed = { ...(share as object) };
    // First: a message between processes leaves nothing of the memory that the rest is about.
    refuseForeign(token, system);
    base = checkedBase(token);
  } catch (error) {
    if (error instanceof EmdbError) throw error;
    throw new EmdbError("EMDB_INVALID_ARGUMENT", NO_TOKEN, { cause: error });
  }
  if (base === undefined) throw new EmdbError("EMDB_INVALID_ARGUMENT", NO_TOKEN);
  return base;
}

function refuseForeign({ kind, pid }: Claimed, system: System): void {
  if (kind !== "emdb-share" || typeof pid !== "number" || pid === system.processId()) return;
  throw new EmdbError(
    "EMDB_INVALID_ARGUMENT",
    `this token is of process ${pid}; a database is shared within one process only, and another one can read it: open the path with readOnly`,
  );
}
