/** One thread of a recorded history: does random operations and notes each with what it saw and when, by the common clock. */

import { Emdb, type EmdbShare } from "../../src/index.ts";
import { Random } from "../sim/random.ts";
import { COLUMNS, KEYS, KIND, keyOf, markIn, markOf, numberOfKey } from "./history-facts.ts";

export interface Orders {
  readonly share: EmdbShare;
  readonly seed: number;
  readonly index: number;
  readonly operations: number;
  /** Room for as many rows of `COLUMNS` numbers as there may be. */
  readonly rows: SharedArrayBuffer;
  /** 0 the clock, which every event raises; 1 threads that are ready; 2 set when all may begin. */
  readonly clock: SharedArrayBuffer;
}

/** Number of keys written by one batch, or read by one `getMany`. */
const BATCH_MAX = 8;
/** Of the draws that are left. */
const WALKS = 0.1;
const FILLERS = 400;

class Recorder {
  readonly #db: Emdb;
  readonly #random: Random;
  readonly #orders: Orders;
  readonly #rows: Float64Array;
  readonly #clock: Int32Array;
  #count = 0;
  #writes = 0;

  constructor(orders: Orders) {
    this.#orders = orders;
    this.#db = Emdb.attach(orders.share);
    this.#random = new Random(orders.seed);
    this.#rows = new Float64Array(orders.rows);
    this.#clock = new Int32Array(orders.clock);
  }

  async run(): Promise<number> {
    let operations = 0;
    for (let turn = 0; operations < this.#orders.operations; turn += 1) {
      operations += this.#one();
      // The loop turns now and then: what was written goes to the file, and the era is left.
      if (turn % 512 === 511) await new Promise((resolve) => setImmediate(resolve));
    }
    return this.#count;
  }

  #tick(): number {
    return Atomics.add(this.#clock, 0, 1);
  }

  #note(kind: number, key: number, mark: number, span: { readonly from: number; readonly to: number }): void {
    const at = this.#count * COLUMNS;
    this.#count += 1;
    this.#rows.set([kind, key, mark, span.from, span.to], at);
  }

  /** A value of its own for every write: the thread and its count. */
  #nextMark(): number {
    this.#writes += 1;
    return this.#orders.index * 2 ** 32 + this.#writes;
  }

  /** Does one operation; returns how many keys it touched. */
  #one(): number {
    const random = this.#random;
    const draw = random.below(100);
    if (draw < 45) return this.#get();
    if (draw < 60) return this.#getMany();
    if (draw < 75) return this.#insert();
    if (draw < 80) return this.#remove();
    if (draw < 87) return this.#swap();
    if (draw < 97) return this.#batch(draw % 2 === 0);
    if (random.chance(WALKS)) return this.#walk();
    return random.chance(0.2) ? this.#churn() : this.#get();
  }

  #get(): number {
    const key = this.#random.below(KEYS);
    const from = this.#tick();
    const mark = markIn(this.#db.get(keyOf(key)));
    this.#note(KIND.read, key, mark, { from, to: this.#tick() });
    return 1;
  }

  #getMany(): number {
    const keys = this.#someKeys();
    const from = this.#tick();
    const values = this.#db.getMany(keys.map(keyOf));
    const to = this.#tick();
    const group = this.#count;
    for (const [index, key] of keys.entries()) this.#note(KIND.readTogether, key, markIn(values[index]), { from, to });
    this.#note(KIND.end, group, 0, { from, to });
    return keys.length;
  }

  #insert(): number {
    const key = this.#random.below(KEYS);
    const mark = this.#nextMark();
    const from = this.#tick();
    this.#db.insert(keyOf(key), markOf(mark, this.#random.below(200)));
    this.#note(KIND.write, key, mark, { from, to: this.#tick() });
    return 1;
  }

  #remove(): number {
    const key = this.#random.below(KEYS);
    const from = this.#tick();
    const mark = markIn(this.#db.remove(keyOf(key)));
    this.#note(mark === 0 ? KIND.read : KIND.remove, key, mark, { from, to: this.#tick() });
    return 1;
  }

  /** A compare and swap of what was just read: a success says that nothing came between. */
  #swap(): number {
    const key = this.#random.below(KEYS);
    const mark = this.#nextMark();
    const from = this.#tick();
    const current = this.#db.get(keyOf(key));
    const isDone = this.#db.compareAndSwap(keyOf(key), current, markOf(mark, 20));
    const to = this.#tick();
    if (!isDone) return 1;
    this.#note(KIND.swappedFrom, key, markIn(current), { from, to });
    this.#note(KIND.write, key, mark, { from, to });
    return 2;
  }

  #batch(isTransaction: boolean): number {
    const keys = this.#someKeys();
    const marks = keys.map(() => this.#nextMark());
    const from = this.#tick();
    if (isTransaction) {
      this.#db.transaction((tx) => keys.forEach((key, index) => tx.insert(keyOf(key), markOf(marks[index]!, 50))));
    } else this.#db.insertMany(keys.map((key, index) => [keyOf(key), markOf(marks[index]!, 50)] as const));
    const to = this.#tick();
    const group = this.#count;
    for (const [index, key] of keys.entries()) this.#note(KIND.writeTogether, key, marks[index]!, { from, to });
    this.#note(KIND.end, group, 0, { from, to });
    return keys.length;
  }

  #walk(): number {
    const from = this.#tick();
    const group = this.#count;
    const seen = new Map<number, number>();
    const records = this.#db.iter();
    const to = this.#tick();
    for (const [key, value] of records) {
      const number = numberOfKey(key);
      if (number !== undefined) seen.set(number, markIn(value));
    }
    for (let key = 0; key < KEYS; key += 1) this.#note(KIND.readTogether, key, seen.get(key) ?? 0, { from, to });
    this.#note(KIND.end, group, 0, { from, to });
    return KEYS;
  }

  /** Keys that nobody asks for come and go, so that the index is laid out anew all the time. */
  #churn(): number {
    const { index } = this.#orders;
    const fillers = Array.from({ length: FILLERS }, (_, filler) => `filler ${index} ${filler}`);
    if (this.#random.chance(0.5)) this.#db.removeMany(fillers);
    else this.#db.insertMany(fillers.map((key) => [key, "filler"] as const));
    return 0;
  }

  #someKeys(): number[] {
    const keys = new Set<number>();
    const count = 2 + this.#random.below(BATCH_MAX - 1);
    while (keys.size < count) keys.add(this.#random.below(KEYS));
    return [...keys];
  }
}

self.onmessage = ({ data }: MessageEvent<Orders>): void => {
  const recorder = new Recorder(data);
  const clock = new Int32Array(data.clock);
  Atomics.add(clock, 1, 1);
  Atomics.wait(clock, 2, 0);
  void recorder.run().then(
    (count) => postMessage(count),
    (error: unknown) => reportError(error),
  );
};
