/**
 * The public types as they were promised, and the claims that the package has them so: this file only has to type-check,
 * here against the source and in `test/package` against what is packed.
 *
 * A member counts as kept only if its type is the very same one: what a compiler takes for another (`any`, a member
 * that became optional or may be written to, another default, overloads in another order, a class where an interface was)
 * makes code compile, infer or fail differently. What is wider than promised, and what is there besides, is named below.
 */

import type * as emdb from "emdb";

// -- what was promised -------------------------------------------------------

type Bytes = string | Uint8Array | ArrayBuffer;
type Walk<T> = IteratorObject<T, undefined>;

interface Codec<T> {
  readonly encode: (value: T) => emdb.BytesLike;
  readonly decode: (bytes: Uint8Array) => T;
}

interface Codecs {
  readonly bytes: emdb.Codec<Uint8Array>;
  readonly text: emdb.Codec<string>;
  json<T = unknown>(): emdb.Codec<T>;
  structured<T = unknown>(): emdb.Codec<T>;
  readonly uint32: emdb.Codec<number>;
  readonly uint64: emdb.Codec<bigint>;
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
  readonly flushPolicy?: emdb.FlushPolicy;
  readonly encryption?: emdb.EncryptionInput;
  readonly cipher?: emdb.Cipher;
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

interface RangeOptions<K> {
  readonly gt?: K;
  readonly gte?: K;
  readonly lt?: K;
  readonly lte?: K;
  readonly prefix?: emdb.BytesLike;
  readonly reverse?: boolean;
  readonly limit?: number;
}

interface Keyspace<K, V, KeyIn, ValueIn> {
  insert(key: KeyIn, value: ValueIn, options?: emdb.InsertOptions): void;
  insertMany(entries: Iterable<readonly [KeyIn, ValueIn]>, options?: emdb.InsertOptions): number;
  get(key: KeyIn): V | undefined;
  getMany(keys: Iterable<KeyIn>): (V | undefined)[];
  getZeroCopy(key: KeyIn): Uint8Array | undefined;
  getText(key: KeyIn): string | undefined;
  containsKey(key: KeyIn): boolean;
  remove(key: KeyIn): V | undefined;
  removeMany(keys: Iterable<KeyIn>): number;
  compareAndSwap(
    key: KeyIn,
    expected: ValueIn | undefined,
    next: ValueIn | undefined,
    options?: emdb.InsertOptions,
  ): boolean;
  update(
    key: KeyIn,
    change: (current: V | undefined) => ValueIn | undefined,
    options?: emdb.InsertOptions,
  ): V | undefined;
  len(): number;
  isEmpty(): boolean;
  clear(): void;
  iter(): Walk<[K, V]>;
  keys(): Walk<K>;
  values(): Walk<V>;
  [Symbol.iterator](): Walk<[K, V]>;
  range(range?: emdb.RangeOptions<KeyIn>): Walk<[K, V]>;
  stream(range?: emdb.RangeOptions<KeyIn>): ReadableStream<[K, V]>;
  expiresAt(key: KeyIn): number | undefined;
  ttl(key: KeyIn): number | undefined;
  persist(key: KeyIn): boolean;
  sweepExpired(): number;
  typed<K2, V2>(codecs: {
    readonly key: emdb.Codec<K2>;
    readonly value: emdb.Codec<V2>;
  }): emdb.Keyspace<K2, V2, K2, V2>;
  typed<V2>(codecs: { readonly value: emdb.Codec<V2> }): emdb.Keyspace<Uint8Array, V2, emdb.BytesLike, V2>;
}

interface Namespace<K, V, KeyIn, ValueIn> extends Keyspace<K, V, KeyIn, ValueIn> {
  readonly name: string;
}

interface Transaction {
  insert(key: emdb.BytesLike, value: emdb.BytesLike, options?: emdb.InsertOptions): void;
  get(key: emdb.BytesLike): Uint8Array | undefined;
  containsKey(key: emdb.BytesLike): boolean;
  remove(key: emdb.BytesLike): Uint8Array | undefined;
  namespace(name: string): Omit<emdb.Transaction, "namespace">;
}

interface Focus {
  readonly prefix: string;
  set(key: string, value: emdb.BytesLike, options?: emdb.InsertOptions): void;
  get(key: string): Uint8Array | undefined;
  containsKey(key: string): boolean;
  remove(key: string): Uint8Array | undefined;
  focus(sub: string): emdb.Focus;
  iter(): Walk<[Uint8Array, Uint8Array]>;
  deleteAll(): number;
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

interface Database extends Keyspace<Uint8Array, Uint8Array, emdb.BytesLike, emdb.BytesLike> {
  readonly recovery: emdb.RecoveryReport;
  readonly path: string | undefined;
  readonly isOpen: boolean;
  share(): emdb.EmdbShare;
  namespace(name: string): emdb.Namespace;
  namespace<K, V>(
    name: string,
    codecs: { readonly key: emdb.Codec<K>; readonly value: emdb.Codec<V> },
  ): emdb.Namespace<K, V, K, V>;
  namespace<V>(
    name: string,
    codecs: { readonly value: emdb.Codec<V> },
  ): emdb.Namespace<Uint8Array, V, emdb.BytesLike, V>;
  listNamespaces(): string[];
  dropNamespace(name: string): boolean;
  transaction<T>(body: (tx: emdb.Transaction) => T): T;
  focus(prefix: string): emdb.Focus;
  group(prefix: string): Walk<[Uint8Array, Uint8Array]>;
  deleteGroup(prefix: string): number;
  flush(): Promise<void>;
  flushSync(): void;
  checkpoint(): Promise<void>;
  compact(options?: emdb.ProgressOptions): Promise<void>;
  backupTo(target: Place, options?: emdb.ProgressOptions): Promise<void>;
  verify(options?: emdb.ProgressOptions): Promise<emdb.VerifyReport>;
  stats(): emdb.EmdbStats;
  close(): Promise<void>;
  closeSync(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

interface Statics {
  open(path: Place, options?: emdb.OpenOptions): emdb.Emdb;
  open(options: emdb.OpenOptions & emdb.LocationOptions): emdb.Emdb;
  openInMemory(options?: emdb.EngineOptions): emdb.Emdb;
  attach(share: emdb.EmdbShare): emdb.Emdb;
  resolvePath(options: emdb.LocationOptions): string;
  lockHolder(path: Place): emdb.LockHolder | undefined;
  breakLock(path: Place, options?: { readonly force?: boolean }): void;
  enableEncryption(
    path: Place,
    target: emdb.EncryptionInput & { readonly cipher?: emdb.Cipher },
    options?: emdb.ProgressOptions,
  ): Promise<void>;
  disableEncryption(path: Place, current: emdb.EncryptionInput, options?: emdb.ProgressOptions): Promise<void>;
  rotateEncryptionKey(
    path: Place,
    current: emdb.EncryptionInput,
    next: emdb.EncryptionInput,
    options?: emdb.ProgressOptions,
  ): Promise<void>;
  salvage(
    path: Place,
    target: Place,
    options?: emdb.ProgressOptions & { readonly encryption?: emdb.EncryptionInput },
  ): Promise<emdb.SalvageReport>;
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
  readonly code: emdb.EmdbErrorCode;
  readonly path?: string;
  readonly syscall?: string;
  readonly errno?: string;
  readonly offset?: number;
  readonly holder?: emdb.LockHolder;
}

// -- what there is besides ---------------------------------------------------

interface BackgroundWork {
  readonly sweepIntervalMs?: number;
  readonly autoCompact?: boolean | { readonly ratio?: number; readonly minBytes?: number };
}

/** Nor this. */
interface Waiting {
  readonly lockTimeoutMs?: number;
}

/** A compaction may be told more than other long calls. */
interface CompactOptions extends emdb.ProgressOptions {
  readonly inKeyOrder?: boolean;
}

interface WiderDatabase {
  compact(options?: emdb.CompactOptions): Promise<void>;
}

interface WiderStatics {
  resolvePath(options?: emdb.LocationOptions): string;
}

/** The ready-made codecs say what their bytes are, so that others can be made of them. */
interface WiderCodec<T, Encoded> {
  readonly encode: (value: T) => Encoded;
  readonly decode: (bytes: Uint8Array) => T;
}

interface WiderCodecs {
  readonly bytes: WiderCodec<Uint8Array, Uint8Array>;
  readonly text: WiderCodec<string, string>;
  json<T = unknown>(): WiderCodec<T, string>;
  structured<T = unknown>(): WiderCodec<T, Uint8Array>;
  readonly uint32: WiderCodec<number, Uint8Array>;
  readonly uint64: WiderCodec<bigint, Uint8Array>;
}

// -- the claims --------------------------------------------------------------

/** Whether the compiler takes both for one type; assignable to each other is not enough. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Members of the promise that are missing or are anything else. */
type Drifted<Promised, Given> = {
  [Name in keyof Promised]-?: Name extends keyof Given
    ? Same<Pick<Promised, Name>, Pick<Given, Name>> extends true
      ? never
      : Name
    : Name;
}[keyof Promised];

/** Of a promise that is kept nothing; else the members that it is not kept by, and those that were not promised. */
type Broken<Promised, Given, Wider = never, Added = never> = [Given] extends [Promised]
  ? Other<Drifted<Promised, Given>, Wider> | Other<Exclude<keyof Given, keyof Promised>, Added>
  : Drifted<Promised, Given>;

/** What stands in one of them only. */
type Other<Names, Expected> = Exclude<Names, Expected> | Exclude<Expected, Names>;

/** The same of types without members of their own. */
type Differs<Promised, Given> = Same<Promised, Given> extends true ? never : "another type";

interface Point {
  readonly x: number;
}

/** Every name of the package with what is not as promised: nothing. */
interface Found {
  readonly Emdb: Broken<Database, emdb.Emdb, keyof WiderDatabase>;
  readonly widerDatabase: Broken<WiderDatabase, Pick<emdb.Emdb, keyof WiderDatabase>>;
  readonly standIn: [Database] extends [emdb.Emdb] ? never : "asks for more than its members";
  readonly statics: Broken<Statics, typeof emdb.Emdb, keyof WiderStatics, "prototype">;
  readonly widerStatics: Broken<WiderStatics, Pick<typeof emdb.Emdb, keyof WiderStatics>>;
  readonly Keyspace: Broken<Keyspace<Uint8Array, Uint8Array, emdb.BytesLike, emdb.BytesLike>, emdb.Keyspace>;
  readonly keyspaceOfFour: Broken<
    Keyspace<number, Point, bigint, string>,
    emdb.Keyspace<number, Point, bigint, string>
  >;
  readonly keyspaceOfOne: Broken<Keyspace<number, Uint8Array, emdb.BytesLike, emdb.BytesLike>, emdb.Keyspace<number>>;
  readonly Namespace: Broken<Namespace<Uint8Array, Uint8Array, emdb.BytesLike, emdb.BytesLike>, emdb.Namespace>;
  readonly namespaceOfFour: Broken<
    Namespace<number, Point, bigint, string>,
    emdb.Namespace<number, Point, bigint, string>
  >;
  readonly namespaceOfOne: Broken<
    Namespace<number, Uint8Array, emdb.BytesLike, emdb.BytesLike>,
    emdb.Namespace<number>
  >;
  readonly Transaction: Broken<Transaction, emdb.Transaction>;
  readonly Focus: Broken<Focus, emdb.Focus>;
  readonly Codec: Broken<Codec<Point>, emdb.Codec<Point>>;
  readonly codec: Broken<Codecs, typeof emdb.codec, keyof WiderCodecs>;
  readonly widerCodecs: Broken<WiderCodecs, typeof emdb.codec>;
  readonly EmdbShare: Broken<Share, emdb.EmdbShare>;
  readonly EmdbStats: Broken<Stats, emdb.EmdbStats>;
  readonly RecoveryReport: Broken<RecoveryReport, emdb.RecoveryReport>;
  readonly LockHolder: Broken<LockHolder, emdb.LockHolder>;
  readonly VerifyReport: Broken<VerifyReport, emdb.VerifyReport>;
  readonly SalvageReport: Broken<SalvageReport, emdb.SalvageReport>;
  readonly EmdbError: Broken<Failure, emdb.EmdbError>;
  readonly EngineOptions: Broken<EngineOptions, emdb.EngineOptions, never, keyof BackgroundWork>;
  readonly OpenOptions: Broken<OpenOptions, emdb.OpenOptions, never, keyof BackgroundWork | keyof Waiting>;
  readonly backgroundWork: Broken<BackgroundWork, Pick<emdb.EngineOptions, keyof BackgroundWork>>;
  readonly waiting: Broken<Waiting, Pick<emdb.OpenOptions, keyof Waiting>>;
  readonly LocationOptions: Broken<LocationOptions, emdb.LocationOptions>;
  readonly InsertOptions: Broken<InsertOptions, emdb.InsertOptions>;
  readonly RangeOptions: Broken<RangeOptions<emdb.BytesLike>, emdb.RangeOptions>;
  readonly rangeOfNumbers: Broken<RangeOptions<number>, emdb.RangeOptions<number>>;
  readonly ProgressOptions: Broken<ProgressOptions, emdb.ProgressOptions>;
  readonly CompactOptions: Broken<CompactOptions, emdb.CompactOptions>;
  readonly BytesLike: Differs<Bytes, emdb.BytesLike>;
  readonly Cipher: Differs<Cipher, emdb.Cipher>;
  readonly FlushPolicy: Differs<FlushPolicy, emdb.FlushPolicy>;
  readonly EncryptionInput: Differs<EncryptionInput, emdb.EncryptionInput>;
  readonly EmdbErrorCode: Differs<ErrorCode, emdb.EmdbErrorCode>;
  readonly values: Differs<"Emdb" | "EmdbError" | "codec", keyof typeof emdb>;
}

type Nothing<T extends { readonly [Name in keyof T]: never }> = T;
export type Kept = Nothing<Found>;

// -- and that these would notice ---------------------------------------------

interface Sample {
  readonly held: string;
  may?: number;
  read(key: string): string | undefined;
  list<T = unknown>(): T[];
}

type Without<Name extends keyof Sample> = Omit<Sample, Name>;
/** Not checked by the compiler, as much as if it were written out. */
type Anything = ReturnType<JSON["parse"]>;

/** What each change of the sample is found by. */
interface Noticed {
  readonly same: [Broken<Sample, Sample>, never];
  readonly gone: [Broken<Sample, Without<"held">>, "held"];
  readonly added: [Broken<Sample, Sample & { readonly more: string }>, "more"];
  readonly writable: [Broken<Sample, Without<"held"> & { held: string }>, "held"];
  readonly required: [Broken<Sample, Without<"may"> & { may: number }>, "may"];
  readonly orUndefined: [Broken<Sample, Without<"may"> & { may?: number | undefined }>, "may"];
  readonly takesAnything: [Broken<Sample, Without<"read"> & { read(key: Anything): string | undefined }>, "read"];
  readonly givesAnything: [Broken<Sample, Without<"read"> & { read(key: string): Anything }>, "read"];
  readonly givesAlways: [Broken<Sample, Without<"read"> & { read(key: string): string }>, "read"];
  readonly otherDefault: [Broken<Sample, Without<"list"> & { list<T = string>(): T[] }>, "list"];
  readonly noException: [Broken<Sample, Sample, "held", "may">, "held" | "may"];
}
export type Unnoticed = Nothing<{ [Name in keyof Noticed]: Differs<Noticed[Name][1], Noticed[Name][0]> }>;

// @ts-expect-error what is found does not compile
export type NotKept = Nothing<{ readonly sample: Broken<Sample, Without<"held">> }>;
