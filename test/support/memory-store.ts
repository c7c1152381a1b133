/**
 * The slow, obvious twin of the engine: a Map for each key space, copies everywhere, a linear sort for ranges.
 * It is what the api is tested over by itself, and the oracle that the engine is compared with.
 */

import type {
  BatchWrite,
  Bytes,
  KeyValue,
  RangeBounds,
  RecordSource,
  SnapshotRecord,
  Space,
  Store,
} from "../../src/engine/contract.ts";
import { utf8Text } from "../../src/codec/text.ts";
import { EmdbError } from "../../src/errors.ts";

/** A clock that moves when a test says so. */
export interface TestClock {
  nowMs: number;
}

interface MemoryRecord {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly expiresAtMs: number;
}

class MemorySpace implements Space {
  readonly id: number;
  readonly name: string;
  readonly records = new Map<string, MemoryRecord>();
  isDropped = false;

  constructor(id: number, name: string) {
    this.id = id;
    this.name = name;
  }
}

export interface MemoryOptions {
  readonly clock?: TestClock;
  readonly rangeScans?: boolean;
  readonly isReadOnly?: boolean;
}

export class MemoryStore implements Store {
  readonly defaultSpace: Space;
  readonly clock: TestClock;
  readonly hasRangeScans: boolean;
  isReadOnly: boolean;
  isOpen = true;
  /** Snapshots taken and not let go of. */
  snapshotCount = 0;
  /** Calls that changed something. */
  writeCount = 0;
  /** Set by a test: what the next write throws. */
  failure: EmdbError | undefined;
  readonly #spaces: MemorySpace[] = [];
  #spaceCount = 0;

  constructor(options: MemoryOptions = {}) {
    this.clock = options.clock ?? { nowMs: 1_700_000_000_000 };
    this.hasRangeScans = options.rangeScans ?? false;
    this.isReadOnly = options.isReadOnly ?? false;
    this.defaultSpace = this.#create("");
  }

  #heldMs: number | undefined;

  clockMs(): number {
    return this.clock.nowMs;
  }

  now(): number {
    return this.#heldMs ?? this.clock.nowMs;
  }

  // -- spaces ----------------------------------------------------------------

  findSpace(name: string): Space | undefined {
    this.#requireOpen();
    return this.#spaces.find((space) => space.name === name && name !== "");
  }

  spaceNamed(name: string): Space {
    const known = this.findSpace(name);
    if (known !== undefined) return known;
    this.#requireWritable();
    return this.#create(name);
  }

  spaceNames(): string[] {
    this.#requireOpen();
    return this.#spaces.slice(1).map((space) => space.name);
  }

  dropSpace(name: string): boolean {
    this.#requireWritable();
    const index = this.#spaces.findIndex((space) => space.name === name && name !== "");
    if (index < 0) return false;
    for (const space of this.#spaces.splice(index, 1)) space.isDropped = true;
    return true;
  }

  // -- reads -----------------------------------------------------------------

  get(space: Space, key: Bytes): Uint8Array | undefined {
    const record = this.#live(space, key);
    return record === undefined ? undefined : new Uint8Array(record.value);
  }

  getText(space: Space, key: Bytes): string | undefined {
    const value = this.get(space, key);
    return value === undefined ? undefined : utf8Text(value);
  }

  getMany(space: Space, keys: readonly Bytes[]): (Uint8Array | undefined)[] {
    return keys.map((key) => this.get(space, key));
  }

  getZeroCopy(space: Space, key: Bytes): Uint8Array | undefined {
    return this.get(space, key);
  }

  has(space: Space, key: Bytes): boolean {
    return this.#live(space, key) !== undefined;
  }

  expiresAt(space: Space, key: Bytes): number | undefined {
    return this.#live(space, key)?.expiresAtMs;
  }

  count(space: Space): number {
    return this.#records(space).size;
  }

  liveCount(): number {
    return this.#spaces.reduce((sum, space) => sum + space.records.size, 0);
  }

  // -- writes ----------------------------------------------------------------

  insert(space: Space, key: Bytes, value: Bytes, expiresAtMs: number): void {
    this.writeBatch([{ space, key, value, expiresAtMs }]);
  }

  remove(space: Space, key: Bytes): Uint8Array | undefined {
    const value = this.get(space, key);
    this.writeBatch([{ space, key, value: undefined, expiresAtMs: 0 }]);
    return value;
  }

  insertMany(space: Space, keys: readonly Bytes[], values: readonly Bytes[], expiresAtMs: number): void {
    this.#records(space);
    this.writeBatch(keys.map((key, index) => ({ space, key, value: values[index] ?? "", expiresAtMs })));
  }

  removeMany(space: Space, keys: readonly Bytes[]): number {
    this.#records(space);
    const visible = new Set(keys.filter((key) => this.has(space, key)).map(idOf));
    this.writeBatch(keys.map((key) => ({ space, key, value: undefined, expiresAtMs: 0 })));
    return visible.size;
  }

  writeBatch(writes: readonly BatchWrite[]): void {
    this.#requireWritable();
    const spaces = writes.map(({ space }) =>
      this.#records("newName" in space ? this.spaceNamed(space.newName) : space),
    );
    this.writeCount += 1;
    for (const [index, { key, value, expiresAtMs }] of writes.entries()) {
      if (value === undefined) spaces[index]?.delete(idOf(key));
      else spaces[index]?.set(idOf(key), { key: copyOf(key), value: copyOf(value), expiresAtMs });
    }
  }

  clear(space: Space): void {
    this.#requireWritable();
    this.#records(space).clear();
  }

  sweepExpired(space: Space): number {
    this.#requireWritable();
    const records = this.#records(space);
    const expired = [...records].filter(([, record]) => !this.#isLive(record));
    for (const [id] of expired) records.delete(id);
    return expired.length;
  }

  exclusively<T>(body: () => T): T {
    this.#requireOpen();
    return this.atOneMoment(body);
  }

  atOneMoment<T>(body: () => T): T {
    if (this.#heldMs !== undefined) return body();
    this.#heldMs = this.clock.nowMs;
    try {
      return body();
    } finally {
      this.#heldMs = undefined;
    }
  }

  // -- walks -----------------------------------------------------------------

  snapshot(space: Space): RecordSource {
    const live = [...this.#records(space).values()].filter((record) => this.#isLive(record));
    return this.#walk(live);
  }

  range(space: Space, bounds: RangeBounds): RecordSource {
    const live = [...this.#records(space).values()]
      .filter((record) => this.#isLive(record) && isWithin(record.key, bounds))
      .sort((one, other) => Buffer.compare(one.key, other.key));
    return this.#walk((bounds.isReverse ? live.reverse() : live).slice(0, bounds.limit), bounds.limit);
  }

  #walk(records: readonly MemoryRecord[], limit = Infinity): RecordSource {
    let index = 0;
    let left = limit;
    let isHeld = true;
    this.snapshotCount += 1;
    const letGo = (): IteratorResult<SnapshotRecord> => {
      if (isHeld) this.snapshotCount -= 1;
      isHeld = false;
      return { done: true, value: undefined };
    };
    const next = (): IteratorResult<SnapshotRecord> => {
      this.#requireOpen();
      const record = isHeld ? records[index] : undefined;
      if (record === undefined) return letGo();
      index += 1;
      return { done: false, value: { ...record, key: copyOf(record.key), value: copyOf(record.value) } };
    };
    const pull = (): SnapshotRecord | undefined => {
      const step = next();
      return step.done === true ? undefined : step.value;
    };
    const batch = (): KeyValue[] | undefined => {
      const record = pull();
      left -= 1;
      // Behind its last record it holds nothing.
      if (left <= 0) letGo();
      return record === undefined ? undefined : [[record.key, record.value]];
    };
    const walk: RecordSource = { next, pull, batch, return: letGo, [Symbol.iterator]: () => walk };
    return walk;
  }

  // -- inside ----------------------------------------------------------------

  #create(name: string): MemorySpace {
    const space = new MemorySpace(this.#spaceCount, name);
    this.#spaceCount += 1;
    this.#spaces.push(space);
    return space;
  }

  #records(space: Space): Map<string, MemoryRecord> {
    this.#requireOpen();
    if (!(space instanceof MemorySpace)) throw new Error("a space of another store");
    if (space.isDropped) throw new EmdbError("EMDB_NAMESPACE_DROPPED", `namespace ${space.name} was dropped`);
    return space.records;
  }

  #live(space: Space, key: Bytes): MemoryRecord | undefined {
    const record = this.#records(space).get(idOf(key));
    return record !== undefined && this.#isLive(record) ? record : undefined;
  }

  #isLive(record: MemoryRecord): boolean {
    return record.expiresAtMs === 0 || record.expiresAtMs > this.now();
  }

  #requireOpen(): void {
    if (!this.isOpen) throw new EmdbError("EMDB_CLOSED", "the store is closed");
  }

  #requireWritable(): void {
    this.#requireOpen();
    if (this.isReadOnly) throw new EmdbError("EMDB_READ_ONLY", "the store is read-only");
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }
}

function isWithin(key: Uint8Array, { lower, upper }: RangeBounds): boolean {
  const fromLower = lower === undefined ? 1 : Buffer.compare(key, lower.key);
  const toUpper = upper === undefined ? -1 : Buffer.compare(key, upper.key);
  return (
    (fromLower > 0 || (fromLower === 0 && lower?.isInclusive === true)) &&
    (toUpper < 0 || (toUpper === 0 && upper?.isInclusive === true))
  );
}

function copyOf(bytes: Bytes): Uint8Array {
  return typeof bytes === "string" ? new TextEncoder().encode(bytes) : new Uint8Array(bytes);
}

function idOf(key: Bytes): string {
  return Buffer.from(copyOf(key)).toString("latin1");
}
