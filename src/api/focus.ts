/**
 * Dotted prefixes over plain keys: `focus("user").focus("1").set("name", ...)` is key "user.1.name". The records of
 * a prefix are those whose key starts with the prefix and a dot: found in the ordered index, or by a walk over
 * everything without one.
 */

import type { WantedInOrder } from "../engine/contract.ts";
import { EmdbError } from "../errors.ts";
import { ownArray, startsWith } from "./bytes.ts";
import type { CodedSpace } from "./coded-space.ts";
import { describe } from "./describe.ts";
import { INSPECT, type Inspect, inspected } from "./inspect.ts";
import { prefixBounds } from "./range-bounds.ts";
import type { KeyspaceView } from "./keyspace.ts";
import { RecordIterator } from "./record-iterator.ts";
import type { BytesLike, Focus, InsertOptions } from "./types.ts";

/** The default key space, as bytes: what a focus works on. */
export interface FocusedSpace {
  readonly coded: CodedSpace<Uint8Array, Uint8Array, BytesLike, BytesLike>;
  readonly keyspace: KeyspaceView<Uint8Array, Uint8Array, BytesLike, BytesLike>;
}

export class FocusView implements Focus {
  readonly #place: FocusedSpace;
  readonly #prefix: string;

  constructor(place: FocusedSpace, prefix: string) {
    this.#place = place;
    this.#prefix = checkedPart(prefix, "prefix");
  }

  get prefix(): string {
    return this.#prefix;
  }

  set(key: string, value: BytesLike, options?: InsertOptions): void {
    this.#place.keyspace.insert(this.#wholeKey(key), value, options);
  }

  get(key: string): Uint8Array | undefined {
    return this.#place.keyspace.get(this.#wholeKey(key));
  }

  containsKey(key: string): boolean {
    return this.#place.keyspace.containsKey(this.#wholeKey(key));
  }

  remove(key: string): Uint8Array | undefined {
    return this.#place.keyspace.remove(this.#wholeKey(key));
  }

  focus(sub: string): Focus {
    this.#place.coded.handle.openLife();
    return new FocusView(this.#place, this.#wholeKey(sub));
  }

  /** In key order with `rangeScans`, in no order without. */
  iter(): IteratorObject<[Uint8Array, Uint8Array], undefined> {
    return this.#walk("pairs");
  }

  /** Only what is wanted of each record is read. */
  #walk(wanted: WantedInOrder): IteratorObject<[Uint8Array, Uint8Array], undefined> {
    const { handle, space } = this.#place.coded;
    const { store } = handle;
    const prefix = ownArray(`${this.#prefix}.`);
    if (!store.hasRangeScans) {
      const all = new RecordIterator<[Uint8Array, Uint8Array]>(handle, store.snapshot(space, wanted));
      return all.filter(([key]) => startsWith(key, { prefix }));
    }
    const { lower, upper } = prefixBounds(prefix);
    // A dot ends the prefix, so that there always is a key behind it.
    const bounds = { lower, upper, isReverse: false };
    return new RecordIterator(handle, store.range(space, bounds, wanted));
  }

  /** One batch, under the writer's lock from the walk to the write. Returns how many records there were. */
  deleteAll(): number {
    const { handle, space } = this.#place.coded;
    const store = handle.writable();
    return store.exclusively(() => {
      const keys: Uint8Array[] = [];
      for (const [key] of this.#walk("keys")) keys.push(key);
      return keys.length === 0 ? 0 : store.removeMany(space, keys);
    });
  }

  toJSON(): object {
    return { prefix: this.prefix };
  }

  /** What `console.log` shows: the same as `toJSON`. */
  [INSPECT](_depth: number, options: object, inspect: Inspect): string {
    return inspected("Focus", { value: this.toJSON(), options, inspect });
  }

  #wholeKey(part: string): string {
    return `${this.#prefix}.${checkedPart(part, "key")}`;
  }
}

/** Checked by itself: two halves of a surrogate pair around a dot are wrong, joined ones are not looked at. */
function checkedPart(part: unknown, what: string): string {
  if (typeof part === "string" && part.isWellFormed()) return part;
  const got = typeof part === "string" ? "one with a lone surrogate" : describe(part);
  throw new EmdbError("EMDB_INVALID_ARGUMENT", `the ${what} of a focus must be a well-formed string, got ${got}`);
}
