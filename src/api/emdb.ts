/**
 * The ways to open a database, and what can be done to a file without opening it.
 *
 * Decision: a handle is known to the compiler by its members alone. A class with private ones would let nothing take its place,
 * such as a program's own in a test.
 * Invariant: a secret is what is checked last. The check copies it, and only the engine, once it is called, wipes the copy.
 */

import { door } from "../engine/door.ts";
import { EmdbError } from "../errors.ts";
import { processEnvironment } from "../ffi/environment.ts";
import { Database } from "./database.ts";
import { describe, refuseUnknownNames, isOptions } from "./describe.ts";
import type { INSPECT } from "./inspect.ts";
import type { Lifecycle } from "../engine/life.ts";
import { locationPath } from "./location.ts";
import { checkedEngineOptions, checkedOpenOptions, requireLocation } from "./open-options.ts";
import { checkedPath, checkedProgress, isUrl } from "./paths.ts";
import { checkedCipher, checkedSecret, checkedSecrets } from "./secrets.ts";
import type {
  Cipher,
  EmdbShare,
  EncryptionInput,
  EngineOptions,
  Keyspace,
  LocationOptions,
  LockHolder,
  OpenOptions,
  ProgressOptions,
  SalvageReport,
} from "./types.ts";

/** What a class has that implements a database, and a handle need not have: how it shows in a log. */
type Shown = "toJSON" | typeof INSPECT;

/** An open database. Made by `Emdb.open`, `Emdb.openInMemory` and `Emdb.attach`. */
export interface Emdb extends Keyspace, Omit<Database, keyof Keyspace | Shown> {}

class OpenDatabase extends Database {
  static {
    Object.defineProperty(this, "name", { value: "Emdb", configurable: true });
  }

  constructor(life?: Lifecycle) {
    // A caller without types can still write `new Emdb(path)`.
    if (typeof life?.store !== "object") {
      throw new EmdbError("EMDB_INVALID_ARGUMENT", "a database is opened by Emdb.open(path), not by new");
    }
    super(life);
  }

  /**
   * Opens or creates the database file at `path`; its folder must exist. One process at a time: EMDB_LOCKED names
   * the holder. Within a thread, opening a path that is already open gives one more handle on the same database (the
   * options must agree, else EMDB_INVALID_CONFIG), which closes with its last handle; another Worker of the process
   * attaches instead, and EMDB_LOCKED says so.
   *
   * @throws {EmdbError} EMDB_INVALID_ARGUMENT, EMDB_INVALID_CONFIG, EMDB_TOO_LARGE for a passphrase, EMDB_NOT_FOUND, EMDB_LOCKED,
   * EMDB_NOT_A_DATABASE, EMDB_VERSION, EMDB_CORRUPTED, EMDB_KEY_MISMATCH, EMDB_FULL, EMDB_IO, EMDB_UNSUPPORTED; nothing on disk has changed
   */
  static open(path: string | URL, options?: OpenOptions): Emdb;
  /** Opens or creates it where the platform keeps application data; creates the folders. */
  static open(options: OpenOptions & LocationOptions): Emdb;
  static open(where: string | URL | (OpenOptions & LocationOptions), options?: OpenOptions): Emdb {
    if (typeof where === "string" || isUrl(where)) {
      const path = checkedPath(where);
      const config = checkedOpenOptions(options, { hasLocation: false });
      return new OpenDatabase(door.open({ path, createFolders: false, config }));
    }
    if (!isOptions(where) || options !== undefined) {
      throw new EmdbError(
        "EMDB_INVALID_ARGUMENT",
        `open takes (path, options?) or (options), got ${describe(where)}${options === undefined ? "" : " and a second argument"}`,
      );
    }
    requireLocation(where);
    const path = locationPath(where, processEnvironment);
    const config = checkedOpenOptions(where, { hasLocation: true });
    return new OpenDatabase(door.open({ path, createFolders: config.createIfMissing, config }));
  }

  /**
   * Nothing on disk; everything else behaves alike. One that is not closed goes with the last that refers to it, unless it
   * was shared; `using` does not wait for the garbage collector.
   *
   * @throws {EmdbError} EMDB_INVALID_CONFIG, EMDB_TOO_LARGE for a passphrase, EMDB_UNSUPPORTED, EMDB_IO
   */
  static openInMemory(options?: EngineOptions): Emdb {
    return new OpenDatabase(door.openInMemory(checkedEngineOptions(options)));
  }

  /** In another Worker of the process that opened it: the same database, reads and writes alike. */
  static attach(share: EmdbShare): Emdb {
    if (!isOptions(share) || (share as { readonly kind?: unknown }).kind !== "emdb-share") {
      throw new EmdbError("EMDB_INVALID_ARGUMENT", `attach takes what share() gave, got ${describe(share)}`);
    }
    return new OpenDatabase(door.attach(share));
  }

  /**
   * The path `open` would use. Creates nothing.
   *
   * @throws {EmdbError} EMDB_INVALID_CONFIG for a name that is not one on every platform
   */
  static resolvePath(options: LocationOptions = {}): string {
    requireLocation(options);
    return locationPath(options, processEnvironment);
  }

  /** Who opened it last; undefined when nobody left a record. */
  static lockHolder(path: string | URL): LockHolder | undefined {
    return door.lockHolder(checkedPath(path));
  }

  /** Removes what a dead holder left. Refuses with EMDB_LOCKED while the holder is alive, unless `force`. */
  static breakLock(path: string | URL, options: { readonly force?: boolean } = {}): void {
    const target = checkedPath(path);
    if (!isOptions(options)) {
      throw new EmdbError("EMDB_INVALID_ARGUMENT", `the options must be an object, got ${describe(options)}`);
    }
    refuseUnknownNames(options, { what: "breakLock", known: ["force"], code: "EMDB_INVALID_ARGUMENT" });
    const { force = false } = options;
    if (typeof force !== "boolean") {
      throw new EmdbError("EMDB_INVALID_ARGUMENT", `force must be true or false, got ${describe(force)}`);
    }
    door.breakLock(target, { force });
  }

  /** Offline and crash-safe: at every moment the path opens with either the old or the new secret. */
  static async enableEncryption(
    path: string | URL,
    target: EncryptionInput & { readonly cipher?: Cipher },
    options?: ProgressOptions,
  ): Promise<void> {
    const file = checkedPath(path);
    const progress = checkedProgress(options);
    const cipher = isOptions(target) ? checkedCipher(target.cipher) : undefined;
    const next = checkedSecret(target, ["cipher"]);
    await door.enableEncryption({ path: file, current: undefined, next, cipher }, progress);
  }

  /** As `enableEncryption`, back to plain. */
  static async disableEncryption(
    path: string | URL,
    current: EncryptionInput,
    options?: ProgressOptions,
  ): Promise<void> {
    const file = checkedPath(path);
    const progress = checkedProgress(options);
    const secret = checkedSecret(current);
    await door.disableEncryption({ path: file, current: secret, next: undefined, cipher: undefined }, progress);
  }

  /** As `enableEncryption`, from one secret to another; the cipher stays. */
  static async rotateEncryptionKey(
    path: string | URL,
    current: EncryptionInput,
    next: EncryptionInput,
    options?: ProgressOptions,
  ): Promise<void> {
    const file = checkedPath(path);
    const progress = checkedProgress(options);
    const secrets = checkedSecrets(current, next);
    await door.rotateEncryptionKey({ path: file, ...secrets, cipher: undefined }, progress);
  }

  /**
   * Copies every sound record of a damaged file into a new database at `target`; the source is only read. The copy of an
   * encrypted one is encrypted with the same secret, which `encryption` gives.
   *
   * @throws {EmdbError} EMDB_INVALID_CONFIG for a target that is there already, EMDB_LOCKED for a source that somebody has open, EMDB_KEY_MISMATCH,
   * EMDB_NOT_FOUND, EMDB_NOT_A_DATABASE, EMDB_VERSION, EMDB_FULL, EMDB_IO, EMDB_ABORTED
   */
  static async salvage(
    path: string | URL,
    target: string | URL,
    options: ProgressOptions & { readonly encryption?: EncryptionInput } = {},
  ): Promise<SalvageReport> {
    const source = checkedPath(path);
    const copy = checkedPath(target, { what: "target" });
    if (source === copy) throw new EmdbError("EMDB_INVALID_CONFIG", "the target must not be the damaged file");
    const progress = checkedProgress(options, { extra: ["encryption"] });
    const { encryption } = options;
    const secret = encryption === undefined ? undefined : checkedSecret(encryption);
    return await door.salvage({ path: source, target: copy, encryption: secret }, progress);
  }
}

/** The ways to open a database. Abstract, since `new` is none of them. */
type Opening = Omit<typeof OpenDatabase, "prototype"> & (abstract new () => Emdb) & { readonly prototype: Emdb };

/** The ways to open a database, and what can be done to a file without opening it. */
export const Emdb: Opening = OpenDatabase;
