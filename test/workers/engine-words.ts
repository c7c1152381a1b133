/** The words of an open database that tests look at: how often it was synced, and how far it is durable. */

import type { SharedBase } from "../../src/engine/threads/base.ts";
import { Control, STATE, STATE_POISONED, SYNC_DONE } from "../../src/engine/threads/control.ts";
import type { Emdb } from "../../src/index.ts";
import { RING_BYTES } from "../../src/limits.ts";
import { LOG_BASE, LOG_CLAIMED, LOG_DURABLE, LOG_VISIBLE, positionsInUse } from "../../src/log/log-words.ts";
import { LEAP_BYTES } from "../support/far-positions.ts";

export class EngineWords {
  readonly #control: Control;

  constructor(db: Emdb) {
    this.#control = new Control((db.share() as SharedBase).buffer);
  }

  /** As after a sync that failed. */
  poison(): void {
    Atomics.or(this.#control.flags, STATE, STATE_POISONED);
  }

  /** Compacts until the log's file begins at a base, as if all up to there had been written. Nobody else is there yet. */
  async leapTo(db: Emdb, base: number): Promise<void> {
    const { log } = this.#control;
    while (log.numbers[LOG_BASE]! < base) {
      db.flushSync();
      const next = Math.min(base, positionsInUse(log).origin + LEAP_BYTES);
      log.numbers[LOG_CLAIMED] = next - RING_BYTES;
      await db.compact();
      if (log.numbers[LOG_BASE] !== next) throw new Error(`the base is ${log.numbers[LOG_BASE]} and not ${next}`);
    }
  }

  /** Syncs that were led so far, by any thread. */
  get syncs(): number {
    return Atomics.load(this.#control.flags, SYNC_DONE);
  }

  get durable(): number {
    return this.#control.log.numbers[LOG_DURABLE]!;
  }

  get visible(): number {
    return this.#control.log.numbers[LOG_VISIBLE]!;
  }
}
