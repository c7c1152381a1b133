/** The one door of emdb: its names, nothing else. */

export { Emdb } from "./api/emdb.ts";
export type {
  BytesLike,
  Cipher,
  Codec,
  CompactOptions,
  EmdbShare,
  EmdbStats,
  EncryptionInput,
  EngineOptions,
  FlushPolicy,
  Focus,
  InsertOptions,
  Keyspace,
  LocationOptions,
  LockHolder,
  Namespace,
  OpenOptions,
  ProgressOptions,
  RangeOptions,
  RecoveryReport,
  SalvageReport,
  Transaction,
  VerifyReport,
} from "./api/types.ts";
export { codec } from "./codec/codec.ts";
export { EmdbError, type EmdbErrorCode } from "./errors.ts";
