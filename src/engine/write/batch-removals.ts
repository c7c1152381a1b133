/**
 * The removals of a batch: what they left in the index is given back once the batch is published, when nobody needs it any
 * more. As many shards are looked at as go with the removals, from where the last batch left off; those are all of them,
 * unless a small batch came to a large index.
 */

import { leaveForLater } from "../../ffi/give-back.ts";
import type { Core } from "../core.ts";
import type { SpaceState, Spaces } from "../spaces.ts";

/** A batch that removes fewer leaves the rest to single removals. */
const TIDY_REMOVALS_MIN = 128;
/** One shard is looked at for so many removals: a tenth of what those take. */
const REMOVALS_PER_SHARD = 4;

export class BatchRemovals {
  readonly #core: Core;
  readonly #spaces: Spaces;
  /** Records that the batch at hand has removed, by key space. */
  readonly #counts = new Map<SpaceState, number>();
  /** The hashes from which on shards are looked at next. */
  readonly #shrinkFrom = new WeakMap<SpaceState, number>();

  constructor(core: Core, spaces: Spaces) {
    this.#core = core;
    this.#spaces = spaces;
  }

  /** The batch at hand has removed a record of a key space. */
  note(space: SpaceState): void {
    this.#counts.set(space, (this.#counts.get(space) ?? 0) + 1);
  }

  /** The batch at hand is taken back. */
  forget(): void {
    this.#counts.clear();
  }

  /** After the batch was published. */
  tidy(): void {
    const core = this.#core;
    const counts = this.#counts;
    for (const [space, count] of counts) if (count < TIDY_REMOVALS_MIN) counts.delete(space);
    if (counts.size === 0) return;
    // What was published is out before the snapshots are looked at: a new one then is behind the batch.
    core.orderStores();
    try {
      for (const [space, count] of counts) this.#shrinkSome(space, Math.ceil(count / REMOVALS_PER_SHARD));
    } catch (error) {
      leaveForLater(error);
    } finally {
      counts.clear();
    }
  }

  #shrinkSome(space: SpaceState, most: number): void {
    const core = this.#core;
    const isAll = most >= 2 ** (this.#spaces.root(space) % 32);
    const from = isAll ? 0 : (this.#shrinkFrom.get(space) ?? 0);
    const next = core.keydir.shrinkSome(space.address, core.keepFrom(), { from, most });
    if (next === 0) this.#shrinkFrom.delete(space);
    else this.#shrinkFrom.set(space, next);
  }
}
