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

import { EmdbError } from "../../errors.ts";
import { AUTO_COMPACT_LOOK_BYTES, HEADER_PAGE_BYTES } from "../../limits.ts";
import type { Compaction, CompactionParts } from "../copy/compaction.ts";
import { LIVE_BYTES, STATE } from "../threads/control.ts";
import type { Core } from "../core.ts";
import type { AutoCompactPlan } from "../life.ts";
import type { Relocation } from "../copy/relocation.ts";
import { inSlices } from "../threads/held-steps.ts";
import { reapDeadRows } from "../threads/rows.ts";
import type { Spaces } from "../spaces.ts";
import { deadBytes } from "../stats.ts";

/** How often it is swept while the log grows by the floor. */
const SWEEPS_PER_FLOOR = 4;
/** After so much growth of the log, as a share of it, the disk is asked again whether it has room for the copy. */
const ASKED_AGAIN_SHARE = 1 / 8;

export class AutoCompact {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #compaction: Compaction;
  readonly #relocation: Relocation;
  readonly #plan: AutoCompactPlan;
  #isRunning = false;
  /** Whether the disk had room for the copy of the compaction at hand. */
  #hasRoom = false;
  /** Where the log has to end for the next sweep, and how far that was from the one before. */
  #sweepAt = 0;
  #sweepBytes = 0;
  /** How long the log has to be for the collector to be called; 0: nobody has been in the way. */
  #collectAt = 0;
  /** Where the log ended when a compaction failed, how far it has to grow for the next one, and what was live then. */
  #failed: { readonly end: number; readonly bytes: number; readonly live: number } | undefined;

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
    if (this.#isInTheWay && this.#collectAt === 0) this.#collectAt = 2 * this.#bytes.log;
    if (!this.#isDue && !this.#mustSweep && !this.#mustCollect && !this.#relocation.isGivingBack) return;
    this.#isRunning = true;
    core.putOff(() => void this.#run());
  }

  /** Whoever was in the way when the compaction before ended may be gone by now, also for good. */
  #releaseReplaced(): void {
    const core = this.#core;
    if (core.log.segments.list().length === 0) return;
    // The iterators of a thread that has died keep nothing.
    reapDeadRows(core.control, core.system);
    core.releaseFiles();
  }

  /**
   * Whether somebody is in the file before. As long as that is so, what is kept for them is dead here, and another file
   * would be held too. Where it is the index that names it, a compaction is under way, which is waited for, or its thread
   * has died: then nobody but the next one leads the index over.
   */
  get #isBlocked(): boolean {
    return this.#core.log.segments.list().length > 0 && !this.#relocation.isPending;
  }

  /** Bytes of the log, and how many of them have to be dead. */
  get #bytes(): { readonly log: number; readonly least: number } {
    const { tail, base } = this.#core;
    const log = tail.end - base;
    return { log, least: Math.max(this.#plan.bytesMin, this.#plan.ratio * log) };
  }

  get #live(): number {
    return this.#core.control.numbers[LIVE_BYTES]!;
  }

  /** A quick look, which leaves the creations of namespaces out: whether enough may be dead. */
  get #mayBeDue(): boolean {
    const { log, least } = this.#bytes;
    return log - HEADER_PAGE_BYTES - this.#live >= least;
  }

  /**
   * Whether the next compaction would fail as the last one did: it is tried again when half as much is to be copied, or when
   * the log has doubled. Where the disk refused the room for the copy, before anything was copied, an eighth is enough: others
   * make room without a word, and to ask costs a file that is made and removed.
   */
  get #isHopeless(): boolean {
    const failed = this.#failed;
    return failed !== undefined && this.#core.tail.end < failed.end + failed.bytes && this.#live > failed.live / 2;
  }

  get #isDue(): boolean {
    return (
      !this.#isBlocked &&
      this.#mayBeDue &&
      !this.#isHopeless &&
      deadBytes(this.#core, this.#spaces) >= this.#bytes.least
    );
  }

  /**
   * Whether the log has doubled since iterators are in the way, which perhaps nobody has any more. The collector takes as
   * long as the heap of the program is large, so it is called again when the log has doubled once more.
   */
  get #mustCollect(): boolean {
    return this.#isInTheWay && this.#collectAt > 0 && this.#bytes.log >= this.#collectAt;
  }

  /** Whether somebody in the file before keeps back a compaction that may be due. */
  get #isInTheWay(): boolean {
    return this.#isBlocked && this.#mayBeDue;
  }

  async #collect(): Promise<void> {
    const core = this.#core;
    this.#collectAt = 2 * this.#bytes.log;
    await this.#compaction.releaseDropped(
      () => this.#compaction.release("at once") === "held",
      () => core.enter(),
    );
  }

  /** Whether the log is so long that it could be compacted if enough of it has expired, and has grown since the last sweep. */
  get #mustSweep(): boolean {
    return this.#bytes.log >= this.#plan.bytesMin && this.#core.tail.end >= this.#sweepAt;
  }

  async #sweep(): Promise<void> {
    const core = this.#core;
    const steps = this.#compaction.sweepSteps();
    let removed = 0;
    const step = (): boolean => {
      const next = steps.next();
      if (next.done === true) removed = next.value;
      return next.done !== true;
    };
    await inSlices(core, { step, isTurnDue: () => true, turn: () => core.turned(), check: () => core.enter() });
    const least = this.#plan.bytesMin / SWEEPS_PER_FLOOR;
    // Where nothing expires it is looked for more and more seldom: a look goes over all namespaces.
    this.#sweepBytes = removed > 0 ? least : Math.max(least, Math.min(2 * this.#sweepBytes, this.#bytes.log / 2));
    this.#sweepAt = core.tail.end + this.#sweepBytes;
  }

  get #isServing(): boolean {
    const core = this.#core;
    return !core.isClosed && core.control.flags[STATE] === 0;
  }

  async #run(): Promise<void> {
    const core = this.#core;
    this.#hasRoom = false;
    try {
      // A thread that has left takes no lock any more: its row, by which the lock tells who holds it, may be another's.
      if (this.#isServing && this.#relocation.isGivingBack) await this.#compaction.giveBackUnneeded();
      if (this.#isServing && this.#mustSweep) await this.#sweep();
      if (this.#isServing && this.#mustCollect) await this.#collect();
      // Once more if what was overwritten meanwhile is too much again. Whoever had the place may have compacted already.
      while (this.#isServing && this.#isDue) {
        this.#hasRoom = false;
        await this.#compaction.run({}, { isWanted: () => this.#isDue, onRoom: () => void (this.#hasRoom = true) });
        this.#failed = undefined;
        this.#collectAt = 0;
      }
    } catch (error) {
      // A full disk, or a close: it was nobody's call.
      if (!(error instanceof EmdbError)) throw error;
      const { end } = core.tail;
      const share = error.code === "EMDB_FULL" && !this.#hasRoom ? ASKED_AGAIN_SHARE : 1;
      this.#failed = { end, bytes: Math.max(AUTO_COMPACT_LOOK_BYTES, share * (end - core.base)), live: this.#live };
      // What has expired is swept on: it is live until then.
      this.#sweepAt = Math.max(this.#sweepAt, end + this.#plan.bytesMin / SWEEPS_PER_FLOOR);
    } finally {
      this.#isRunning = false;
    }
  }
}
