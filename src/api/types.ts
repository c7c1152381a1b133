/**
 * The shapes that a caller meets: what it passes in and what it gets back. Types only.
 *
 * Conventions
 * 1. Keys and values are byte strings. A string stands for its UTF-8 bytes.
 * 2. `undefined` means absent. Times are Unix milliseconds, durations milliseconds (`...Ms`).
 * 3. A returned `Uint8Array` is the caller's own for ever.
 * 4. Every argument is checked before anything is written; after an error nothing has changed.
 */

// -- bytes, codecs -----------------------------------------------------------

/**
 * Bytes as a caller may give them. A string is its UTF-8 bytes and must be well formed: a lone
 * surrogate has none and is refused with EMDB_INVALID_ARGUMENT.
 */
export type BytesLike = string | Uint8Array | ArrayBuffer;

/**
 * Turns a typed value into bytes and back. `encode` may return a string (stored as UTF-8), and may reuse
 * one buffer from call to call. What a codec throws reaches the caller unchanged and nothing is written. A codec
 * may use the database. Only where the writer's lock is held, a write to the same database inside it is
 * EMDB_INVALID_ARGUMENT: in `decode` when `remove` calls it, and in the value's codec when `update` does.
 */
export interface Codec<T> {
  /** The bytes of a value. */
  readonly encode: (value: T) => BytesLike;
  /** The value of such bytes; `bytes` is the caller's own copy. */
  readonly decode: (bytes: Uint8Array) => T;
}

// -- opening -----------------------------------------------------------------

/** When written records become durable. Nothing here changes what a reader sees. */
export type FlushPolicy =
  /** Default. Concurrent flushes, from any number of async callers and Workers, share one sync. */
  | "group"
  /** As "group", and a leader waits up to `maxWaitMs` (at most 60 000) for up to `maxBatch` (at most 1 000 000) flushes to join it. */
  | { readonly group: { readonly maxWaitMs: number; readonly maxBatch: number } }
  /** Each flush call pays for a sync of its own. */
  | "on-each-flush"
  /** Every insert, remove, batch and transaction is durable when the call returns. */
  | "write-through";

/** What seals an encrypted record. AES has instructions of the processor; ChaCha20 is JavaScript where the system has no libcrypto, about ten times slower. */
export type Cipher = "aes-256-gcm" | "chacha20-poly1305";

/** Exactly one of the two. `key` is 32 raw bytes; a passphrase, of at most 1024 bytes as UTF-8, is stretched with Argon2id. */
export type EncryptionInput = { readonly key: Uint8Array } | { readonly passphrase: string };

/** Options of every way to open, a file or memory. */
export interface EngineOptions {
  /** TTL given to a record inserted without one. Must be > 0. Default: none (records never expire). */
  readonly defaultTtlMs?: number;
  /**
   * Sweeps all key spaces in the background, this long after the open and after each sweep: a whole number of
   * milliseconds from 1, 2147483647 at most. A slice at a time, in the thread that opened the database and once for all its handles; ends
   * with its last one. Keeps no process alive, and reports nothing: what fails meets the next call. Default, and `Infinity`: never.
   */
  readonly sweepIntervalMs?: number;
  /**
   * Compacts in the background whenever at least this share of the log (`ratio`, between 0 and 1, default 0.5) and at
   * least so many bytes of it (`minBytes`, default 4 MiB) are dead; `true` is both defaults. Sweeps what has expired as
   * well, now and then, so that it counts. Begun by the thread whose write crosses the line. Reports nothing; what fails
   * is tried again when the log has doubled or half as much is live, where the disk had no room when it has grown by an
   * eighth. Default false.
   */
  readonly autoCompact?: boolean | { readonly ratio?: number; readonly minBytes?: number };
  /** Keep an ordered index beside the hash index; needed by `range`. Default false. */
  readonly rangeScans?: boolean;
  /** What a flush costs and who shares it. Default "group". */
  readonly flushPolicy?: FlushPolicy;
  /** Encrypts the whole record (key, value, namespace, expiry). */
  readonly encryption?: EncryptionInput;
  /** Fixed when the database is created; default "aes-256-gcm". On reopen: optional, but must agree. */
  readonly cipher?: Cipher;
  /** Checks a record's checksum on every read, not only on recovery and verify. Default false; an encrypted record is always checked. */
  readonly verifyReads?: boolean;
}

/** Options of opening a file. */
export interface OpenOptions extends EngineOptions {
  /** Default true. When false, a missing file is an EMDB_NOT_FOUND error. */
  readonly createIfMissing?: boolean;
  /** Opens without the writer lock, sees the database as of the open; every write is EMDB_READ_ONLY. */
  readonly readOnly?: boolean;
  /**
   * Waits for so many milliseconds while another process has the database open, before it is EMDB_LOCKED; the thread stands
   * still meanwhile. `Infinity` waits for as long as it takes. Who waits is in no line. Another Worker of this process is not
   * waited for. Default 0.
   */
  readonly lockTimeoutMs?: number;
}

/** Where the platform keeps an application's data: `<root>/<appName>/<databaseName>`. */
export interface LocationOptions {
  /** One folder name. Default "emdb". */
  readonly appName?: string;
  /** One file name, no extension added. Default "emdb-default.emdb". */
  readonly databaseName?: string;
  /** Default: $XDG_DATA_HOME or ~/.local/share; ~/Library/Application Support; %LOCALAPPDATA%. */
  readonly dataRoot?: string;
}

/** A structured-cloneable token: post it to another Worker of the same process and `Emdb.attach` it. */
export interface EmdbShare {
  /** Tells the token from other messages. What else it holds is the library's own. */
  readonly kind: "emdb-share";
}

// -- records -----------------------------------------------------------------

/** How long what is written lives; at most one of the two. */
export interface InsertOptions {
  /**
   * Lives this long from now, which is when the entries have been read, the codecs and the function of `update` have run.
   * `Infinity` never expires, whatever the default; 0 is expired at once.
   */
  readonly ttlMs?: number;
  /**
   * Absolute deadline instead of a duration. Not together with `ttlMs`. One that has passed is expired at once. `Infinity`
   * and exactly 0 are never, 0 because `expiresAt` reports "never" so: a record copied with its deadline keeps it.
   */
  readonly expiresAtMs?: number;
}

/** Which keys a range yields, in which direction. Where both of `gt` and `gte`, or both of `lt` and `lte`, are given, both hold. */
export interface RangeOptions<K = BytesLike> {
  /** Only keys greater than this one. */
  readonly gt?: K;
  /** Only this key and greater ones. */
  readonly gte?: K;
  /** Only keys smaller than this one. */
  readonly lt?: K;
  /** Only this key and smaller ones. */
  readonly lte?: K;
  /** Every key whose bytes start with these, also in a view with codecs. Not together with a bound. */
  readonly prefix?: BytesLike;
  /** Default false: ascending. */
  readonly reverse?: boolean;
  /** Most records yielded: a whole number from 0, or `Infinity` (the default). */
  readonly limit?: number;
}

/**
 * One key space: the default one (`Emdb`) or a named one (`Namespace`).
 * `K` and `V` are what a caller reads; `KeyIn` and `ValueIn` are what it may pass: bytes, unless they are named. The type
 * of a view with codecs names all four: `Keyspace<K, V, K, V>`, `Namespace<K, V, K, V>`.
 *
 * Every method throws `EmdbError`: EMDB_INVALID_ARGUMENT or EMDB_TOO_LARGE for an argument that cannot be,
 * EMDB_CLOSED after `close`, EMDB_NAMESPACE_DROPPED after `dropNamespace`; a write also EMDB_READ_ONLY,
 * EMDB_POISONED, EMDB_FULL, EMDB_IO. After an error nothing has changed. A key has 0 to 65 535 bytes, a value at most
 * 1 073 000 000.
 */
export interface Keyspace<K = Uint8Array, V = Uint8Array, KeyIn = BytesLike, ValueIn = BytesLike> {
  /** Inserts or replaces, value and TTL both. Visible to every handle at once; durable after a flush. */
  insert(key: KeyIn, value: ValueIn, options?: InsertOptions): void;
  /** One pass, one log write, all or nothing on a crash; on a repeated key the last wins. Returns the entry count. */
  insertMany(entries: Iterable<readonly [KeyIn, ValueIn]>, options?: InsertOptions): number;
  /** The value, or undefined when absent or expired. */
  get(key: KeyIn): V | undefined;
  /** As `get` for each key, in order, about twice as fast as a loop of `get`. */
  getMany(keys: Iterable<KeyIn>): (V | undefined)[];
  /**
   * The value's bytes without a copy where that is cheaper. Valid for ever, also after compact and close. The view may begin
   * in the middle of its buffer: go by `byteOffset` and `byteLength`. The buffer is wider and holds neighbouring records,
   * so never hand it on, transfer or expose it; `slice()` makes a copy that is the value alone.
   */
  getZeroCopy(key: KeyIn): Uint8Array | undefined;
  /** The value as UTF-8 text; EMDB_INVALID_ARGUMENT when it is not. */
  getText(key: KeyIn): string | undefined;
  /** True when present and not expired. */
  containsKey(key: KeyIn): boolean;
  /** Removes; returns the value that was visible, or undefined (an expired value is not visible). */
  remove(key: KeyIn): V | undefined;
  /** All or nothing on a crash, as one log write. Returns how many were present. */
  removeMany(keys: Iterable<KeyIn>): number;
  /**
   * Writes `next` (undefined: removes) only if the current value equals `expected` (undefined: absent).
   * Values are equal when their bytes are: a typed view compares what its codec encodes. As with `insert` the deadline
   * is set anew: pass `{ expiresAtMs: db.expiresAt(key) ?? 0 }` to keep it.
   */
  compareAndSwap(
    key: KeyIn,
    expected: ValueIn | undefined,
    next: ValueIn | undefined,
    options?: InsertOptions,
  ): boolean;
  /**
   * Atomic read-modify-write; returning undefined removes. Returns what is now stored. `change` runs with the
   * writer's lock: a write to the same database inside it is EMDB_INVALID_ARGUMENT, and so is a promise from it
   * (EMDB_TRANSACTION_ASYNC); what it throws is rethrown and nothing is written. As with
   * `insert` the deadline is set anew: pass `{ expiresAtMs: db.expiresAt(key) ?? 0 }` to keep it.
   */
  update(key: KeyIn, change: (current: V | undefined) => ValueIn | undefined, options?: InsertOptions): V | undefined;

  /** Records held, expired ones that no sweep has removed yet included. O(1). */
  len(): number;
  /** Whether `len` is 0. */
  isEmpty(): boolean;
  /** Removes every record of this key space, durably as one step, however many there are. */
  clear(): void;

  /**
   * Every live record exactly as of the call: later writes, removes, clear and compact change nothing
   * in it. Lazy; no order promised. Expired records are left out. Behind `close` its `next` throws EMDB_CLOSED.
   */
  iter(): IteratorObject<[K, V], undefined>;
  /** The keys of `iter`. */
  keys(): IteratorObject<K, undefined>;
  /** The values of `iter`. */
  values(): IteratorObject<V, undefined>;
  /** `iter`, for `for ... of`. */
  [Symbol.iterator](): IteratorObject<[K, V], undefined>;
  /**
   * Records in key order, as of the call; lazy: `take(10)` of a million costs ten.
   * Needs `rangeScans`; without it throws EMDB_INVALID_CONFIG. Bounds that cross give nothing.
   * For the first of them say `limit`: a walk that is left in the middle (`next()` alone) keeps what is removed in the
   * index until it is collected, and later ranges step over that.
   */
  range(range?: RangeOptions<KeyIn>): IteratorObject<[K, V], undefined>;
  /** `iter`, or `range` when given one, as a stream that respects backpressure and can be cancelled. */
  stream(range?: RangeOptions<KeyIn>): ReadableStream<[K, V]>;

  /** Absolute deadline; 0 for a record that never expires; undefined when absent. */
  expiresAt(key: KeyIn): number | undefined;
  /** Milliseconds left; undefined when absent, expired, or never expiring. */
  ttl(key: KeyIn): number | undefined;
  /** Removes the TTL. True if the record was live and had one. */
  persist(key: KeyIn): boolean;
  /**
   * Removes the expired records of this key space; returns how many. One that has rotted on the disk stays and makes it
   * EMDB_CORRUPTED, when the others have been removed, as far as fewer than 4096 have.
   */
  sweepExpired(): number;

  /** A typed view of the same key space; costs nothing but the codecs. */
  typed<NewK, NewV>(codecs: {
    readonly key: Codec<NewK>;
    readonly value: Codec<NewV>;
  }): Keyspace<NewK, NewV, NewK, NewV>;
  typed<NewV>(codecs: { readonly value: Codec<NewV> }): Keyspace<Uint8Array, NewV, BytesLike, NewV>;
}

/** A named key space. Its handles answer EMDB_NAMESPACE_DROPPED once it is dropped. */
export interface Namespace<K = Uint8Array, V = Uint8Array, KeyIn = BytesLike, ValueIn = BytesLike> extends Keyspace<
  K,
  V,
  KeyIn,
  ValueIn
> {
  /** The name that it was opened by. */
  readonly name: string;
}

/**
 * What a transaction's callback works on: reads see its own writes over the state at the start.
 * After the callback has returned or thrown, every method is EMDB_INVALID_ARGUMENT.
 */
export interface Transaction {
  /** Inserts or replaces, for this transaction at once and for others when it commits. */
  insert(key: BytesLike, value: BytesLike, options?: InsertOptions): void;
  /** The value that this transaction sees, or undefined when absent or expired. */
  get(key: BytesLike): Uint8Array | undefined;
  /** True when `get` would give a value. */
  containsKey(key: BytesLike): boolean;
  /** Removes; returns the value that was visible to this transaction. */
  remove(key: BytesLike): Uint8Array | undefined;
  /** The same transaction over a named key space. One that does not exist is created by the commit if a record is left in it. */
  namespace(name: string): Omit<Transaction, "namespace">;
}

/** Dotted-prefix view: `db.focus("user").focus("1").set("name", ...)` is key "user.1.name". */
export interface Focus {
  /** What its keys begin with, the last dot left out. */
  readonly prefix: string;
  /** Inserts or replaces the record of prefix, dot and key. */
  set(key: string, value: BytesLike, options?: InsertOptions): void;
  /** The value of prefix, dot and key, or undefined. */
  get(key: string): Uint8Array | undefined;
  /** True when there is a live record of prefix, dot and key. */
  containsKey(key: string): boolean;
  /** Removes it; returns the value that was visible. */
  remove(key: string): Uint8Array | undefined;
  /** The view one part further down. */
  focus(sub: string): Focus;
  /** Records under the prefix, with whole keys. */
  iter(): IteratorObject<[Uint8Array, Uint8Array], undefined>;
  /** Removes the records under the prefix, all or nothing. Returns how many. */
  deleteAll(): number;
}

// -- operations --------------------------------------------------------------

/** What a database says of itself, at the moment of the call. */
export interface EmdbStats {
  /** Records over every key space; as `len`, expired but unswept records included. */
  readonly liveRecords: number;
  /** Key spaces, named ones only. */
  readonly namespaceCount: number;
  /** Bytes of log written so far, header included. */
  readonly logicalSizeBytes: number;
  /** Length of the file; the log's own length in memory. */
  readonly fileSizeBytes: number;
  /** File bytes reserved beyond the log's end. */
  readonly preallocatedBytes: number;
  /**
   * Log bytes that a compaction would give back. Those of expired records that no sweep has removed are among them as far as
   * that can be told at once: of 16384 at most, and not while another Worker writes, nor with `readOnly`.
   */
  readonly deadBytes: number;
  /** Memory of the hash index and, if kept, the ordered index. */
  readonly indexBytes: number;
  /** Whether `range` works. */
  readonly rangeScansEnabled: boolean;
  /** Whether records are sealed. */
  readonly encrypted: boolean;
}

/** What the last open of this file had to do. */
export interface RecoveryReport {
  /** The checkpoint image was sound and used. */
  readonly usedCheckpoint: boolean;
  /** Records taken from the log after it; those of a batch that does not count are not among them. */
  readonly replayedRecords: number;
  /** Bytes of a half-written tail that were cut off; with `readOnly` left out, and beside a writer those that came meanwhile. */
  readonly tornBytes: number;
  /**
   * Bytes that had been durable before and are missing from the file's end (somebody truncated it), as far as the checkpoint
   * beside it knows, or without one the file itself, which knows how long it was if a backup, a compaction, a change of
   * encryption or a salvage made it. 0 after any crash.
   */
  readonly missingBytes: number;
  /** How long reading the checkpoint and the log took; the stretching of a passphrase comes before it. */
  readonly durationMs: number;
}

/** Watching a long call, and ending it. */
export interface ProgressOptions {
  /** Aborting rejects with EMDB_ABORTED and leaves the database as it was. Once the new file has its name it is too late. */
  readonly signal?: AbortSignal;
  /**
   * Called on the calling thread, before anything is done and then now and then; `done` grows from 0 to `total`, whose unit is
   * the call's own. What it throws ends the call and rejects it. Once the new file has its name that stays: the last
   * call, with `done` = `total`, comes after it.
   */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
}

/** What a compaction is to do beside giving room back. */
export interface CompactOptions extends ProgressOptions {
  /**
   * Leaves short records in the order of their keys, so that a range reads one stretch of the file instead of a place for each
   * record. Those that do not lie so are written twice, which takes longer. Room on the disk for twice all that is live,
   * and 16 bytes for each record, is asked for before anything is written. Needs `rangeScans`; not for an encrypted
   * database, whose file would show the length of the record at each rank. Default false: records stay in the order in
   * which they were written.
   */
  readonly inKeyOrder?: boolean;
}

/** Who took the lock of a database last, as it wrote down itself. */
export interface LockHolder {
  /** Its process number. */
  readonly pid: number;
  /** The machine that it ran on. */
  readonly hostname: string;
  /** When it took the lock, by its own clock. */
  readonly acquiredAtMs: number;
  /** The version of this package that it used. */
  readonly packageVersion: string;
  /** Whether the operating system says that the lock is held right now. */
  readonly isHeld: boolean;
}

/** What `verify` found. */
export interface VerifyReport {
  /** Sound records that were met, old versions included. */
  readonly records: number;
  /** Bytes of the log that were read. */
  readonly bytes: number;
  /** What is wrong, and where in the file; empty when the file is sound. */
  readonly problems: readonly { readonly offset: number; readonly reason: string }[];
}

/** What `salvage` could copy. */
export interface SalvageReport {
  /** Records in the new database. */
  readonly recoveredRecords: number;
  /** Stretches of the file that held no sound record, and batches whose end is damaged: whether they were done cannot be told. */
  readonly lostRanges: readonly { readonly offset: number; readonly bytes: number }[];
}
