/**
 * What all threads of one open database have in common, as plain data: the token that `share` gives and
 * `attach` takes, and what is needed to let go of everything at the end.
 */

import { EmdbError } from "../errors.ts";
import { CONTROL_BYTES } from "./control.ts";
import type { FileHandle, System } from "../ffi/system.ts";
import type { Cipher } from "../crypto/cipher.ts";
import type { EmdbShare, RecoveryReport } from "../api/types.ts";
import type { AutoCompactPlan, FlushPlan } from "./life.ts";

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

/** Whether a token has what `share` puts in: a part of one would be believed, and lead anywhere. */
function isWhole({ buffer, id, pid, fileId, seed, config, recovery, path, page }: Partial<SharedBase>): boolean {
  return (
    buffer instanceof SharedArrayBuffer &&
    buffer.byteLength === CONTROL_BYTES &&
    typeof id === "string" &&
    typeof pid === "number" &&
    fileId instanceof Uint8Array &&
    seed instanceof Uint8Array &&
    typeof config === "object" &&
    typeof recovery === "object" &&
    (path === undefined || typeof path === "string") &&
    (page === undefined || page instanceof Uint8Array)
  );
}

/** The token of an open database of this process, or an error that says what it is instead. */
export function checkedShare(share: unknown, system: System): SharedBase {
  const base = share as Partial<SharedBase> | null;
  const isToken = typeof base === "object" && base !== null && base.kind === "emdb-share";
  // First: a message between processes leaves nothing of the memory that the rest is about.
  if (isToken && typeof base.pid === "number" && base.pid !== system.processId()) {
    throw new EmdbError(
      "EMDB_INVALID_ARGUMENT",
      `this token is of process ${base.pid}; a database is shared within one process only, and another one can read it: open the path with readOnly`,
    );
  }
  if (!isToken || !isWhole(base)) {
    throw new EmdbError(
      "EMDB_INVALID_ARGUMENT",
      "attach takes what db.share() returned, posted as it is from another Worker of this process",
    );
  }
  return base as SharedBase;
}
