/**
 * Every bound of emdb, each with its reason. Crossing one is an error that names both numbers.
 * Limits that depend on each other are asserted together at the end.
 */

import { assert } from "./errors.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

// -- records -----------------------------------------------------------------

/** Longest key in bytes: a frame stores the length of its key in 16 bits. */
export const KEY_BYTES_MAX = 65_535;

/**
 * Longest value in bytes, a little under 1 GiB: a frame (header, longest key, value, seal) stays below
 * 1 GiB, so that its length fits 30 bits and every sum of two lengths is still a small integer.
 */
export const VALUE_BYTES_MAX = 1_073_000_000;

/** What `VALUE_BYTES_MAX` leaves for a frame's headers and seal beside the longest key. */
const FRAME_OVERHEAD_BYTES_MAX = 512;

/** Longest name of a namespace in bytes: it is held in memory and repeated in each checkpoint. */
export const NAMESPACE_NAME_BYTES_MAX = 1024;

/**
 * The last moment a deadline can name: the last one a `Date` can (the year 275760). A deadline behind
 * it is "never", so that `ttlMs: Number.MAX_SAFE_INTEGER` means what its writer meant.
 */
export const EXPIRES_AT_MS_MAX = 8_640_000_000_000_000;

/** Longest text whose bytes are put into memory that is kept for the next one; those of a longer one get an array of their own. */
export const KEPT_TEXT_BYTES_MAX = 4 * MIB;

// -- batches -----------------------------------------------------------------

/** Most writes in one batch: their place in it is stored in 32 bits, kept a small integer. */
export const BATCH_WRITES_MAX = 2 ** 30;

// -- the log -----------------------------------------------------------------

/** The header of the log: one page on every platform, eight sectors of 512 bytes. */
export const HEADER_PAGE_BYTES = 4096;

/**
 * Longest log, and what it and those that compactions have replaced may span together while they are in use: the index
 * tells so many positions apart, in 36 bits of 8-byte units.
 */
export const LOG_BYTES_MAX = 2 ** 36 * 8;

/** Where positions of an open database end: every number below is exact. At 1 GB/s it is reached in 104 days. */
export const POSITIONS_END_MAX = 2 ** 53;

/** Namespace ids that one generation of the file names, dropped ones included; bounds the table of namespaces in memory (64 bytes each). */
export const SPACE_COUNT_MAX = 1_000_000;

/** The tail buffer, a ring: many times what is written at once, so that a slow reader finds its frame still there. */
export const RING_BYTES = 8 * MIB;

/** Longest frame that the ring can take. Also the ring's slack. */
export const RING_FRAME_BYTES_MAX = MIB;

/**
 * Longest frame that goes through the ring where a write is no sync; the value of a longer one is written to the file
 * from where it is: two copies cost about as much as three system calls at 16 KiB, and twice as much from 128 KiB on
 * (docs/performance.md).
 */
export const COPIED_FRAME_BYTES_MAX = 32 * KIB;

/**
 * Pending bytes are written in whole pieces of this length, at multiples of it, without waiting for a flush: a system
 * call costs a fraction of a percent of copying them, and a file system that keeps files in large pages then maps each
 * piece with one entry of the page table, where reading 4 KiB pages at random pays for a walk of the table each time.
 */
export const STRIDE_BYTES = 2 * MIB;

/** Smallest and largest step in which the file is preallocated; between them a half of its length. */
export const GROWTH_BYTES_MIN = 256 * KIB;
export const GROWTH_BYTES_MAX = 64 * MIB;

/**
 * Where reserved space is recorded block by block as it is written, so much of it is written with zeros ahead of the log
 * while syncs come often: a sync of 2 to 50 KB then takes 0.7 of the time (docs/design.md). More than this makes the
 * syncs that carry the zeros as long as several others.
 */
export const ZEROED_BYTES = 256 * KIB;
/** Syncs come often when what the next one will cover is no more than this: of 200 KB one takes as long either way. */
export const ZEROED_SYNC_BYTES_MAX = 64 * KIB;

/** What recovery, verify and copies read at a time: their memory, whatever the size of the log. */
export const SCAN_BYTES = MIB;

/** Least growth of the log after which a busy writer begins a checkpoint by itself: replay of less takes a tenth of a second. */
export const CHECKPOINT_GROWTH_BYTES_MIN = 64 * MIB;

/** Growth of the log after which a writer looks whether it is time to compact: a few milliseconds of writing. */
export const AUTO_COMPACT_LOOK_BYTES = 256 * KIB;
/** Share of dead bytes at which a log is compacted by itself unless the caller says otherwise: writing twice for each write. */
export const AUTO_COMPACT_RATIO = 0.5;
/** Least dead bytes at which a log is compacted by itself unless the caller says otherwise: less is not worth a new file. */
export const AUTO_COMPACT_BYTES_MIN = 4 * MIB;
/** Values from this length on are returned by `getZeroCopy` as a mapping of their own: shorter ones are cheaper to copy. */
export const ZERO_COPY_BYTES_MIN = 256 * KIB;

/**
 * Address space for an index, and for a log in memory: the first of these that the system grants. Nothing moves while it
 * grows, so this bounds it; untouched, it costs nothing. The last still holds ten million records.
 */
export const ADDRESS_SPACE_BYTES = [64 * GIB, 16 * GIB, 4 * GIB, GIB, GIB / 4] as const;

// -- expiry ------------------------------------------------------------------

/** Most records that a sweep removes as one batch, under one hold of the writer's lock: 2 to 4 ms of work. */
export const SWEEP_RECORDS_PER_SLICE = 1024;

/** Most entries of the queue that a slice looks at, stale ones included. */
export const SWEEP_LOOKS_PER_SLICE = 4 * SWEEP_RECORDS_PER_SLICE;

/** Slots of the index that a walk for deadlines has looked at when it ends a slice; with a shard more, 2 to 5 ms of work. */
export const WALK_LOOKS_PER_SLICE = 4096;

/** Key spaces that are asked under one hold of the writer's lock whether something in them has expired: some tenths of a millisecond. */
export const SPACES_PER_LOOK = 4096;

/**
 * Most entries of queues that one call of `stats` looks at, to count what has expired among what is dead: some milliseconds of work.
 * What more has expired counts as live until it is swept.
 */
export const EXPIRED_LOOKS_MAX = 16_384;

/** Pause between two slices of a background sweep: other work of the event loop gets its turn, a backlog still goes fast. */
export const SWEEP_SLICE_PAUSE_MS = 2;

/** Longest interval of the background sweep: what a timer can wait, 2^31 - 1 milliseconds. */
export const SWEEP_INTERVAL_MS_MAX = 2_147_483_647;

// -- threads -----------------------------------------------------------------

/** Handles of one database in one process, one a Worker. */
export const ATTACHED_MAX = 256;

/**
 * Longest pause before what is pending is tried to be written again, while another thread holds the lock: so much later
 * than a turn of the event loop it may reach the system, and an idle process wakes no more often.
 */
export const SPILL_PAUSE_MS_MAX = 64;

/**
 * How long a process that ends waits for a thread that is in a transaction or puts a compacted file in its place: longer
 * than either takes, and shorter than the patience of who has told it to end.
 */
export const EXIT_WAIT_MS_MAX = 5000;

/** Longest path in bytes that is noted for whoever cleans up after a dead thread: what Linux takes in one call. */
export const NOTED_PATH_BYTES_MAX = 4096;

// -- secrets -----------------------------------------------------------------

/** Exact length of a raw encryption key: both ciphers take 256 bits. */
export const ENCRYPTION_KEY_BYTES = 32;

/** Longest passphrase in bytes: far beyond what stretching gains from, far below what would stall it. */
export const PASSPHRASE_BYTES_MAX = 1024;

// -- opening -----------------------------------------------------------------

/**
 * Longest `appName` and `databaseName` in bytes: file systems stop at 255, and the names of sidecars and
 * temporary files are made by appending to it.
 */
export const LOCATION_NAME_BYTES_MAX = 200;

/** Longest name that every file system takes, in bytes (UTF-16 units on Windows): POSIX systems and Windows stop there. */
export const SYSTEM_NAME_BYTES_MAX = 255;

/**
 * Longest path that a system takes, without its final zero, in the same: PATH_MAX of Linux, that of macOS and FreeBSD, and what
 * Windows takes behind its prefix, of 32767 in all, part of which it puts in the prefix's place.
 */
export const LINUX_PATH_BYTES_MAX = 4095;
export const BSD_PATH_BYTES_MAX = 1023;
export const WINDOWS_PATH_UNITS_MAX = 32_700;

/** Longest ending of a name beside a database's file, in the same: of a table of moves that is in the way of another. */
export const SIDECAR_ENDING_BYTES_MAX = 43;

/** Longest name of a new database's file, without its folder, in the same: the names beside it begin with it. */
export const FILE_NAME_BYTES_MAX = SYSTEM_NAME_BYTES_MAX - SIDECAR_ENDING_BYTES_MAX;

/** Longest wait of a group flush for others to join, in milliseconds: a flush is somebody waiting. */
export const GROUP_WAIT_MS_MAX = 60_000;

/** Most flushes that a group waits for; far more callers than can be waiting at one time. */
export const GROUP_BATCH_MAX = 1_000_000;

/** Most records that a stream yields before it lets the event loop turn. */
export const STREAM_RECORDS_PER_TURN = 64;

assert(
  FRAME_OVERHEAD_BYTES_MAX + KEY_BYTES_MAX + VALUE_BYTES_MAX < GIB,
  "a frame of the longest key and value is shorter than 1 GiB",
);
assert(EXPIRES_AT_MS_MAX <= Number.MAX_SAFE_INTEGER, "a deadline is a whole number without loss");
assert(
  RING_BYTES % RING_FRAME_BYTES_MAX === 0 && RING_BYTES >= 4 * RING_FRAME_BYTES_MAX,
  "a frame fits the ring with room to spare",
);
assert(RING_BYTES % STRIDE_BYTES === 0, "a piece that is written lies in one piece in the ring");
assert(STRIDE_BYTES + 2 * RING_FRAME_BYTES_MAX <= RING_BYTES, "pending frames never fill the ring");
assert(
  SCAN_BYTES >= 2 * (KEY_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX),
  "a header and the longest key fit the scan buffer",
);

/** The period of an interval that only holds the process while something is awaited; about the longest that timers know. */
export const NEVER_MS = 2 ** 30;
