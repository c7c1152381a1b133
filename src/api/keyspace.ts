/**
 * One implementation of `Keyspace` for all: the default key space, named ones, typed views.
 * Each call checks and encodes its arguments, then makes one call of the engine.
 *
 * Invariant: the engine is asked for behind the arguments. Reading those may be code that closes the handle (a codec, a
 * getter, a generator), and another handle may keep the engine open.
 */

import type { KeyValue, RecordSource } from "../engine/contract.ts";
import { EmdbError } from "../errors.ts";
import { CodedSpace, checkedCodecs } from "./coded-space.ts";
import { collectEntries, collectKeys } from "./collect.ts";
import { deadlineOf, lifetimeOf } from "./deadline.ts";
import { INSPECT, type Inspect, inspected } from "./inspect.ts";
import { rangeBoundsOf } from "./range-bounds.ts";
import { compareAndSwap, persist, removeDecoded, update } from "./read-modify-write.ts";
import { RecordIterator } from "./record-iterator.ts";
import { recordStream } from "./record-stream.ts";
import type { BytesLike, Codec, InsertOptions, Keyspace, RangeOptions } from "./types.ts";

export class KeyspaceView<K, V, KeyIn, ValueIn> implements Keyspace<K, V, KeyIn, ValueIn> {
  readonly #coded: CodedSpace<K, V, KeyIn, ValueIn>;

  constructor(coded: CodedSpace<K, V, KeyIn, ValueIn>) {
    this.#coded = coded;
  }

  // -- one record ------------------------------------------------------------

  insert(key: KeyIn, value: ValueIn, options?: InsertOptions): void {
    const coded = this.#coded;
    coded.handle.writable();
    // First: a property of the options may be code that changes the bytes.
    const lifetime = lifetimeOf(options);
    const keyBytes = coded.keyKept(key);
    const valueBytes = coded.valueIn(value);
    coded.handle.store.insert(coded.space, keyBytes, valueBytes, deadlineOf(lifetime, coded.handle));
  }

  get(key: KeyIn): V | undefined {
    const coded = this.#coded;
    const keyBytes = coded.keyIn(key);
    const { valueOfText } = coded;
    if (valueOfText !== undefined) {
      const text = coded.handle.store.getText(coded.space, keyBytes);
      return text === undefined ? undefined : valueOfText(text);
    }
    const value = coded.handle.store.get(coded.space, keyBytes);
    return value === undefined ? undefined : coded.valueOut(value);
  }

  getZeroCopy(key: KeyIn): Uint8Array | undefined {
    const coded = this.#coded;
    const keyBytes = coded.keyIn(key);
    return coded.handle.store.getZeroCopy(coded.space, keyBytes);
  }

  getText(key: KeyIn): string | undefined {
    const coded = this.#coded;
    const keyBytes = coded.keyIn(key);
    return coded.handle.store.getText(coded.space, keyBytes);
  }

  containsKey(key: KeyIn): boolean {
    const coded = this.#coded;
    const keyBytes = coded.keyIn(key);
    return coded.handle.store.has(coded.space, keyBytes);
  }

  remove(key: KeyIn): V | undefined {
    const coded = this.#coded;
    if (coded.valueCodec !== undefined) return removeDecoded(coded, key);
    coded.handle.writable();
    const keyBytes = coded.keyIn(key);
    const value = coded.handle.store.remove(coded.space, keyBytes);
    return value === undefined ? undefined : coded.valueOut(value);
  }

  compareAndSwap(
    key: KeyIn,
    expected: ValueIn | undefined,
    next: ValueIn | undefined,
    options?: InsertOptions,
  ): boolean {
    return compareAndSwap(this.#coded, { key, expected, next, options });
  }

  update(key: KeyIn, change: (current: V | undefined) => ValueIn | undefined, options?: InsertOptions): V | undefined {
    return update(this.#coded, { key, change, options });
  }

  // -- batches ---------------------------------------------------------------

  insertMany(entries: Iterable<readonly [KeyIn, ValueIn]>, options?: InsertOptions): number {
    const coded = this.#coded;
    coded.handle.writable();
    const lifetime = lifetimeOf(options);
    const { keys, values, lengths } = collectEntries(coded, entries);
    coded.handle.store.insertMany(coded.space, keys, values, deadlineOf(lifetime, coded.handle), lengths);
    return keys.length;
  }

  getMany(keys: Iterable<KeyIn>): (V | undefined)[] {
    const coded = this.#coded;
    const collected = collectKeys(coded, keys);
    const values = coded.handle.store.getMany(coded.space, collected);
    if (coded.valueCodec === undefined) return values as (V | undefined)[];
    return values.map((value) => (value === undefined ? undefined : coded.valueOut(value)));
  }

  removeMany(keys: Iterable<KeyIn>): number {
    const coded = this.#coded;
    coded.handle.writable();
    const collected = collectKeys(coded, keys);
    return coded.handle.store.removeMany(coded.space, collected);
  }

  // -- the whole key space ---------------------------------------------------

  len(): number {
    return this.#coded.handle.store.count(this.#coded.space);
  }

  isEmpty(): boolean {
    return this.len() === 0;
  }

  clear(): void {
    this.#coded.handle.writable().clear(this.#coded.space);
  }

  sweepExpired(): number {
    return this.#coded.handle.writable().sweepExpired(this.#coded.space);
  }

  iter(): IteratorObject<[K, V], undefined> {
    const { handle, space } = this.#coded;
    return this.#pairs(handle.store.snapshot(space));
  }

  keys(): IteratorObject<K, undefined> {
    const coded = this.#coded;
    const source = coded.handle.store.snapshot(coded.space, "keys");
    return new RecordIterator(coded.handle, source, (record) => coded.keyOut(record[0]));
  }

  values(): IteratorObject<V, undefined> {
    const coded = this.#coded;
    const source = coded.handle.store.snapshot(coded.space, "values");
    return new RecordIterator(coded.handle, source, (record) => coded.valueOut(record[1]));
  }

  /** `iter`, for `for ... of`. */
  [Symbol.iterator](): IteratorObject<[K, V], undefined> {
    return this.iter();
  }

  range(range: RangeOptions<KeyIn> = {}): IteratorObject<[K, V], undefined> {
    const coded = this.#coded;
    if (!coded.handle.store.hasRangeScans) {
      throw new EmdbError("EMDB_INVALID_CONFIG", "range needs the ordered index: open with { rangeScans: true }");
    }
    const bounds = rangeBoundsOf(range, coded);
    const { store } = coded.handle;
    // Of a dropped namespace even an empty range is an error; the count is where the engine says so.
    if (bounds === undefined) store.count(coded.space);
    return this.#pairs(bounds === undefined ? undefined : store.range(coded.space, bounds));
  }

  stream(range?: RangeOptions<KeyIn>): ReadableStream<[K, V]> {
    return recordStream(range === undefined ? this.iter() : this.range(range));
  }

  // -- time to live ----------------------------------------------------------

  expiresAt(key: KeyIn): number | undefined {
    const coded = this.#coded;
    const keyBytes = coded.keyIn(key);
    return coded.handle.store.expiresAt(coded.space, keyBytes);
  }

  ttl(key: KeyIn): number | undefined {
    const expiresAtMs = this.expiresAt(key);
    if (expiresAtMs === undefined || expiresAtMs === 0) return undefined;
    const leftMs = expiresAtMs - this.#coded.handle.store.now();
    return leftMs > 0 ? leftMs : undefined;
  }

  persist(key: KeyIn): boolean {
    return persist(this.#coded, key);
  }

  // -- views -----------------------------------------------------------------

  typed<NewK, NewV>(codecs: {
    readonly key: Codec<NewK>;
    readonly value: Codec<NewV>;
  }): Keyspace<NewK, NewV, NewK, NewV>;
  typed<NewV>(codecs: { readonly value: Codec<NewV> }): Keyspace<Uint8Array, NewV, BytesLike, NewV>;
  typed(codecs: { readonly key?: Codec<unknown>; readonly value: Codec<unknown> }): unknown {
    const { handle, space } = this.#coded;
    // Reads nothing, but a closed handle and a dropped namespace are told of here, not by the view's first call.
    handle.store.count(space);
    return new KeyspaceView(new CodedSpace({ handle, space }, checkedCodecs(codecs)));
  }

  toJSON(): object {
    const { handle, space } = this.#coded;
    return { path: handle.path, isOpen: handle.isOpen, namespace: space.name };
  }

  [INSPECT](_depth: number, options: object, inspect: Inspect): string {
    return inspected("Keyspace", { value: this.toJSON(), options, inspect });
  }

  #pairs(source: RecordSource | undefined): RecordIterator<[K, V]> {
    const coded = this.#coded;
    if (coded.keyCodec === undefined && coded.valueCodec === undefined) return new RecordIterator(coded.handle, source);
    const pick = (record: KeyValue): [K, V] => [coded.keyOut(record[0]), coded.valueOut(record[1])];
    return new RecordIterator(coded.handle, source, pick);
  }
}
