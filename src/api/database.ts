/** Everything that an open database offers; `Emdb` adds the ways to open one. */

import { checkedNamespaceName } from "./bytes.ts";
import { CodedSpace, checkedCodecs, RAW } from "./coded-space.ts";
import { FocusView } from "./focus.ts";
import { Handle } from "./handle.ts";
import { INSPECT, type Inspect, inspected } from "./inspect.ts";
import { KeyspaceView } from "./keyspace.ts";
import type { Lifecycle } from "../engine/life.ts";
import { NamespaceView } from "./namespace.ts";
import { checkedCompact, checkedPath, checkedProgress } from "./paths.ts";
import { runTransaction } from "./transaction.ts";
import type {
  BytesLike,
  Codec,
  CompactOptions,
  EmdbShare,
  EmdbStats,
  Focus,
  Namespace,
  ProgressOptions,
  RecoveryReport,
  Transaction,
  VerifyReport,
} from "./types.ts";

type RawSpace = CodedSpace<Uint8Array, Uint8Array, BytesLike, BytesLike>;

export class Database
  extends KeyspaceView<Uint8Array, Uint8Array, BytesLike, BytesLike>
  implements Disposable, AsyncDisposable
{
  readonly #handle: Handle;
  readonly #coded: RawSpace;

  constructor(life: Lifecycle) {
    const handle = new Handle(life);
    const coded: RawSpace = new CodedSpace({ handle, space: life.store.defaultSpace }, RAW);
    super(coded);
    this.#handle = handle;
    this.#coded = coded;
  }

  /** What the open of this file had to do, frozen; also after `close`. */
  get recovery(): RecoveryReport {
    return this.#handle.recovery;
  }

  /** Undefined for an in-memory database; also after `close`. */
  get path(): string | undefined {
    return this.#handle.path;
  }

  /** Whether this handle works; others on the same database may when it does not. */
  get isOpen(): boolean {
    return this.#handle.isOpen;
  }

  /** A token for another Worker of this process. @throws {EmdbError} EMDB_CLOSED, EMDB_UNSUPPORTED */
  share(): EmdbShare {
    return this.#handle.openLife().share();
  }

  // -- named key spaces ------------------------------------------------------

  /**
   * Opens or creates a named key space. The name is any non-empty string of up to 1024 bytes.
   * Inside a transaction's callback it opens only; there the transaction's own `namespace` creates.
   *
   * @throws {EmdbError} EMDB_INVALID_ARGUMENT, EMDB_TOO_LARGE, EMDB_CLOSED, EMDB_READ_ONLY when it does not exist; `listNamespaces` tells
   */
  namespace(name: string): Namespace;
  namespace<K, V>(name: string, codecs: { readonly key: Codec<K>; readonly value: Codec<V> }): Namespace<K, V, K, V>;
  namespace<V>(name: string, codecs: { readonly value: Codec<V> }): Namespace<Uint8Array, V, BytesLike, V>;
  namespace(
    name: string,
    codecs?: { readonly key?: Codec<unknown>; readonly value: Codec<unknown> },
  ): Namespace<unknown, unknown, unknown, unknown> {
    const handle = this.#handle;
    checkedNamespaceName(name);
    const checked = codecs === undefined ? RAW : checkedCodecs(codecs);
    return new NamespaceView(new CodedSpace({ handle, space: handle.spaceNamed(name) }, checked));
  }

  /** Named key spaces, in order of creation. */
  listNamespaces(): string[] {
    return this.#handle.store.spaceNames();
  }

  /** Drops it with all its records, durably as one step. False if there was none. */
  dropNamespace(name: string): boolean {
    return this.#handle.writable().dropSpace(checkedNamespaceName(name));
  }

  // -- several records at once -----------------------------------------------

  /**
   * Runs `body` with the writer's lock: all its writes happen, or none, also across a power loss. A throw rolls
   * back and is rethrown unchanged. Inside `body` only the transaction writes: another transaction, an `update` or
   * a direct write to the same database is EMDB_INVALID_ARGUMENT; direct reads see the committed state.
   *
   * @throws {EmdbError} EMDB_TRANSACTION_ASYNC when `body` returns a promise; nothing is written
   */
  transaction<T>(body: (tx: Transaction) => T): T {
    return runTransaction(this.#handle, body);
  }

  /** A view of the keys that start with `prefix` and a dot. @throws {EmdbError} EMDB_INVALID_ARGUMENT, EMDB_CLOSED */
  focus(prefix: string): Focus {
    this.#handle.openLife();
    return new FocusView({ coded: this.#coded, keyspace: this }, prefix);
  }

  /** The records of `focus(prefix)`, with whole keys. */
  group(prefix: string): IteratorObject<[Uint8Array, Uint8Array], undefined> {
    return this.focus(prefix).iter();
  }

  /** Removes the records of `focus(prefix)`, all or nothing. Returns how many. */
  deleteGroup(prefix: string): number {
    return this.focus(prefix).deleteAll();
  }

  // -- the file --------------------------------------------------------------

  /** Resolves when everything written before the call is durable. @throws {EmdbError} EMDB_POISONED, EMDB_IO, EMDB_FULL */
  flush(): Promise<void> {
    try {
      return this.#handle.openLife().flush();
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** As `flush`, on the calling thread. */
  flushSync(): void {
    this.#handle.openLife().flushSync();
  }

  /**
   * Flushes, and makes the next open fast whatever the size of the log. One that is pending at `close` resolves with the
   * image that the close makes, and is EMDB_CLOSED where it makes none: another Worker stays, a sync has failed, the disk
   * refuses.
   *
   * @throws {EmdbError} EMDB_POISONED, EMDB_FULL, EMDB_IO, EMDB_READ_ONLY; EMDB_INVALID_CONFIG when the file's name is so
   *   long that none fits beside it
   */
  async checkpoint(): Promise<void> {
    await this.#handle.openLife().checkpoint();
  }

  /**
   * Rewrites the live records into a fresh file and swaps it in, while reads and writes go on. The disk needs room for
   * both files until then. An error leaves every record as it was; what had expired may have been swept, and the log be
   * longer by that, and by more if it was to be `inKeyOrder`.
   *
   * @throws {EmdbError} EMDB_FULL when the disk is, or when iterators that began before keep eight replaced files already;
   *   EMDB_ABORTED, EMDB_IO, EMDB_READ_ONLY, EMDB_POISONED, EMDB_CORRUPTED; EMDB_CLOSED where it is pending at `close`;
   *   EMDB_INVALID_CONFIG when the file's name is so long that none fits beside it, and for `inKeyOrder` without `rangeScans`
   *   or with encryption
   */
  async compact(options?: CompactOptions): Promise<void> {
    await this.#handle.openLife().compact(checkedCompact(options));
  }

  /**
   * Writes a consistent, openable database to `target`, atomically, while reads and writes go on. A file that is there
   * already is replaced.
   *
   * @throws {EmdbError} EMDB_INVALID_ARGUMENT for a name that is too long, EMDB_INVALID_CONFIG for the database itself, EMDB_LOCKED for one that somebody has open,
   *   EMDB_ABORTED, EMDB_FULL, EMDB_IO, EMDB_NOT_FOUND, EMDB_CLOSED where it is pending at `close`
   */
  async backupTo(target: string | URL, options?: ProgressOptions): Promise<void> {
    const path = checkedPath(target, { what: "target" });
    await this.#handle.openLife().backupTo(path, checkedProgress(options));
  }

  /**
   * Reads the whole file and checks every record as of the call; what is wrong is reported, not thrown. How many records the
   * indexes showed at the call is not counted where others write more than twice the log, and 32 MiB, until it is through.
   *
   * @throws {EmdbError} EMDB_ABORTED, EMDB_IO, EMDB_CLOSED where it is pending at `close`
   */
  async verify(options?: ProgressOptions): Promise<VerifyReport> {
    return await this.#handle.openLife().verify(checkedProgress(options));
  }

  /** Counts and sizes, at the moment of the call. */
  stats(): EmdbStats {
    return this.#handle.openLife().stats();
  }

  // -- the end ---------------------------------------------------------------

  /**
   * Flushes, checkpoints, releases every mapping, handle and lock before it resolves. Idempotent: calls made while it
   * goes on share its outcome, later ones do nothing, also after one that failed.
   *
   * @throws {EmdbError} EMDB_POISONED, EMDB_FULL, EMDB_IO of the flush; everything is released all the same
   */
  close(): Promise<void> {
    return this.#handle.close();
  }

  /** As `close`, on the calling thread; finishes a `close` that is under way. */
  closeSync(): void {
    this.#handle.closeSync();
  }

  /** `closeSync`, for `using`. */
  [Symbol.dispose](): void {
    this.closeSync();
  }

  /** `close`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Path and state: a handle in a log or in JSON shows no records. */
  override toJSON(): object {
    return { path: this.path, isOpen: this.isOpen };
  }

  /** What `console.log` shows: the same as `toJSON`. */
  override [INSPECT](_depth: number, options: object, inspect: Inspect): string {
    return inspected("Emdb", { value: this.toJSON(), options, inspect });
  }
}
