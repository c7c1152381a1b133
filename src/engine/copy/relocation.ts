/**
 * After a compaction: the index, which still names positions in the file before, is led over to the new one, a piece
 * at a time, while reads and writes go on; then the file before is given up.
 *
 * A position says which file it is in, so an index that names both is right at every moment. What each piece of work
 * does is found in the shared words, so any thread can go on where another has died.
 *
 * Invariants
 * 1. A step holds the writer's lock for at most a shard, some leaves or some deadlines.
 * 2. A slot gets the position of the copy of the same frame by one store. A removal that was not copied, which nobody
 *    needs, then names nothing.
 * 3. A segment is released when the index names nothing in it, every snapshot is from after that, and every thread has
 *    been seen since. Of a long file the system gives the blocks back when it is closed for the last time, a fifth of a
 *    millisecond for each MiB: so it is cut a step at a time before, if nobody else has it. Its name has
 *    durably gone by then: a database that is poisoned because that failed leads no index over.
 */

import { HASH_BITS } from "../../keydir/hash.ts";
import { relocateShard } from "../../keydir/relocate.ts";
import type { Translate } from "../../ffi/positions.ts";
import type { System } from "../../ffi/system.ts";
import { RELOCATED, RELOCATED_SPACE, SNAPSHOTS, SWAP, SWAP_NONE, type Control } from "../threads/control.ts";
import { mapRelease, raiseOrigin, releaseMaps, segmentsOf } from "../../log/log-words.ts";
import { cutOff } from "../../log/cut.ts";
import { closeFile, openHandle } from "../../log/shared-file.ts";
import type { Core } from "../core.ts";
import { heldSteps, inSlices } from "../threads/held-steps.ts";
import { compactPath, movesPaths, replacedPaths, type LogPlace } from "../files/siblings.ts";
import type { SpaceState, Spaces } from "../spaces.ts";

const LEAVES_PER_STEP = 32;
const DEADLINES_PER_STEP = 4096;
/** How long the event loop is held at a time, at most a little more. */
const SLICE_MS = 2;

/** How far the key space at hand has come. */
interface Progress {
  /** The base of the file that is led over to: it is of one compaction, which another thread may have ended meanwhile. */
  readonly base: number;
  readonly space: SpaceState;
  readonly clears: number;
  hash: number;
  deadline: number;
  leaf: Uint8Array | undefined;
  hasTree: boolean;
}

export class Relocation {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #exclusively: <T>(body: () => T) => T;
  #progress: Progress | undefined;
  /** The segment that was looked at last for being cut, and how much of it may be at a time. */
  #cutting = { base: -1, bytes: 0 };

  constructor(core: Core, spaces: Spaces, exclusively: <T>(body: () => T) => T) {
    this.#core = core;
    this.#spaces = spaces;
    this.#exclusively = exclusively;
  }

  /**
   * Whether the index may still name the file before. It does, and no word says so yet, when a thread has died in a
   * swap: whoever takes the lock next ends that.
   */
  get isPending(): boolean {
    const { flags, numbers } = this.#core.control;
    return Atomics.load(flags, SWAP) !== SWAP_NONE || numbers[RELOCATED] !== 0;
  }

  /** Does the next piece, or several; false when there is none left. */
  step(): boolean {
    if (!this.isPending) return false;
    return heldSteps(this.#core, () => this.#exclusively(() => this.#step()));
  }

  /** Everything that is left, in one go. */
  finish(): void {
    while (this.step());
  }

  /** The same, and the event loop turns now and then. @throws {EmdbError} EMDB_CLOSED when the database is closed meanwhile */
  async finishInSlices(): Promise<void> {
    const core = this.#core;
    const { system } = core;
    let until = system.monotonic() + SLICE_MS;
    await inSlices(core, {
      step: () => this.step(),
      isTurnDue: () => system.monotonic() >= until,
      turn: async () => {
        await core.turned();
        until = system.monotonic() + SLICE_MS;
      },
      check: () => core.enter(),
    });
  }

  #step(): boolean {
    const { numbers } = this.#core.control;
    const segment = numbers[RELOCATED]!;
    if (segment === 0) return false;
    const progress = this.#take(numbers[RELOCATED_SPACE]!);
    if (progress === undefined) {
      this.#end(segment);
      return false;
    }
    const { segments } = this.#core.log;
    const translate = (units: Float64Array, count: number): void => segments.followMany(segment, units, count);
    const isMore = this.#stepSpace(progress, translate);
    if (!isMore) {
      numbers[RELOCATED_SPACE] = progress.space.id + 1;
      this.#progress = undefined;
    }
    return true;
  }

  /** The key space to work on, from an id on. */
  #take(from: number): Progress | undefined {
    const known = this.#progress;
    const { base } = this.#core;
    if (known?.base === base && known.space.id === from && this.#spaces.clears(known.space) === known.clears)
      return known;
    for (let id = from; id < this.#spaces.nextId; id++) {
      const space = this.#spaces.byId(id);
      if (space === undefined || this.#spaces.root(space) === 0) continue;
      this.#core.control.numbers[RELOCATED_SPACE] = id;
      const clears = this.#spaces.clears(space);
      const hasTree = this.#spaces.tree(space) !== 0;
      this.#progress = { base, space, clears, hash: 0, deadline: 0, leaf: undefined, hasTree };
      return this.#progress;
    }
    return undefined;
  }

  #stepSpace(progress: Progress, translate: Translate): boolean {
    const { keydir, expiry, ordering } = this.#core;
    const { space } = progress;
    if (progress.hash < 1 << HASH_BITS) {
      const shard = { root: this.#spaces.root(space), hash: progress.hash };
      progress.hash = relocateShard(keydir, shard, translate);
      return true;
    }
    if (progress.deadline >= 0) {
      progress.deadline = expiry.relocate(space.address, { from: progress.deadline, count: DEADLINES_PER_STEP });
      return true;
    }
    if (ordering === undefined || !progress.hasTree) return false;
    const work = { leaves: LEAVES_PER_STEP, translate };
    progress.leaf = ordering.index.relocate(this.#spaces.tree(space), progress.leaf, work);
    return progress.leaf !== undefined;
  }

  #end(segment: number): void {
    const core = this.#core;
    core.control.numbers[RELOCATED] = 0;
    this.#giveUp(segment);
    this.releaseUnneeded();
  }

  /** The index names nothing in a segment any more. */
  #giveUp(segment: number): void {
    const core = this.#core;
    core.log.segments.giveUp(segment, core.visible, core.reclaim.nextEra());
  }

  /**
   * Lets go of files that nobody can be reading any more, a long one a step at a time; returns what is left. Under the
   * writer's lock.
   */
  releaseUnneeded(pace: "in steps" | "at once" = "in steps"): "nothing" | "more" | "held" {
    const core = this.#core;
    const { system, control, place } = core;
    const { segments } = core.log;
    const all = segments.list();
    // Who has died between saying that nothing is left to lead over and up to where it may still be needed.
    if (!this.isPending) for (const at of all) if (segments.neededTo(at) === 0) this.#giveUp(at);
    const firstNeeded = all.findIndex((at) => this.#isNeeded(at));
    const unneeded = firstNeeded < 0 ? all : all.slice(0, firstNeeded);
    for (const at of unneeded) {
      releaseMaps(control.log, segments.base(at), mapRelease(system, place !== undefined));
      segments.leavePositions(at);
    }
    // Also what a thread has released that died before this.
    raiseOrigin(control.log);
    for (const at of unneeded) {
      if (pace === "in steps" && this.#cut(at)) return "more";
      release(system, control, { at, log: place });
    }
    return firstNeeded < 0 ? "nothing" : "held";
  }

  /** Cuts a step off the file of a segment that nobody needs; false when it is to be closed as it is. */
  #cut(at: number): boolean {
    const { system, log } = this.#core;
    const handle = openHandle(log.segments.file(at));
    if (handle === undefined) return false;
    const base = log.segments.base(at);
    // Asked once: whoever has not got it by then cannot get it any more.
    if (this.#cutting.base !== base) this.#cutting = { base, bytes: system.cutBytes?.(handle) ?? 0 };
    return cutOff(system, handle, this.#cutting.bytes);
  }

  /** Whether there is a file that nobody needs, which is being given back. */
  get isGivingBack(): boolean {
    const [at] = this.#core.log.segments.list();
    return at !== undefined && !this.#isNeeded(at);
  }

  #isNeeded(at: number): boolean {
    const core = this.#core;
    const { segments } = core.log;
    const neededTo = segments.neededTo(at);
    if (neededTo === 0) return true;
    if (core.control.flags[SNAPSHOTS]! > 0 && core.keepFrom() * 8 <= neededTo) return true;
    return !core.reclaim.isPast(segments.era(at));
  }
}

/** Unmaps and closes what a segment names. */
function release(
  system: System,
  control: Control,
  segment: { readonly at: number; readonly log: LogPlace | undefined },
): void {
  const segments = segmentsOf(control.log);
  const { at, log } = segment;
  const { base, moves } = segments.facts(at);
  const giveBack = mapRelease(system, log !== undefined);
  closeFile(system, segments.file(at));
  // Nobody looks into the table any more.
  closeFile(system, segments.movesFile(at));
  releaseMaps(control.log, base, giveBack);
  segments.drop(at);
  if (moves.address !== 0) giveBack(moves);
  if (log === undefined) return;
  // Where a mapped file keeps its name; those of others that are mapped still cannot be removed.
  if (system.canMapPastEnd) return;
  // Where nothing has the log's name the log may have one of these: a compaction could not give it its own again.
  const replaced = typeof system.status(log.path) === "number" ? [] : replacedPaths(system, log);
  for (const name of [...replaced, ...movesPaths(system, compactPath(log))]) system.unlink(name);
}

/** At the end of everything: lets go of all files that were replaced. Nobody reads any more. */
export function releaseReplaced(system: System, control: Control, log: LogPlace | undefined): void {
  for (const at of segmentsOf(control.log).list()) release(system, control, { at, log });
}
