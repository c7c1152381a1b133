/** The words of an open database that tests look at: how often it was synced, and how far it is durable. */

import type { SharedBase } from "../../src/engine/base.ts";
import { Control, STATE, STATE_POISONED, SYNC_DONE } from "../../src/engine/control.ts";
import type { Emdb } from "../../src/index.ts";
import { LOG_DURABLE, LOG_VISIBLE } from "../../src/log/log-words.ts";

export class EngineWords {
  readonly #control: Control;

  constructor(db: Emdb) {
    this.#control = new Control((db.share() as SharedBase).buffer);
  }

  /** As after a sync that failed. */
  poison(): void {
    Atomics.or(this.#control.flags, STATE, STATE_POISONED);
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
