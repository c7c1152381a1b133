/**
 * The block that all Workers of a database share: one SharedArrayBuffer, cut into the words of each room.
 *
 *     f64   0 log words | heap words | engine words | log words of a draft
 *     i32   behind them: engine flags | log flags | reclaim flags | log flags of a draft
 *     u8    behind them: the path of a backup's target
 *
 * Invariants
 * 1. Nothing here is needed to recover: a process that dies loses it.
 * 2. Whoever changes more than one word that belong together holds the writer's lock.
 */

import { ATTACHED_MAX, NOTED_PATH_BYTES_MAX } from "../../limits.ts";
import { HEAP_NUMBERS } from "../../ffi/heap.ts";
import { RECLAIM_FLAGS } from "../../ffi/reclaim.ts";
import { LOG_NUMBERS, type LogWords } from "../../log/log-words.ts";
import type { SharedFile } from "../../log/shared-file.ts";

// Engine words (f64).
/** Namespace ids given out, the default one included. */
export const SPACE_COUNT = 0;
/** Where replay would begin with the hint image in place; 0: there is none of use. */
export const IMAGE_START = 1;
/** The open file of the image that is being written, a shared file. Should its writer die, the next one closes it. */
const IMAGE_FILE = 2;
/** Of an encrypted database, see `vault.ts`: the newest session record, whether this open has begun it, the key's memory. */
export const SESSION_LAST = 3;
export const SESSION_ACTIVE = 4;
export const KEY_PAGE = 5;
/** Position of the oldest snapshot a row holds; Infinity for none. */
export const SNAPSHOT_ROWS = 6;
/** The table of moves that is being made: its open file, where it is in memory, and how long that is; 0: there is none. */
export const MOVES_FILE = SNAPSHOT_ROWS + ATTACHED_MAX;
export const MOVES_ADDRESS = MOVES_FILE + 1;
export const MOVES_BYTES = MOVES_ADDRESS + 1;
/** Pairs in it, once it is whole. */
export const MOVES_PAIRS = MOVES_BYTES + 1;
/** The segment whose positions the index still names, 0 for none, and the id of the key space to look at next. */
export const RELOCATED = MOVES_PAIRS + 1;
export const RELOCATED_SPACE = RELOCATED + 1;
/** Bytes of the frames of all records that are held, as the writer has counted them. */
export const LIVE_BYTES = RELOCATED_SPACE + 1;
/** The base that the draft gets when it takes the log's place; until then positions in it are those in its file. */
export const NEXT_BASE = LIVE_BYTES + 1;
/** The open lock of the target of a backup, a shared file. Should its writer die, the next one closes it. */
const TARGET_LOCK = NEXT_BASE + 1;
/** The states of the three shared files above. */
const IMAGE_FILE_STATE = TARGET_LOCK + 1;
const MOVES_FILE_STATE = IMAGE_FILE_STATE + 1;
const TARGET_LOCK_STATE = MOVES_FILE_STATE + 1;
/** What a backup has replaced, as long as it is given back, a shared file. */
const REPLACED_FILE = TARGET_LOCK_STATE + 1;
const REPLACED_FILE_STATE = REPLACED_FILE + 1;
/** Of each row a folder that its thread has open for a moment, a shared file. */
const FOLDERS = REPLACED_FILE_STATE + 1;
/** One more than the highest namespace id that the log may name, and ids given out when the copy for the draft began. */
export const SPACES_NAMED = FOLDERS + 2 * ATTACHED_MAX;
export const DRAFT_SPACES = SPACES_NAMED + 1;
/** Of the tokens that were given: a check of all that they say, and where this block is; 0: there are none. See `base.ts`. */
export const TOKEN_CHECK = DRAFT_SPACES + 1;
export const BLOCK_ADDRESS = TOKEN_CHECK + 1;
const ENGINE_NUMBERS = BLOCK_ADDRESS + 1;

// Engine flags (i32).
/** 0, or the name of the Worker that holds the writer's lock, see `mutex.ts`. */
export const MUTEX = 0;
/**
 * Who waits for it: one for each, `MUTEX_LONG` for each that has waited for long, and `MUTEX_TWICE` for each that sleeps for it
 * while its event loop, which stands still for that, is in the line too.
 */
export const MUTEX_WAITERS = 1;
export const MUTEX_LONG = 1 << 10;
export const MUTEX_TWICE = 1 << 20;
/** A sum of the STATE bits; 0 is healthy. */
export const STATE = 2;
/** Rows that hold snapshots; 0 lets the writer skip the rows. */
export const SNAPSHOTS = 3;
/** The conversation of flushes, see `sync.ts`: who syncs (a name, 0 for nobody), syncs done, the errno of a failed one. */
export const SYNC_OWNER = 4;
/** In place of a name: nobody syncs, and what the system said to the last one, who died, nobody heard. */
export const SYNC_UNHEARD = 0x7fff_ffff;
export const SYNC_DONE = 5;
export const SYNC_ERRNO = 6;
/** Flushes that wait for a sync, over all threads. */
export const SYNC_JOINED = 7;
/** Not 0: nobody may attach. The row + 1 of the last one, on its way out, then CLOSING_DONE. */
export const CLOSING = 8;
export const CLOSING_DONE = -1;
/** Not 0: a writer died while it held the lock, see `audit.ts`. */
export const AUDIT = 9;
/** 0, or the row + 1 of the Worker that does long work of which there is one at a time, see `long-work.ts`. */
export const LONG_WORK = 10;
/** How far a compaction is with putting its file in the place of the one before: a SWAP number. */
export const SWAP = 11;
/** Not 0 as long as somebody has that place: who takes it and finds it so follows a dead one. */
export const WORK_LEFT = 12;
/** Bytes of the path in `Control.target`; 0: there is none. */
const TARGET_BYTES = 13;
/** Graves of all key spaces, see `spaces.ts`; after a writer's death maybe more than there are. */
export const GRAVES = 14;
/** Blocks of counters claimed in the session that is being written. */
export const SESSION_BLOCKS = 15;
/** Batches that were closed with an abort in this log, or were about to be: copying a log by the index needs to know. */
export const ABORTS = 16;
/** 0, or the row + 1 of the thread whose commit Worker serves every thread's flushes, see `commit-worker.ts`. */
export const COMMIT_HOST = 17;
/** How often it has been asked; the count wraps. */
export const COMMIT_REQUESTS = 18;
/** Rows that have ever been taken, from the first one on; raised before one is, see `rows.ts`. Nobody has any behind them. */
export const ROWS_USED = 19;
/** How often somebody who waited for the lock has got it or given up; the count wraps. Who lets others by waits for it to change. */
export const MUTEX_TURNS = 20;
/** Of each row its part of two counts over all threads: whether it waits for the lock, and its flushes that wait. */
export const MUTEX_WAITS = MUTEX_TURNS + 1;
export const SYNC_JOINS = MUTEX_WAITS + ATTACHED_MAX;
const ENGINE_FLAGS = SYNC_JOINS + ATTACHED_MAX;

export const SWAP_NONE = 0;
/** The names are being changed: who finds it so looks which file is at the path; in memory, which has none, the swap goes on. */
export const SWAP_RENAMES = 1;
/** The new file is at the path, and its words are being copied. */
export const SWAP_INSTALLS = 2;
/** The log's words are the new file's; the draft's are being emptied. */
export const SWAP_EMPTIES = 3;

export const STATE_CLOSED = 1;
export const STATE_POISONED = 2;

const NUMBERS = LOG_NUMBERS + HEAP_NUMBERS + ENGINE_NUMBERS + LOG_NUMBERS;
const FLAGS = ENGINE_FLAGS + 4 + RECLAIM_FLAGS + 4;

const TARGET_AT = NUMBERS * 8 + Math.ceil((FLAGS * 4) / 8) * 8;
/** Bytes of the block that all Workers share. */
export const CONTROL_BYTES = TARGET_AT + NOTED_PATH_BYTES_MAX;

export class Control {
  readonly buffer: SharedArrayBuffer;
  readonly numbers: Float64Array;
  readonly flags: Int32Array;
  readonly log: LogWords;
  readonly heap: Float64Array;
  readonly reclaim: Int32Array;
  /** The words of a log that a compaction or backup is writing. */
  readonly draft: LogWords;
  /** Room for the path of the target of the backup under way, once its lock is held. */
  readonly target: Uint8Array;

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    const all = new Float64Array(buffer, 0, NUMBERS);
    const flags = new Int32Array(buffer, NUMBERS * 8, FLAGS);
    const logNumbers = all.subarray(0, LOG_NUMBERS);
    this.heap = all.subarray(LOG_NUMBERS, LOG_NUMBERS + HEAP_NUMBERS);
    const draftAt = LOG_NUMBERS + HEAP_NUMBERS + ENGINE_NUMBERS;
    this.numbers = all.subarray(LOG_NUMBERS + HEAP_NUMBERS, draftAt);
    this.flags = flags.subarray(0, ENGINE_FLAGS);
    this.log = { numbers: logNumbers, flags: flags.subarray(ENGINE_FLAGS, ENGINE_FLAGS + 4) };
    this.reclaim = flags.subarray(ENGINE_FLAGS + 4, ENGINE_FLAGS + 4 + RECLAIM_FLAGS);
    this.target = new Uint8Array(buffer, TARGET_AT, NOTED_PATH_BYTES_MAX);
    this.draft = { numbers: all.subarray(draftAt), flags: flags.subarray(ENGINE_FLAGS + 4 + RECLAIM_FLAGS) };
  }

  static create(): Control {
    const control = new Control(new SharedArrayBuffer(CONTROL_BYTES));
    control.numbers[SPACE_COUNT] = 1;
    control.numbers[SPACES_NAMED] = 1;
    control.numbers.fill(Infinity, SNAPSHOT_ROWS, SNAPSHOT_ROWS + ATTACHED_MAX);
    // Of who makes it.
    control.flags[ROWS_USED] = 1;
    return control;
  }
}

/** The file of the image that is being written. */
export function imageFileOf({ numbers }: Control): SharedFile {
  return { numbers, handleAt: IMAGE_FILE, stateAt: IMAGE_FILE_STATE };
}

/** The file of the table of moves that is being made. */
export function movesFileOf({ numbers }: Control): SharedFile {
  return { numbers, handleAt: MOVES_FILE, stateAt: MOVES_FILE_STATE };
}

/** The lock of the target of the backup under way. */
export function targetLockOf({ numbers }: Control): SharedFile {
  return { numbers, handleAt: TARGET_LOCK, stateAt: TARGET_LOCK_STATE };
}

/** The file that was at the target of the backup under way. Others may have it open too: it is closed by its handle alone. */
export function replacedFileOf({ numbers }: Control): SharedFile {
  return { numbers, handleAt: REPLACED_FILE, stateAt: REPLACED_FILE_STATE };
}

/** The folder that the thread of a row has open. */
export function folderOf({ numbers }: Control, row: number): SharedFile {
  return { numbers, handleAt: FOLDERS + 2 * row, stateAt: FOLDERS + 2 * row + 1 };
}

/** Notes the path of a target; a path that is too long is not. */
export function noteTarget({ flags, target }: Control, path: string | undefined): void {
  const bytes = new TextEncoder().encode(path ?? "");
  Atomics.store(flags, TARGET_BYTES, 0);
  if (bytes.length > target.length) return;
  target.set(bytes);
  Atomics.store(flags, TARGET_BYTES, bytes.length);
}

/** The path that has been noted. */
export function notedTarget({ flags, target }: Control): string | undefined {
  const bytes = Atomics.load(flags, TARGET_BYTES);
  return bytes === 0 ? undefined : new TextDecoder().decode(target.slice(0, bytes));
}

/**
 * Adds to a count over all threads what one row adds to it. Who dies in between has counted too much, never too little: the sum
 * alone is worth a look at the rows, not a wait.
 */
export function countForRow(
  { flags }: Control,
  at: { readonly total: number; readonly rows: number; readonly row: number },
  change: number,
): void {
  if (change < 0) Atomics.add(flags, at.rows + at.row, change);
  Atomics.add(flags, at.total, change);
  if (change > 0) Atomics.add(flags, at.rows + at.row, change);
}
