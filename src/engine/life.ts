/**
 * What `Emdb` needs from the engine beyond `Store`: opening, closing, and the calls about a whole database.
 * The engine provides one `EngineDoor`; every argument has been checked and filled in before it gets there.
 *
 * Invariants
 * 1. Each `open`, `openInMemory` and `attach` returns a handle of its own; handles of one engine in one thread
 *    share one `store` object (write gates of transactions hang on its identity).
 * 2. `close` and `closeSync` give one handle back, at most once in effect: calling either again, also
 *    `closeSync` while `close` is pending, must be harmless. The engine closes with its last handle.
 * 3. A failed open changes nothing on disk; `EmdbError` only.
 */

import type { Space, Store } from "./contract.ts";
import type {
  Cipher,
  CompactOptions,
  EmdbShare,
  EmdbStats,
  EncryptionInput,
  LockHolder,
  ProgressOptions,
  RecoveryReport,
  SalvageReport,
  VerifyReport,
} from "../api/types.ts";

/** `FlushPolicy` with one shape for every case. */
export type FlushPlan =
  | { readonly kind: "group"; readonly waitMsMax: number; readonly batchMax: number }
  | { readonly kind: "on-each-flush" }
  | { readonly kind: "write-through" };

/** `autoCompact`, checked and complete. */
export interface AutoCompactPlan {
  /** Least share of the log that is dead. */
  readonly ratio: number;
  /** Least bytes of the log that are dead. */
  readonly bytesMin: number;
}

/** `EngineOptions`, checked and complete. */
export interface EngineConfig {
  /** 0: records without a TTL of their own never expire. */
  readonly defaultTtlMs: number;
  /** Absent or 0: nothing is swept in the background. */
  readonly sweepIntervalMs?: number;
  /** Undefined: compacted on request only. */
  readonly autoCompact?: AutoCompactPlan | undefined;
  readonly rangeScans: boolean;
  readonly flushPlan: FlushPlan;
  /** A private copy whose properties are not enumerable, so that no inspection or JSON shows them. */
  readonly encryption: EncryptionInput | undefined;
  /** Undefined when the caller named none: the default for a new file, the file's own otherwise. */
  readonly cipher: Cipher | undefined;
  readonly verifyReads: boolean;
}

/** `OpenOptions`, checked and complete. */
export interface OpenConfig extends EngineConfig {
  /** Never together with `readOnly`. */
  readonly createIfMissing: boolean;
  readonly readOnly: boolean;
  /** How long another process that has the lock is waited for. */
  readonly lockTimeoutMs: number;
}

/** Where and how to open. */
export interface OpenRequest {
  /** Absolute, without a trailing separator. */
  readonly path: string;
  /** Create the missing folders above `path` first (only ever together with `createIfMissing`). */
  readonly createFolders: boolean;
  readonly config: OpenConfig;
}

/** One handle on an open engine. */
export interface Lifecycle {
  readonly store: Store;
  readonly defaultTtlMs: number;
  /** Undefined in memory. */
  readonly path: string | undefined;
  readonly recovery: RecoveryReport;
  /** The named space, or undefined when there is none; creates nothing. `Store.spaceNamed` would. */
  findSpace(name: string): Space | undefined;
  share(): EmdbShare;
  stats(): EmdbStats;
  flush(): Promise<void>;
  flushSync(): void;
  checkpoint(): Promise<void>;
  compact(options: CompactOptions): Promise<void>;
  /** `target` is absolute. */
  backupTo(target: string, options: ProgressOptions): Promise<void>;
  verify(options: ProgressOptions): Promise<VerifyReport>;
  close(): Promise<void>;
  closeSync(): void;
}

/** An offline change of a file's secrets; undefined is "not encrypted". */
export interface RekeyRequest {
  readonly path: string;
  readonly current: EncryptionInput | undefined;
  readonly next: EncryptionInput | undefined;
  /** Of the result, when it is encrypted now and was not before; undefined for the default. */
  readonly cipher: Cipher | undefined;
}

export interface SalvageRequest {
  readonly path: string;
  readonly target: string;
  readonly encryption: EncryptionInput | undefined;
}

/** What the engine offers before there is a handle. All paths are absolute. */
export interface EngineDoor {
  open(request: OpenRequest): Lifecycle;
  openInMemory(config: EngineConfig): Lifecycle;
  attach(share: EmdbShare): Lifecycle;
  lockHolder(path: string): LockHolder | undefined;
  breakLock(path: string, options: { readonly force: boolean }): void;
  /** Plain to encrypted. */
  enableEncryption(request: RekeyRequest, options: ProgressOptions): Promise<void>;
  /** Encrypted to plain. */
  disableEncryption(request: RekeyRequest, options: ProgressOptions): Promise<void>;
  rotateEncryptionKey(request: RekeyRequest, options: ProgressOptions): Promise<void>;
  salvage(request: SalvageRequest, options: ProgressOptions): Promise<SalvageReport>;
}
