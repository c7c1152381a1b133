/**
 * The public types as they were promised, and the claims that the package keeps each promise or gives more: this file
 * only has to type-check. What a caller passes in must be taken by the package; what it gets back must be what was
 * promised. Methods are written as properties, because the compiler compares parameters strictly only there.
 */

import type * as emdb from "emdb";

// -- what was promised -------------------------------------------------------

type Bytes = string | Uint8Array | ArrayBuffer;
type Walk<T> = IteratorObject<T, undefined>;

interface Codec<T> {
  readonly encode: (value: T) => Bytes;
  readonly decode: (bytes: Uint8Array) => T;
}

interface Codecs {
  readonly bytes: Codec<Uint8Array>;
  readonly text: Codec<string>;
  readonly json: <T = unknown>() => Codec<T>;
  readonly structured: <T = unknown>() => Codec<T>;
  readonly uint32: Codec<number>;
  readonly uint64: Codec<bigint>;
}

type FlushPolicy =
  | "group"
  | { readonly group: { readonly maxWaitMs: number; readonly maxBatch: number } }
  | "on-each-flush"
  | "write-through";
type Cipher = "aes-256-gcm" | "chacha20-poly1305";
type EncryptionInput = { readonly key: Uint8Array } | { readonly passphrase: string };

interface EngineOptions {
  readonly defaultTtlMs?: number;
  readonly rangeScans?: boolean;
  readonly flushPolicy?: FlushPolicy;
  readonly encryption?: EncryptionInput;
  readonly cipher?: Cipher;
  readonly verifyReads?: boolean;
}

interface OpenOptions extends EngineOptions {
  readonly createIfMissing?: boolean;
  readonly readOnly?: boolean;
}

interface LocationOptions {
  readonly appName?: string;
  readonly databaseName?: string;
  readonly dataRoot?: string;
}

interface Share {
  readonly kind: "emdb-share";
}

interface InsertOptions {
  readonly ttlMs?: number;
  readonly expiresAtMs?: number;
}

interface RangeOptions<K = Bytes> {
  readonly gt?: K;
  readonly gte?: K;
  readonly lt?: K;
  readonly lte?: K;
  readonly prefix?: Bytes;
  readonly reverse?: boolean;
  readonly limit?: number;
}

interface Typed {
  <K, V>(codecs: { readonly key: Codec<K>; readonly value: Codec<V> }): emdb.Keyspace<K, V, K, V>;
  <V>(codecs: { readonly value: Codec<V> }): emdb.Keyspace<Uint8Array, V, Bytes, V>;
}

interface Keyspace<K, V, KeyIn, ValueIn> {
  readonly insert: (key: KeyIn, value: ValueIn, options?: InsertOptions) => void;
  readonly insertMany: (entries: Iterable<readonly [KeyIn, ValueIn]>, options?: InsertOptions) => number;
  readonly get: (key: KeyIn) => V | undefined;
  readonly getMany: (keys: Iterable<KeyIn>) => (V | undefined)[];
  readonly getZeroCopy: (key: KeyIn) => Uint8Array | undefined;
  readonly getText: (key: KeyIn) => string | undefined;
  readonly containsKey: (key: KeyIn) => boolean;
  readonly remove: (key: KeyIn) => V | undefined;
  readonly removeMany: (keys: Iterable<KeyIn>) => number;
  readonly compareAndSwap: (
    key: KeyIn,
    expected: ValueIn | undefined,
    next: ValueIn | undefined,
    options?: InsertOptions,
  ) => boolean;
  readonly update: (
    key: KeyIn,
    change: (current: V | undefined) => ValueIn | undefined,
    options?: InsertOptions,
  ) => V | undefined;
  readonly len: () => number;
  readonly isEmpty: () => boolean;
  readonly clear: () => void;
  readonly iter: () => Walk<[K, V]>;
  readonly keys: () => Walk<K>;
  readonly values: () => Walk<V>;
  readonly [Symbol.iterator]: () => Walk<[K, V]>;
  readonly range: (range?: RangeOptions<KeyIn>) => Walk<[K, V]>;
  readonly stream: (range?: RangeOptions<KeyIn>) => ReadableStream<[K, V]>;
  readonly expiresAt: (key: KeyIn) => number | undefined;
  readonly ttl: (key: KeyIn) => number | undefined;
  readonly persist: (key: KeyIn) => boolean;
  readonly sweepExpired: () => number;
  readonly typed: Typed;
}

interface Namespace<K, V, KeyIn, ValueIn> extends Keyspace<K, V, KeyIn, ValueIn> {
  readonly name: string;
}

interface TransactionSpace {
  readonly insert: (key: Bytes, value: Bytes, options?: InsertOptions) => void;
  readonly get: (key: Bytes) => Uint8Array | undefined;
  readonly containsKey: (key: Bytes) => boolean;
  readonly remove: (key: Bytes) => Uint8Array | undefined;
}

interface Transaction extends TransactionSpace {
  readonly namespace: (name: string) => TransactionSpace;
}

interface Focus {
  readonly prefix: string;
  readonly set: (key: string, value: Bytes, options?: InsertOptions) => void;
  readonly get: (key: string) => Uint8Array | undefined;
  readonly containsKey: (key: string) => boolean;
  readonly remove: (key: string) => Uint8Array | undefined;
  readonly focus: (sub: string) => Focus;
  readonly iter: () => Walk<[Uint8Array, Uint8Array]>;
  readonly deleteAll: () => number;
}

interface Stats {
  readonly liveRecords: number;
  readonly namespaceCount: number;
  readonly logicalSizeBytes: number;
  readonly fileSizeBytes: number;
  readonly preallocatedBytes: number;
  readonly deadBytes: number;
  readonly indexBytes: number;
  readonly rangeScansEnabled: boolean;
  readonly encrypted: boolean;
}

interface RecoveryReport {
  readonly usedCheckpoint: boolean;
  readonly replayedRecords: number;
  readonly tornBytes: number;
  readonly missingBytes: number;
  readonly durationMs: number;
}

interface ProgressOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
}

interface LockHolder {
  readonly pid: number;
  readonly hostname: string;
  readonly acquiredAtMs: number;
  readonly packageVersion: string;
  readonly isHeld: boolean;
}

interface VerifyReport {
  readonly records: number;
  readonly bytes: number;
  readonly problems: readonly { readonly offset: number; readonly reason: string }[];
}

interface SalvageReport {
  readonly recoveredRecords: number;
  readonly lostRanges: readonly { readonly offset: number; readonly bytes: number }[];
}

type Place = string | URL;

interface OpenNamespace {
  (name: string): emdb.Namespace;
  <K, V>(name: string, codecs: { readonly key: Codec<K>; readonly value: Codec<V> }): emdb.Namespace<K, V, K, V>;
  <V>(name: string, codecs: { readonly value: Codec<V> }): emdb.Namespace<Uint8Array, V, Bytes, V>;
}

interface Database extends Keyspace<Uint8Array, Uint8Array, Bytes, Bytes>, Disposable, AsyncDisposable {
  readonly recovery: RecoveryReport;
  readonly path: string | undefined;
  readonly isOpen: boolean;
  readonly share: () => Share;
  readonly namespace: OpenNamespace;
  readonly listNamespaces: () => string[];
  readonly dropNamespace: (name: string) => boolean;
  readonly transaction: <T>(body: (tx: emdb.Transaction) => T) => T;
  readonly focus: (prefix: string) => Focus;
  readonly group: (prefix: string) => Walk<[Uint8Array, Uint8Array]>;
  readonly deleteGroup: (prefix: string) => number;
  readonly flush: () => Promise<void>;
  readonly flushSync: () => void;
  readonly checkpoint: () => Promise<void>;
  readonly compact: (options?: ProgressOptions) => Promise<void>;
  readonly backupTo: (target: Place, options?: ProgressOptions) => Promise<void>;
  readonly verify: (options?: ProgressOptions) => Promise<VerifyReport>;
  readonly stats: () => Stats;
  readonly close: () => Promise<void>;
  readonly closeSync: () => void;
}

interface Open {
  (path: Place, options?: OpenOptions): emdb.Emdb;
  (options: OpenOptions & LocationOptions): emdb.Emdb;
}

interface Statics {
  readonly open: Open;
  readonly openInMemory: (options?: EngineOptions) => emdb.Emdb;
  readonly attach: (share: emdb.EmdbShare) => emdb.Emdb;
  readonly resolvePath: (options: LocationOptions) => string;
  readonly lockHolder: (path: Place) => LockHolder | undefined;
  readonly breakLock: (path: Place, options?: { readonly force?: boolean }) => void;
  readonly enableEncryption: (
    path: Place,
    target: EncryptionInput & { readonly cipher?: Cipher },
    options?: ProgressOptions,
  ) => Promise<void>;
  readonly disableEncryption: (path: Place, current: EncryptionInput, options?: ProgressOptions) => Promise<void>;
  readonly rotateEncryptionKey: (
    path: Place,
    current: EncryptionInput,
    next: EncryptionInput,
    options?: ProgressOptions,
  ) => Promise<void>;
  readonly salvage: (
    path: Place,
    target: Place,
    options?: ProgressOptions & { readonly encryption?: EncryptionInput },
  ) => Promise<SalvageReport>;
}

type ErrorCode =
  | "EMDB_INVALID_ARGUMENT"
  | "EMDB_INVALID_CONFIG"
  | "EMDB_TOO_LARGE"
  | "EMDB_CLOSED"
  | "EMDB_READ_ONLY"
  | "EMDB_NOT_FOUND"
  | "EMDB_NAMESPACE_DROPPED"
  | "EMDB_TRANSACTION_ASYNC"
  | "EMDB_UNSUPPORTED"
  | "EMDB_LOCKED"
  | "EMDB_NOT_A_DATABASE"
  | "EMDB_VERSION"
  | "EMDB_CORRUPTED"
  | "EMDB_KEY_MISMATCH"
  | "EMDB_FULL"
  | "EMDB_IO"
  | "EMDB_POISONED"
  | "EMDB_ABORTED";

interface Failure extends Error {
  readonly code: ErrorCode;
  readonly path?: string;
  readonly syscall?: string;
  readonly errno?: string;
  readonly offset?: number;
  readonly holder?: LockHolder;
}

// -- the claims --------------------------------------------------------------

/** What a caller gets: at least as much as was promised. */
type Gives<Promised, _Given extends Promised> = true;
/** What a caller passes: all that was promised is taken. Option objects have all keys optional, so those are compared too. */
type Takes<Taken, Promised extends Taken> = keyof Promised extends keyof Taken ? true : false;
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;

interface Point {
  readonly x: number;
}

export type Claims = [
  Gives<Statics, typeof emdb.Emdb>,
  Gives<Database, emdb.Emdb>,
  Gives<Keyspace<Uint8Array, Uint8Array, Bytes, Bytes>, emdb.Keyspace>,
  Gives<Keyspace<number, Point, number, Point>, emdb.Keyspace<number, Point, number, Point>>,
  Gives<Namespace<Uint8Array, Uint8Array, Bytes, Bytes>, emdb.Namespace>,
  Gives<Namespace<bigint, Point, bigint, Point>, emdb.Namespace<bigint, Point, bigint, Point>>,
  Gives<Transaction, emdb.Transaction>,
  Gives<Focus, emdb.Focus>,
  Gives<Codecs, typeof emdb.codec>,
  Gives<Stats, emdb.EmdbStats>,
  Gives<RecoveryReport, emdb.RecoveryReport>,
  Gives<LockHolder, emdb.LockHolder>,
  Gives<VerifyReport, emdb.VerifyReport>,
  Gives<SalvageReport, emdb.SalvageReport>,
  Gives<Share, emdb.EmdbShare>,
  Gives<Failure, emdb.EmdbError>,
  Same<Codec<Point>, emdb.Codec<Point>>,
  Same<Bytes, emdb.BytesLike>,
  Same<ErrorCode, emdb.EmdbErrorCode>,
];

export type ClaimsOfOptions = [
  Takes<emdb.EngineOptions, EngineOptions>,
  Takes<emdb.OpenOptions, OpenOptions>,
  Takes<emdb.LocationOptions, LocationOptions>,
  Takes<emdb.InsertOptions, InsertOptions>,
  Takes<emdb.RangeOptions, RangeOptions>,
  Takes<emdb.ProgressOptions, ProgressOptions>,
  Same<Cipher, emdb.Cipher>,
  Same<FlushPolicy, emdb.FlushPolicy>,
  Same<EncryptionInput, emdb.EncryptionInput>,
];

type AllTrue<T extends readonly true[]> = T;
export const kept: AllTrue<Claims> | AllTrue<ClaimsOfOptions> | undefined = undefined;

// @ts-expect-error a method that is not there is noticed
export type Missing = Gives<{ readonly shrink: () => void }, emdb.Emdb>;
// @ts-expect-error a parameter that is taken no more is noticed
export type Narrower = Gives<{ readonly get: (key: number) => Uint8Array | undefined }, emdb.Keyspace>;
// @ts-expect-error an option that is gone is noticed
export type Gone = AllTrue<[Takes<emdb.InsertOptions, { readonly ttlSeconds?: number }>]>;
