/**
 * The calls that read and write one record as one step. All of them hold the writer's lock in between, and work with a copy of
 * the key: one that another thread changed in between would be another record.
 */

import type { Store } from "../engine/contract.ts";
import { EmdbError } from "../errors.ts";
import { isSameBytes, ownArray, ownCopy } from "./bytes.ts";
import type { CodedSpace } from "./coded-space.ts";
import { deadlineOf, isPast, lifetimeOf } from "./deadline.ts";
import { describe } from "./describe.ts";
import { isThenable, silence } from "./thenable.ts";
import type { InsertOptions } from "./types.ts";

/** As `Keyspace.compareAndSwap`. Everything is encoded before the lock is taken. */
export function compareAndSwap<K, V, KeyIn, ValueIn>(
  coded: CodedSpace<K, V, KeyIn, ValueIn>,
  swap: {
    readonly key: KeyIn;
    readonly expected: ValueIn | undefined;
    readonly next: ValueIn | undefined;
    readonly options: InsertOptions | undefined;
  },
): boolean {
  const { handle, space } = coded;
  handle.writable();
  const lifetime = lifetimeOf(swap.options);
  const key = ownCopy(coded.keyIn(swap.key));
  const expected = swap.expected === undefined ? undefined : coded.valueKept(swap.expected, "expected value");
  const next = swap.next === undefined ? undefined : coded.valueKept(swap.next, "next value");
  // Behind the arguments: reading them may have closed the handle.
  const { store } = handle;
  return store.exclusively(() => {
    const current = store.get(space, key);
    if (current === undefined || expected === undefined) {
      if (current !== expected) return false;
    } else if (!isSameBytes(current, expected)) return false;
    if (next !== undefined) store.insert(space, key, next, deadlineOf(lifetime, handle));
    // Also where nothing is visible: an expired record goes with it.
    else store.remove(space, key);
    return true;
  });
}

/** As `Keyspace.update`. */
export function update<K, V, KeyIn, ValueIn>(
  coded: CodedSpace<K, V, KeyIn, ValueIn>,
  request: {
    readonly key: KeyIn;
    readonly change: (current: V | undefined) => ValueIn | undefined;
    readonly options: InsertOptions | undefined;
  },
): V | undefined {
  const { handle, space } = coded;
  const { change } = request;
  if (typeof change !== "function") {
    throw new EmdbError("EMDB_INVALID_ARGUMENT", `update takes a function, got ${describe(change)}`);
  }
  handle.writable();
  const lifetime = lifetimeOf(request.options);
  const key = ownCopy(coded.keyIn(request.key));
  return handle.guarded("update", (store) => {
    const current = store.get(space, key);
    const next = change(current === undefined ? undefined : coded.valueOut(current));
    if (next === undefined) {
      store.remove(space, key);
      return undefined;
    }
    refusePromise(next);
    const kept = coded.valueKept(next);
    const own = ownArray(kept);
    // Decoded before the write, so that a codec that cannot read its own bytes leaves the old value.
    const stored = coded.valueOut(own);
    // Without a codec what was kept is the caller's array, and what is returned must be what is stored; with one it is the
    // other way round, since decoding may change what it is given.
    const bytes = coded.valueCodec === undefined ? own : kept;
    // A time to live begins now, however long the function took.
    const expiresAtMs = deadlineOf(lifetime, handle);
    store.insert(space, key, bytes, expiresAtMs);
    return isPast(expiresAtMs, store) ? undefined : stored;
  });
}

/** As `Keyspace.persist`: the same value, written again without a deadline. */
export function persist<K, V, KeyIn, ValueIn>(coded: CodedSpace<K, V, KeyIn, ValueIn>, keyGiven: KeyIn): boolean {
  const { handle, space } = coded;
  handle.writable();
  const key = ownCopy(coded.keyIn(keyGiven));
  const { store } = handle;
  return store.exclusively(() => {
    const expiresAtMs = store.expiresAt(space, key);
    if (expiresAtMs === undefined || expiresAtMs === 0) return false;
    const value = store.get(space, key);
    if (value === undefined) return false;
    store.insert(space, key, value, 0);
    return true;
  });
}

/** `remove` through a value codec: decodes before it removes, so that a codec that throws removes nothing. */
export function removeDecoded<K, V, KeyIn, ValueIn>(
  coded: CodedSpace<K, V, KeyIn, ValueIn>,
  keyGiven: KeyIn,
): V | undefined {
  const { handle, space } = coded;
  handle.writable();
  const key = coded.keyKept(keyGiven);
  return handle.guarded("remove", (store: Store) => {
    const current = store.get(space, key);
    const value = current === undefined ? undefined : coded.valueOut(current);
    store.remove(space, key);
    return value;
  });
}

function refusePromise(next: unknown): void {
  if (!isThenable(next)) return;
  silence(next);
  throw new EmdbError(
    "EMDB_TRANSACTION_ASYNC",
    "the function given to update returned a promise; it must be synchronous",
  );
}
