/**
 * Transactions: the writes gather in overlays, and the commit hands them to the engine as one batch while the
 * writer's lock is still held. A body that throws leaves nothing to undo.
 *
 * Invariants
 * 1. From the first line of the body to the end of the commit no other writer runs, so that what was read still holds.
 * 2. A namespace that the body names and that does not exist is created by the commit, and only if it is written to.
 * 3. Nothing nests: a second transaction, an update and a direct write inside a body are EMDB_INVALID_ARGUMENT
 *    (`Handle`'s gate). Direct reads inside it see the committed state.
 */

import type { BatchWrite, Store } from "../engine/contract.ts";
import { EmdbError } from "../errors.ts";
import { checkedKey, checkedNamespaceName, checkedValue } from "./bytes.ts";
import { deadlineOf, lifetimeOf } from "./deadline.ts";
import { describe } from "./describe.ts";
import type { Handle } from "./handle.ts";
import { Overlay } from "./overlay.ts";
import { isThenable, silence } from "./thenable.ts";
import type { BytesLike, InsertOptions, Transaction } from "./types.ts";

/**
 * As `Emdb.transaction`.
 *
 * @throws {EmdbError} EMDB_TRANSACTION_ASYNC, EMDB_INVALID_ARGUMENT when nested; what `body` throws, unchanged
 */
export function runTransaction<T>(handle: Handle, body: (tx: Transaction) => T): T {
  if (typeof body !== "function") {
    throw new EmdbError("EMDB_INVALID_ARGUMENT", `transaction takes a function, got ${describe(body)}`);
  }
  if (/GeneratorFunction/.test(Object.prototype.toString.call(body))) {
    throw new EmdbError(
      "EMDB_INVALID_ARGUMENT",
      "transaction takes a function, got a generator, of which nothing would run",
    );
  }
  return handle.guarded("transaction", (store) => {
    const state = new TransactionState(handle, store);
    try {
      const result = body(new TransactionRoot(state));
      refuseAsync(result);
      state.commit();
      return result;
    } finally {
      state.isEnded = true;
    }
  });
}

/** What the views of one transaction share. */
class TransactionState {
  isEnded = false;
  readonly handle: Handle;
  readonly store: Store;
  readonly root: Overlay;
  readonly #named = new Map<string, Overlay>();

  constructor(handle: Handle, store: Store) {
    this.handle = handle;
    this.store = store;
    this.root = new Overlay(store, { name: "", space: store.defaultSpace });
  }

  named(name: string): Overlay {
    const known = this.#named.get(name);
    if (known !== undefined) return known;
    const overlay = new Overlay(this.store, { name, space: this.handle.openLife().findSpace(name) });
    this.#named.set(name, overlay);
    return overlay;
  }

  /** @throws {EmdbError} EMDB_INVALID_ARGUMENT after the end */
  requireRunning(): void {
    if (!this.isEnded) return;
    throw new EmdbError(
      "EMDB_INVALID_ARGUMENT",
      "the transaction has ended; its object works inside the callback only",
    );
  }

  commit(): void {
    const writes: BatchWrite[] = [];
    for (const overlay of [this.root, ...this.#named.values()]) {
      const space = overlay.space ?? { newName: overlay.name };
      for (const { key, value, expiresAtMs } of overlay.pending) writes.push({ space, key, value, expiresAtMs });
    }
    if (writes.length > 0) this.store.writeBatch(writes);
  }
}

class TransactionView {
  readonly #state: TransactionState;
  readonly #overlay: Overlay;

  constructor(state: TransactionState, overlay: Overlay) {
    this.#state = state;
    this.#overlay = overlay;
  }

  insert(key: BytesLike, value: BytesLike, options?: InsertOptions): void {
    this.#requireWritable();
    const expiresAtMs = deadlineOf(lifetimeOf(options), this.#state.handle);
    this.#overlay.insert({ key: checkedKey(key), value: checkedValue(value), expiresAtMs });
  }

  get(key: BytesLike): Uint8Array | undefined {
    this.#state.requireRunning();
    return this.#overlay.get(checkedKey(key));
  }

  containsKey(key: BytesLike): boolean {
    this.#state.requireRunning();
    return this.#overlay.has(checkedKey(key));
  }

  remove(key: BytesLike): Uint8Array | undefined {
    this.#requireWritable();
    return this.#overlay.remove(checkedKey(key));
  }

  #requireWritable(): void {
    this.#state.requireRunning();
    if (!this.#state.store.isReadOnly) return;
    throw new EmdbError("EMDB_READ_ONLY", "the database is open for reading only", { path: this.#state.handle.path });
  }
}

class TransactionRoot extends TransactionView implements Transaction {
  readonly #state: TransactionState;

  constructor(state: TransactionState) {
    super(state, state.root);
    this.#state = state;
  }

  /** `codecs` is what no TypeScript passes: left unread it would give bytes where a value is expected. */
  namespace(name: string, codecs?: unknown): Omit<Transaction, "namespace"> {
    this.#state.requireRunning();
    if (codecs !== undefined) {
      throw new EmdbError(
        "EMDB_INVALID_ARGUMENT",
        "a transaction works on bytes, so its namespace takes a name alone; use encode and decode of the codecs",
      );
    }
    return new TransactionView(this.#state, this.#state.named(checkedNamespaceName(name)));
  }
}

function refuseAsync(result: unknown): void {
  if (!isThenable(result)) return;
  silence(result);
  throw new EmdbError(
    "EMDB_TRANSACTION_ASYNC",
    "the transaction's callback returned a promise and was rolled back; await before the transaction, not inside",
  );
}
