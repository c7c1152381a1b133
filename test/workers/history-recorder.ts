/** One thread's part of a recorded history: random operations, each noted with what it saw and when, by a common clock. */

import type { Emdb } from "../../src/index.ts";
import type { Random } from "../sim/random.ts";
import {
  COLUMNS,
  KEYS,
  KIND,
  LISTS,
  fillersOf,
  keyOf,
  markIn,
  markOf,
  numberOfKey,
  recordsIn,
} from "./history-facts.ts";

/** Looks at the count: with 20 000 some 27 swaps of a history were refused on one processor, where it was 4 to 10 without any. */
const PAUSE_LOOKS = 40_000;

export interface RecorderParts {
  readonly db: Emdb;
  readonly random: Random;
  /** Of the thread; makes its values its own. */
  readonly index: number;
  /** Room for as many rows of `COLUMNS` numbers as there may be. */
  readonly rows: Float64Array;
  /** The common clock's next time. */
  readonly tick: () => number;
  /** How many keys there are; `KEYS` unless given, and never more. */
  readonly keys?: number;
  /** One operation in so many lets fillers come or go. */
  readonly churnOneIn?: number;
  /** Whether two of three gets are without a copy. */
  readonly hasZeroCopies?: boolean;
  /** Whether it writes nothing, and so never waits for who does. */
  readonly isReader?: boolean;
  /** Whether what is read is read as ranges. */
  readonly hasRanges?: boolean;
}

type Records = Iterable<readonly [Uint8Array, Uint8Array]>;

/** Number of keys written by one batch, or read by one `getMany`. */
const BATCH_MAX = 8;
/** One operation in so many is a walk over everything. */
const WALK_ONE_IN = 330;
const CHURN_ONE_IN = 200;
/** The same of ranges, which are held until the next one. */
const RANGE_ONE_IN = 8;

/** What a call gives whatever else happens. */
function expectTold(told: number, count: number, what: string): void {
  if (told !== count) throw new Error(`${what} of ${count} told ${told}`);
}

export class Recorder {
  readonly #db: Emdb;
  readonly #random: Random;
  readonly #index: number;
  readonly #rows: Float64Array;
  readonly #tick: () => number;
  readonly #keys: number;
  readonly #churnOneIn: number;
  readonly #hasZeroCopies: boolean;
  readonly #isReader: boolean;
  readonly #hasRanges: boolean;
  /** When the operation at hand began. */
  begunAt = 0;
  /** Rows so far. */
  count = 0;
  #writes = 0;
  #swaps = 0;
  /** A range over everything, and when it was begun. */
  #held: { readonly records: Records; readonly span: { readonly from: number; readonly to: number } } | undefined;
  /** Which of this thread's writes its fillers are of; 0: there are none. */
  #filled = 0;

  constructor(parts: RecorderParts) {
    const { db, random, index, rows, tick, keys = KEYS, churnOneIn = CHURN_ONE_IN } = parts;
    this.#hasZeroCopies = parts.hasZeroCopies === true;
    this.#isReader = parts.isReader === true;
    this.#hasRanges = parts.hasRanges === true;
    this.#db = db;
    this.#random = random;
    this.#index = index;
    this.#rows = rows;
    this.#tick = tick;
    this.#keys = keys;
    this.#churnOneIn = churnOneIn;
  }

  #begin(): number {
    this.begunAt = this.#tick();
    return this.begunAt;
  }

  #note(kind: number, key: number, mark: number, span: { readonly from: number; readonly to: number }): void {
    const at = this.count * COLUMNS;
    this.count += 1;
    this.#rows.set([kind, key, mark, span.from, span.to], at);
  }

  /** A value of its own for every write: the thread and its count. */
  #nextMark(): number {
    this.#writes += 1;
    return this.#index * 2 ** 32 + this.#writes;
  }

  /** Does one operation; returns how many keys it touched. */
  one(): number {
    const random = this.#random;
    if (random.below(this.#hasRanges ? RANGE_ONE_IN : WALK_ONE_IN) === 0)
      return this.#hasRanges ? this.#holdRange() : this.#walk();
    if (this.#isReader) return random.below(4) === 0 ? this.#getMany() : this.#get();
    if (this.#hasRanges && random.chance(0.5)) return this.#litter();
    if (random.below(this.#churnOneIn) === 0) return this.#churn();
    const draw = random.below(97);
    if (draw < 45) return this.#get();
    if (draw < 60) return this.#getMany();
    if (draw < 75) return this.#insert();
    if (draw < 80) return this.#remove();
    if (draw < 87) return this.#swap();
    return this.#batch(draw % 2 === 0);
  }

  #get(): number {
    if (this.#hasRanges) return this.#first();
    const key = this.#random.below(this.#keys);
    const isInPlace = this.#hasZeroCopies && this.#random.below(3) > 0;
    const from = this.#begin();
    const mark = markIn(isInPlace ? this.#db.getZeroCopy(keyOf(key)) : this.#db.get(keyOf(key)));
    this.#note(KIND.read, key, mark, { from, to: this.#tick() });
    return 1;
  }

  /** What a range of one shows, from a key that may be there. */
  #first(): number {
    const [key, reverse] = [this.#random.below(this.#keys), this.#random.chance(0.5)];
    const from = this.#begin();
    const bound = reverse ? { lte: keyOf(key) } : { gte: keyOf(key) };
    const [record] = [...this.#db.range({ ...bound, reverse, limit: 1 })];
    const to = this.#tick();
    const mark = record !== undefined && Buffer.from(record[0]).toString() === keyOf(key) ? markIn(record[1]) : 0;
    this.#note(KIND.read, key, mark, { from, to });
    return 1;
  }

  /** What a range shows of the keys from one to another. */
  #range(): number {
    const names = Array.from({ length: this.#keys }, (_, key) => keyOf(key)).sort();
    const first = this.#random.below(names.length);
    const inside = names.slice(first, first + 2 + this.#random.below(BATCH_MAX));
    const reverse = this.#random.chance(0.5);
    const from = this.#begin();
    const records = this.#db.range({ gte: inside[0]!, lte: inside.at(-1)!, reverse });
    const to = this.#tick();
    // The fillers are whole only where everything is looked at.
    const marks = marksIn(ordered(records, reverse).filter(([key]) => (numberOfKey(key) ?? KEYS) < KEYS));
    const group = this.count;
    for (const name of inside) {
      const key = Number(name.slice(1));
      this.#note(KIND.readTogether, key, marks.get(key) ?? 0, { from, to });
    }
    this.#note(KIND.end, group, 0, { from, to });
    return inside.length;
  }

  #getMany(): number {
    if (this.#hasRanges) return this.#range();
    const keys = this.#someKeys();
    const from = this.#begin();
    const values = this.#db.getMany(keys.map(keyOf));
    const to = this.#tick();
    const group = this.count;
    for (const [index, key] of keys.entries()) this.#note(KIND.readTogether, key, markIn(values[index]), { from, to });
    this.#note(KIND.end, group, 0, { from, to });
    return keys.length;
  }

  #insert(): number {
    const key = this.#random.below(this.#keys);
    const mark = this.#nextMark();
    const from = this.#begin();
    this.#db.insert(keyOf(key), markOf(mark, this.#random.below(200)));
    this.#note(KIND.write, key, mark, { from, to: this.#tick() });
    return 1;
  }

  #remove(): number {
    const key = this.#random.below(this.#keys);
    const from = this.#begin();
    const mark = markIn(this.#db.remove(keyOf(key)));
    this.#note(mark === 0 ? KIND.read : KIND.remove, key, mark, { from, to: this.#tick() });
    return 1;
  }

  /** A compare and swap of what was just read: a success says that nothing came between. */
  #swap(): number {
    const key = this.#random.below(this.#keys);
    const mark = this.#nextMark();
    const from = this.#begin();
    const current = this.#db.get(keyOf(key));
    // Somebody comes between now and then, also where the threads have one processor.
    this.#swaps += 1;
    if (this.#swaps % 8 === 0) for (let look = 0; look < PAUSE_LOOKS; look += 1) this.#db.len();
    const isDone = this.#db.compareAndSwap(keyOf(key), current, markOf(mark, 20));
    const to = this.#tick();
    this.#note(KIND.read, key, markIn(current), { from, to });
    if (!isDone) {
      this.#note(KIND.refused, key, markIn(current), { from, to });
      return 1;
    }
    this.#note(KIND.swappedFrom, key, markIn(current), { from, to });
    this.#note(KIND.write, key, mark, { from, to });
    return 2;
  }

  #batch(isTransaction: boolean): number {
    const keys = this.#someKeys();
    const marks = keys.map(() => this.#nextMark());
    const from = this.#begin();
    if (isTransaction) {
      this.#db.transaction((tx) => keys.forEach((key, index) => tx.insert(keyOf(key), markOf(marks[index]!, 50))));
    } else {
      const told = this.#db.insertMany(keys.map((key, index) => [keyOf(key), markOf(marks[index]!, 50)] as const));
      expectTold(told, keys.length, "an insertMany");
    }
    const to = this.#tick();
    const group = this.count;
    for (const [index, key] of keys.entries()) this.#note(KIND.writeTogether, key, marks[index]!, { from, to });
    this.#note(KIND.end, group, 0, { from, to });
    return keys.length;
  }

  #walk(): number {
    const from = this.#begin();
    const records = this.#db.iter();
    const to = this.#tick();
    this.#noteAll(marksIn(records), { from, to });
    return this.#keys;
  }

  #noteAll(marks: ReadonlyMap<number, number>, span: { readonly from: number; readonly to: number }): void {
    const group = this.count;
    for (let key = 0; key < LISTS; key += 1)
      if (key < this.#keys || key >= KEYS) this.#note(KIND.readTogether, key, marks.get(key) ?? 0, span);
    this.#note(KIND.end, group, 0, span);
  }

  /** Reads the range over everything that was begun last time to its end, and begins another one. */
  #holdRange(): number {
    this.finish();
    const reverse = this.#random.chance(0.5);
    const from = this.#begin();
    const records = ordered(this.#db.range({ reverse }), reverse);
    this.#held = { records, span: { from, to: this.#tick() } };
    return 0;
  }

  /** Reads the range that is held. */
  finish(): void {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) this.#noteAll(marksIn(held.records), held.span);
  }

  /** A key beside those that count, which nobody asks for, comes or goes: nodes are replaced, divided and joined. */
  #litter(): number {
    const random = this.#random;
    const key = `${keyOf(random.below(this.#keys))} beside ${random.below(6)}`;
    if (random.chance(0.5)) this.#db.insert(key, "");
    else this.#db.remove(key);
    return 0;
  }

  /** Keys that nobody asks for come and go, so that the index is laid out anew all the time. */
  #churn(): number {
    const { list, keys } = fillersOf(this.#index, this.#hasRanges);
    if (this.#random.chance(0.5)) {
      const filled = this.#filled;
      const from = this.#begin();
      const told = this.#db.removeMany(keys);
      expectTold(told, filled === 0 ? 0 : keys.length, "a removeMany");
      this.#note(filled === 0 ? KIND.read : KIND.remove, list, filled, { from, to: this.#tick() });
      this.#filled = 0;
      return 0;
    }
    const mark = this.#nextMark();
    const from = this.#begin();
    const told = this.#db.insertMany(keys.map((key) => [key, markOf(mark, 0)] as const));
    expectTold(told, keys.length, "an insertMany");
    this.#note(KIND.write, list, mark, { from, to: this.#tick() });
    this.#filled = mark;
    return 0;
  }

  #someKeys(): number[] {
    const keys = new Set<number>();
    const count = 2 + this.#random.below(BATCH_MAX - 1);
    while (keys.size < count) keys.add(this.#random.below(this.#keys));
    return [...keys];
  }
}

/** The same records. Throws where they are not in order. */
function* ordered(
  records: Iterable<readonly [Uint8Array, Uint8Array]>,
  isReverse: boolean,
): Generator<readonly [Uint8Array, Uint8Array]> {
  let last: Uint8Array | undefined;
  for (const record of records) {
    const [key] = record;
    if (last !== undefined && Buffer.compare(last, key) < 0 === isReverse)
      throw new Error(`a range shows ${Buffer.from(key).toString()} behind ${Buffer.from(last).toString()}`);
    last = key;
    yield record;
  }
}

/** What a walk shows of each key, and of the fillers that are one. Throws for what is shown twice, or in part. */
function marksIn(records: Iterable<readonly [Uint8Array, Uint8Array]>): ReadonlyMap<number, number> {
  const marks = new Map<number, number>();
  const names = new Set<string>();
  const counts = new Map<number, number>();
  for (const [key, value] of records) {
    const name = key.toHex();
    if (names.has(name)) throw new Error(`a walk shows ${Buffer.from(key).toString()} twice`);
    names.add(name);
    const number = numberOfKey(key);
    if (number === undefined) continue;
    const mark = markIn(value);
    if ((marks.get(number) ?? mark) !== mark) throw new Error("a walk shows fillers of two writes");
    marks.set(number, mark);
    counts.set(number, (counts.get(number) ?? 0) + 1);
  }
  for (const [number, count] of counts) expectTold(count, recordsIn(number), "a walk");
  return marks;
}
