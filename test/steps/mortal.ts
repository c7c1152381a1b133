/** Who counts the stores to shared memory of one thread, and dies before one of them: nothing of it happens from then on. */

import { Death } from "./baton.ts";
import type { Pacer } from "./instrument.ts";

/** A stretch of memory that threads share. */
interface Stretch {
  readonly from: number;
  readonly end: number;
}

export class Mortal implements Pacer {
  /** Addresses outside of it are this thread's own. */
  shared: Stretch = { from: 0, end: 0 };
  /** An array that is made meanwhile is of a thread that may die. A look at the others' costs a tenth of one that is counted. */
  isWatching = true;
  #isArmed = false;
  #isDead = false;
  #stores = 0;
  #diesAt = 0;

  step(to?: number | "word"): void {
    if (this.#isDead) throw new Death();
    if (!this.#isArmed || to === undefined) return;
    if (to !== "word" && (to < this.shared.from || to >= this.shared.end)) return;
    this.#stores += 1;
    if (this.#stores !== this.#diesAt) return;
    this.#isDead = true;
    throw new Death();
  }

  giveWay(): void {}

  /** Nobody else is at work, so nobody would wake it. */
  sleep(_: number, hasTimeout: boolean): boolean {
    if (!hasTimeout) throw new Error("a thread waits for ever");
    return false;
  }

  wake(): number {
    return 0;
  }

  /** What `make` makes is looked at only where it may die. */
  watch<T>(isWatching: boolean, make: () => T): T {
    this.isWatching = isWatching;
    try {
      return make();
    } finally {
      this.isWatching = true;
    }
  }

  /** Lets `life` die before its n-th store, counted from 1; 0: it lives. Returns how many stores it made and whether it died. */
  live(diesAt: number, life: () => void): { readonly stores: number; readonly hasDied: boolean } {
    this.#isArmed = true;
    this.#stores = 0;
    this.#diesAt = diesAt;
    let hasDied = false;
    try {
      life();
    } catch (error) {
      // Whatever a dead thread's own code makes of its death is never heard of.
      if (!this.#isDead) throw error;
    } finally {
      hasDied = this.#isDead;
      this.#isArmed = false;
      this.#isDead = false;
    }
    return { stores: this.#stores, hasDied };
  }
}
