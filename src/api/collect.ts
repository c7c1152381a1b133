/**
 * Batches: everything that a caller's iterable gives, checked and encoded before the engine hears of any of it.
 *
 * A generator may fill one buffer again for each entry, so what comes from one is copied at once. Arrays, maps and sets
 * have none that runs between two entries, unless somebody made an element a getter, and their bytes are used in place.
 * For the sake of that somebody each length is looked at again, when all have been read (`engine/write/batch-lengths.ts`): of a
 * buffer that was detached, shrunk or grown meanwhile, other bytes would be used than were checked.
 */

import { keyTerm, valueTerm } from "../engine/write/batch-lengths.ts";
import type { Bytes, CheckedLengths } from "../engine/contract.ts";
import { EmdbError } from "../errors.ts";
import { BATCH_WRITES_MAX } from "../limits.ts";
import { ownCopy, refuseResized } from "./bytes.ts";
import { isFromCodec, type CodedSpace } from "./coded-space.ts";
import { describe } from "./describe.ts";

/** Room is made for so many at once: fewer are soon collected, and of more an array only says that it has them. */
const ROOM_MIN = 1024;
const ROOM_MAX = 2 ** 20;

/** Equally long; the entry at one index is one record. */
export interface CollectedEntries {
  readonly keys: readonly Bytes[];
  readonly values: readonly Bytes[];
  /** Of bytes that are the caller's. */
  readonly lengths?: CheckedLengths;
}

/** @throws {EmdbError} EMDB_INVALID_ARGUMENT, EMDB_TOO_LARGE; what a codec or the iterable throws, unchanged */
export function collectEntries<K, V, KeyIn, ValueIn>(
  coded: CodedSpace<K, V, KeyIn, ValueIn>,
  entries: Iterable<readonly [KeyIn, ValueIn]>,
): CollectedEntries {
  requireIterable(entries, "entries");
  return naming("entry", (place) =>
    isBuiltIn(entries) ? collectInPlace(coded, entries, place) : collectCopies(coded, entries, place),
  );
}

function collectInPlace<K, V, KeyIn, ValueIn>(
  coded: CodedSpace<K, V, KeyIn, ValueIn>,
  entries: Iterable<readonly [KeyIn, ValueIn]>,
  place: Place,
): CollectedEntries {
  const expected = Array.isArray(entries) ? entries.length : 0;
  const [keys, values] = [roomFor(expected), roomFor(expected)];
  let count = 0;
  let sum = 0;
  for (const entry of entries) {
    if (!Array.isArray(entry)) throw wrong(`entry ${count} must be [key, value], got ${describe(entry)}`);
    if (count === BATCH_WRITES_MAX) throw tooMany();
    place.index = count;
    const key = coded.keyKept(entry[0]);
    keys[count] = key;
    // The key's first: the value's codec may run.
    sum = (sum + keyTerm(key, count)) | 0;
    const value = coded.valueKept(entry[1]);
    values[count] = value;
    sum = (sum + valueTerm(value, count)) | 0;
    place.index = -1;
    count += 1;
  }
  // Code of the caller's may have shortened the array.
  keys.length = count;
  values.length = count;
  return { keys, values, lengths: { sum, onChanged: () => refuseResized(keys, values) } };
}

/** An array for as many as are expected: one that grows is moved again and again, to memory that is new to the process. */
function roomFor(expected: number): Bytes[] {
  return expected < ROOM_MIN ? [] : Array.from<Bytes>({ length: Math.min(expected, ROOM_MAX) });
}

function collectCopies<K, V, KeyIn, ValueIn>(
  coded: CodedSpace<K, V, KeyIn, ValueIn>,
  entries: Iterable<readonly [KeyIn, ValueIn]>,
  place: Place,
): CollectedEntries {
  const keys: Bytes[] = [];
  const values: Bytes[] = [];
  for (const entry of entries) {
    if (!Array.isArray(entry)) throw wrong(`entry ${keys.length} must be [key, value], got ${describe(entry)}`);
    place.index = keys.length;
    // The key first: reading the value may be code as well.
    keys.push(ownCopy(coded.keyIn(entry[0])));
    values.push(ownCopy(coded.valueIn(entry[1])));
    place.index = -1;
    if (keys.length > BATCH_WRITES_MAX) throw tooMany();
  }
  return { keys, values };
}

/** @throws {EmdbError} EMDB_INVALID_ARGUMENT, EMDB_TOO_LARGE; what a codec or the iterable throws, unchanged */
export function collectKeys<K, V, KeyIn, ValueIn>(
  coded: CodedSpace<K, V, KeyIn, ValueIn>,
  keys: Iterable<KeyIn>,
): readonly Bytes[] {
  requireIterable(keys, "keys");
  return naming("item", (place) =>
    Array.isArray(keys) && isBuiltIn(keys) ? collectArray(coded, keys, place) : collectItems(coded, keys, place),
  );
}

function collectItems<K, V, KeyIn, ValueIn>(
  coded: CodedSpace<K, V, KeyIn, ValueIn>,
  keys: Iterable<KeyIn>,
  place: Place,
): readonly Bytes[] {
  const isSteady = isBuiltIn(keys);
  const collected: Bytes[] = [];
  // Of a set or a map no element can be a getter.
  for (const key of keys) {
    place.index = collected.length;
    const bytes = coded.keyIn(key);
    collected.push(isSteady ? bytes : ownCopy(bytes));
    place.index = -1;
    if (collected.length > BATCH_WRITES_MAX) throw tooMany();
  }
  return collected;
}

/**
 * Each element is read once, as that may run code (a getter, a proxy): what was checked is what the engine is given, not the
 * caller's array. By index it takes half as long as by the iterator.
 */
function collectArray<K, V, KeyIn, ValueIn>(
  coded: CodedSpace<K, V, KeyIn, ValueIn>,
  keys: readonly KeyIn[],
  place: Place,
): readonly Bytes[] {
  const count = keys.length;
  if (count > BATCH_WRITES_MAX) throw tooMany();
  const collected = roomFor(count);
  let sum = 0;
  for (let index = 0; index < count; index += 1) {
    place.index = index;
    const key = coded.keyIn(keys[index] as KeyIn);
    collected[index] = key;
    sum = (sum + keyTerm(key, index)) | 0;
  }
  place.index = -1;
  for (let index = 0; index < count; index += 1) sum = (sum - keyTerm(collected[index]!, index)) | 0;
  if (sum !== 0) refuseResized(collected, []);
  return collected;
}

/** Which element of a batch is being checked; -1: none, so what is thrown comes from somewhere else. */
interface Place {
  index: number;
}

/** Runs what collects a batch; an error about one of its keys or values then says about which. */
function naming<T>(what: "entry" | "item", collect: (place: Place) => T): T {
  const place = { index: -1 };
  try {
    return collect(place);
  } catch (error) {
    const isOurs =
      error instanceof EmdbError && (error.code === "EMDB_INVALID_ARGUMENT" || error.code === "EMDB_TOO_LARGE");
    if (place.index < 0 || !isOurs || isFromCodec(error)) throw error;
    throw new EmdbError(error.code, `${what} ${place.index} of the batch: ${error.message}`, { cause: error });
  }
}

function requireIterable(given: unknown, what: "entries" | "keys"): void {
  const isOneItem = typeof given === "string" || ArrayBuffer.isView(given);
  if (!isOneItem && typeof Object(given)[Symbol.iterator] === "function") return;
  const advice = isOneItem ? "; put it in an array" : "";
  throw wrong(`the ${what} must be an iterable, got ${describe(given)}${advice}`);
}

/** A subclass, or an array with an iterator of its own, gives what that says. */
function isBuiltIn(given: Iterable<unknown>): boolean {
  const iterator = given[Symbol.iterator];
  if (Array.isArray(given)) return iterator === Array.prototype[Symbol.iterator];
  if (given instanceof Map) return iterator === Map.prototype[Symbol.iterator];
  return given instanceof Set && iterator === Set.prototype[Symbol.iterator];
}

function tooMany(): EmdbError {
  return new EmdbError("EMDB_TOO_LARGE", `the batch has more than ${BATCH_WRITES_MAX} writes, which is the limit`);
}

function wrong(message: string): EmdbError {
  return new EmdbError("EMDB_INVALID_ARGUMENT", message);
}
