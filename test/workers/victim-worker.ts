/** A thread that does everything at random, as fast as it can, until it is ended or ends itself at a chosen operation. */

import { Emdb, EmdbError, type EmdbShare, type Namespace } from "../../src/index.ts";
import { Random } from "../sim/random.ts";
import { COUNTERS, GROUPS, MEMBERS, groupKeys, numberIn, numberOf } from "./kill-facts.ts";

export interface Orders {
  readonly share: EmdbShare;
  readonly seed: number;
  /** Its place in `done`. */
  readonly index: number;
  /** Operations done, one word a victim. */
  readonly done: SharedArrayBuffer;
  /** Increments of each counter: begun, then acknowledged. */
  readonly counts: SharedArrayBuffer;
  /** The operation at which it ends itself; 0: it does not. */
  readonly endAt: number;
  readonly ending: "exit" | "throw";
}

class Victim {
  readonly #db: Emdb;
  readonly #scratch: Namespace;
  readonly #random: Random;
  readonly #counts: Int32Array;
  readonly #orders: Orders;
  #grown = 0;

  constructor(orders: Orders) {
    this.#orders = orders;
    this.#db = Emdb.attach(orders.share);
    this.#scratch = this.#db.namespace("scratch");
    this.#random = new Random(orders.seed);
    this.#counts = new Int32Array(orders.counts);
  }

  async run(): Promise<void> {
    const done = new Int32Array(this.#orders.done);
    for (let operation = 1; ; operation += 1) {
      if (operation === this.#orders.endAt) this.#end();
      const flushed = this.#one();
      if (flushed !== undefined) await flushed;
      Atomics.add(done, this.#orders.index, 1);
      Atomics.notify(done, this.#orders.index);
      // Messages, immediates and the deferred writes get their turn now and then.
      if (this.#random.chance(0.02)) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #end(): void {
    if (this.#orders.ending === "exit") process.exit(0);
    throw new Error("the end that was ordered");
  }

  #one(): Promise<void> | undefined {
    const random = this.#random;
    switch (random.below(13)) {
      case 0:
      case 1:
        return this.#count();
      case 2:
        return this.#writeGroup();
      case 3:
        return this.#removeGroup();
      case 4:
        return this.#grow(1 + random.below(150));
      case 5:
        return this.#shrink();
      case 6:
        if (random.chance(0.05))
          this.#db.insert(`long ${random.below(4)}`, new Uint8Array(random.chance(0.2) ? 1_200_000 : 40_000));
        return undefined;
      case 7:
        if (random.chance(0.3)) return this.#db.flush();
        if (random.chance(0.3)) this.#db.flushSync();
        return undefined;
      case 8:
        this.#walk();
        return undefined;
      case 9:
        this.#scratch.insert(`s ${random.below(500)}`, "scratch");
        if (random.chance(0.02)) this.#scratch.clear();
        return undefined;
      case 10:
        return random.chance(0.06) ? this.#compact() : undefined;
      default:
        this.#read();
        return undefined;
    }
  }

  #count(): undefined {
    const counter = this.#random.below(COUNTERS);
    Atomics.add(this.#counts, counter, 1);
    this.#db.update(`counter ${counter}`, (now) => numberOf(numberIn(now) + 1));
    Atomics.add(this.#counts, COUNTERS + counter, 1);
    return undefined;
  }

  #writeGroup(): undefined {
    const keys = groupKeys(this.#random.below(GROUPS));
    const value = `${this.#random.word()}`.padEnd(1 + this.#random.below(300), ".");
    if (this.#random.chance(0.5)) this.#db.insertMany(keys.map((key) => [key, value] as const));
    else this.#db.transaction((tx) => keys.forEach((key) => tx.insert(key, value)));
    return undefined;
  }

  #removeGroup(): undefined {
    this.#db.removeMany(groupKeys(this.#random.below(GROUPS)));
    return undefined;
  }

  #grow(count: number): undefined {
    const { index, seed } = this.#orders;
    const from = this.#grown;
    this.#grown += count;
    const key = (offset: number): string => `grown ${index} ${seed} ${from + offset}`;
    this.#db.insertMany(Array.from({ length: count }, (_, offset) => [key(offset), "grown"] as const));
    return undefined;
  }

  #shrink(): undefined {
    const { index, seed } = this.#orders;
    this.#db.removeMany(Array.from({ length: this.#grown }, (_, offset) => `grown ${index} ${seed} ${offset}`));
    this.#grown = 0;
    return undefined;
  }

  /** Refused while walks of threads that have died keep files of earlier ones; all the rest has to go through. */
  async #compact(): Promise<void> {
    try {
      await this.#db.compact();
    } catch (error) {
      if (!(error instanceof EmdbError) || error.code !== "EMDB_FULL") throw error;
    }
  }

  #walk(): void {
    let left = this.#random.below(100);
    for (const _ of this.#db.iter()) if (left-- === 0) break;
  }

  #read(): void {
    const values = this.#db.getMany(groupKeys(this.#random.below(GROUPS)));
    const first = values[0] === undefined ? undefined : Buffer.from(values[0]).toString();
    for (let member = 1; member < MEMBERS; member += 1) {
      const value = values[member];
      const text = value === undefined ? undefined : Buffer.from(value).toString();
      if (text !== first) throw new Error(`a batch was seen in part: ${first} and ${text}`);
    }
  }
}

self.onmessage = ({ data }: MessageEvent<Orders>): void => {
  const victim = new Victim(data);
  postMessage("ready");
  void victim.run().catch((error: unknown) => reportError(error));
};
