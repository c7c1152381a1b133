/**
 * What a transaction has written to one key space and not committed: a map over the state at the start, one entry
 * for each key with the last thing said about it.
 *
 * A key is found by its bytes as a string of characters 0 to 255, which is itself for the usual ASCII key.
 */

import type { Bytes, Space, Store } from "../engine/contract.ts";
import { ownArray, ownCopy } from "./bytes.ts";
import { isPast } from "./deadline.ts";

/** `value` undefined is a removal. */
export interface PendingWrite {
  readonly key: Bytes;
  readonly value: Bytes | undefined;
  readonly expiresAtMs: number;
}

export class Overlay {
  /** "" for the default key space. */
  readonly name: string;
  readonly #store: Store;
  /** Undefined while the namespace does not exist: then there is nothing under the overlay. */
  readonly space: Space | undefined;
  readonly #pending = new Map<string, PendingWrite>();

  constructor(store: Store, place: { readonly name: string; readonly space: Space | undefined }) {
    this.#store = store;
    this.name = place.name;
    this.space = place.space;
  }

  get pending(): Iterable<PendingWrite> {
    return this.#pending.values();
  }

  get(key: Bytes): Uint8Array | undefined {
    const pending = this.#pendingOf(key);
    if (pending === undefined) return this.space === undefined ? undefined : this.#store.get(this.space, key);
    return this.#isVisible(pending) ? ownArray(pending.value) : undefined;
  }

  has(key: Bytes): boolean {
    const pending = this.#pendingOf(key);
    if (pending === undefined) return this.space !== undefined && this.#store.has(this.space, key);
    return this.#isVisible(pending);
  }

  /** Copies both: the caller may change its arrays before the commit, another thread at any time. */
  insert(write: { readonly key: Bytes; readonly value: Bytes; readonly expiresAtMs: number }): void {
    const key = ownCopy(write.key);
    this.#pending.set(idOf(key), { key, value: ownCopy(write.value), expiresAtMs: write.expiresAtMs });
  }

  remove(given: Bytes): Uint8Array | undefined {
    const key = ownCopy(given);
    const current = this.get(key);
    // In a namespace that does not exist there is nothing to remove, and a removal must not create it. In any other also
    // where nothing is visible, since an expired record may be held; the engine writes nothing where none is.
    if (this.space === undefined) this.#pending.delete(idOf(key));
    else this.#pending.set(idOf(key), { key, value: undefined, expiresAtMs: 0 });
    return current;
  }

  #pendingOf(key: Bytes): PendingWrite | undefined {
    return this.#pending.size === 0 ? undefined : this.#pending.get(idOf(key));
  }

  #isVisible(pending: PendingWrite): pending is PendingWrite & { readonly value: Bytes } {
    return pending.value !== undefined && !isPast(pending.expiresAtMs, this.#store);
  }
}

/** As many UTF-8 bytes as characters means ASCII, and then both strings are one. */
function idOf(key: Bytes): string {
  if (typeof key === "string") {
    return Buffer.byteLength(key, "utf8") === key.length ? key : Buffer.from(key, "utf8").toString("latin1");
  }
  return Buffer.prototype.toString.call(key, "latin1");
}
