/**
 * Compaction by itself, in the background: when dead bytes are a given share of the log and more than a given floor.
 *
 * The thread whose write makes the log cross the line begins it when its event loop turns. The writer looks each time
 * the log has grown by a step, and after a clear; looking is a subtraction. It waits until nobody needs the file that
 * the compaction before has replaced, and lets go of that file itself: it may be the only one who comes by.
 *
 * What has expired is dead when it has been swept. So it is swept here as well, whenever the log has grown by a share of
 * the floor: a log of records that are never removed in another way would grow for ever.
 */

import { EmdbError } from "../errors.ts";
import { AUTO_COMPACT_LOOK_BYTES, HEADER_PAGE_BYTES } from "../limits.ts";
import type { Compaction, CompactionParts } from "./compaction.ts";
import { LIVE_BYTES, STATE } from "./control.ts";
import type { Core } from "./core.ts";
import type { AutoCompactPlan } from "./life.ts";
import type { Relocation } from "./relocation.ts";
import { reapDeadRows } from "./rows.ts";
import type { Spaces } from "./spaces.ts";
import { deadBytes } from "./stats.ts";

/** How often it is swept while the log grows by the floor. */
const SWEEPS_PER_FLOOR = 4;

export class AutoCompact {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #compaction: Compaction;
  readonly #relocation: Relocation;
  readonly #plan: AutoCompactPlan;
  #isRunning = false;
  /** How long the log has to be for the next sweep. */
  #sweepAt = 0;

  constructor(parts: Pick<CompactionParts, "engine" | "relocation">, compaction: Compaction, plan: AutoCompactPlan) {
    const { core, spaces } = parts.engine;
    this.#core = core;
    this.#spaces = spaces;
    this.#compaction = compaction;
    this.#relocation = parts.relocation;
    this.#plan = plan;
    core.onGrowth = () => this.#look();
    core.growthAt = 0;
  }

  /** Under the writer's lock. */
  #look(): void {
    const core = this.#core;
    core.growthAt = core.tail.end + AUTO_COMPACT_LOOK_BYTES;
    if (this.#isRunning) return;
    this.#releaseReplaced();
    if (!this.#isDue && !this.#mustSweep) return;
    this.#isRunning = true;
    core.defer(() => void this.#run());
  }

  /** Whoever was in the way when the compaction before ended may be gone by now, also for good. */
  #releaseReplaced(): void {
    const core = this.#core;
    if (core.log.segments.list().length === 0) return;
    // The iterators of a thread that has died keep nothing.
    reapDeadRows(core.control, core.system);
    core.releaseFiles();
  }

  get #isDue(): boolean {
    const core = this.#core;
    // As long as somebody is in the file before, what is kept for them is dead here, and another file would be held too.
    // Where it is the index that names it, a compaction is under way, which is waited for, or its thread has died: then
    // nobody but the next one leads the index over.
    if (core.log.segments.list().length > 0 && !this.#relocation.isPending) return false;
    const bytes = core.tail.end - core.base;
    const least = Math.max(this.#plan.bytesMin, this.#plan.ratio * bytes);
    // The creations of namespaces are left out of the quick look.
    if (bytes - HEADER_PAGE_BYTES - core.control.numbers[LIVE_BYTES]! < least) return false;
    return deadBytes(core, this.#spaces) >= least;
  }

  /** Whether the log is so long that it could be compacted if enough of it has expired, and has grown since the last sweep. */
  get #mustSweep(): boolean {
    const { tail, base } = this.#core;
    return tail.end - base >= this.#plan.bytesMin && tail.end >= this.#sweepAt;
  }

  async #sweep(): Promise<void> {
    const core = this.#core;
    this.#sweepAt = core.tail.end + this.#plan.bytesMin / SWEEPS_PER_FLOOR;
    for (const _ of this.#compaction.sweepSteps()) {
      await new Promise<void>((resolve) => core.defer(resolve));
      core.enter();
    }
  }

  async #run(): Promise<void> {
    const core = this.#core;
    try {
      if (this.#mustSweep) await this.#sweep();
      // Once more if what was overwritten meanwhile is too much again. Whoever had the place may have compacted already.
      while (!core.isClosed && core.control.flags[STATE] === 0 && this.#isDue)
        await this.#compaction.run({}, () => this.#isDue);
    } catch (error) {
      // A full disk, or a close: it was nobody's call. When the log has doubled it is tried again.
      if (!(error instanceof EmdbError)) throw error;
      core.growthAt = core.tail.end + Math.max(AUTO_COMPACT_LOOK_BYTES, core.tail.end - core.base);
    } finally {
      this.#isRunning = false;
    }
  }
}
