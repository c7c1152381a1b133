/**
 * A thread that writes numbers that only grow under keys of its own, says which it has written, and reads everybody's:
 * what it reads is never older than what had been said before, never missing, and of a batch never a part.
 */

import { Emdb, type EmdbShare } from "../../src/index.ts";
import { Random } from "../sim/random.ts";

export const KEYS_EACH = 400;

export interface Orders {
  readonly share: EmdbShare;
  readonly index: number;
  readonly threads: number;
  /** The number that was written last under each key. */
  readonly acknowledged: SharedArrayBuffer;
  /** 0: set when all may stop. 1: threads that are at work. 2: operations done. */
  readonly words: SharedArrayBuffer;
  readonly hasRanges: boolean;
}

export const nameOf = (key: number): string => `key ${key}`;

class Steady {
  readonly #db: Emdb;
  readonly #orders: Orders;
  readonly #random: Random;
  readonly #acknowledged: Int32Array;
  #number = 0;

  constructor(orders: Orders) {
    this.#orders = orders;
    this.#db = Emdb.attach(orders.share);
    this.#random = new Random(orders.index + 1);
    this.#acknowledged = new Int32Array(orders.acknowledged);
  }

  async run(): Promise<void> {
    const words = new Int32Array(this.#orders.words);
    for (let key = 0; key < KEYS_EACH; key += 2) this.#write(key, 2);
    Atomics.add(words, 1, 1);
    for (let turn = 1; Atomics.load(words, 0) === 0; turn++) {
      this.#one();
      Atomics.add(words, 2, 1);
      if (turn % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
      if (turn % 512 === 0) await this.#db.flush();
    }
    this.#db.closeSync();
  }

  #one(): void {
    const random = this.#random;
    const what = random.below(40);
    if (what < 14) this.#write(random.below(KEYS_EACH / 2) * 2, 2);
    else if (what < 36) this.#read(random.below(KEYS_EACH * this.#orders.threads));
    else if (what < 39) this.#readPair(random.below((KEYS_EACH * this.#orders.threads) / 2) * 2);
    else if (random.chance(0.1)) this.#walk();
  }

  /** Neighbours have one number, and get it together. */
  #write(own: number, count: number): void {
    this.#number += 1;
    const first = this.#orders.index * KEYS_EACH + own;
    const padding = "p".repeat(this.#random.below(400));
    const entries = Array.from(
      { length: count },
      (_, at) => [nameOf(first + at), `${this.#number} ${padding}`] as const,
    );
    if (this.#random.chance(0.5)) this.#db.insertMany(entries);
    else this.#db.transaction((tx) => entries.forEach(([key, value]) => tx.insert(key, value)));
    for (let at = 0; at < count; at++) Atomics.store(this.#acknowledged, first + at, this.#number);
  }

  #read(key: number): void {
    const before = Atomics.load(this.#acknowledged, key);
    this.#expect(key, before, this.#db.getText(nameOf(key)));
  }

  #expect(key: number, before: number, text: string | undefined): void {
    const number = text === undefined ? 0 : Number.parseInt(text, 10);
    if (!(number >= before)) throw new Error(`key ${key} was read as ${number} after ${before} had been written`);
  }

  #readPair(key: number): void {
    const [one, two] = this.#db
      .getMany([nameOf(key), nameOf(key + 1)])
      .map((value) => value && Buffer.from(value).toString());
    if (one !== two) throw new Error(`a batch was seen in part: ${one} and ${two}`);
  }

  #walk(): void {
    const before = this.#acknowledged.slice();
    const seen = new Map<string, string>();
    const rows = this.#orders.hasRanges && this.#random.chance(0.5) ? this.#db.range() : this.#db.iter();
    for (const [key, value] of rows) seen.set(Buffer.from(key).toString(), Buffer.from(value).toString());
    for (const [key, number] of before.entries()) this.#expect(key, number, seen.get(nameOf(key)));
    for (let key = 0; key < before.length; key += 2) {
      if (seen.get(nameOf(key)) !== seen.get(nameOf(key + 1))) throw new Error("a walk shows a batch in part");
    }
  }
}

if (!Bun.isMainThread) {
  self.onmessage = ({ data }: MessageEvent<Orders>): void => {
    void new Steady(data).run().then(
      () => postMessage("done"),
      (error: unknown) => reportError(error),
    );
  };
}
