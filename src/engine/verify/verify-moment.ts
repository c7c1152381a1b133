/**
 * The moment that a verify speaks about, and what it has found so far.
 *
 * Invariants
 * 1. The end, the counts and the number of clears of each key space are of one instant, under the writer's lock.
 * 2. As long as the moment is held, the index still leads to everything that was there at it (`snapshot.ts`).
 */

import { EmdbError } from "../../errors.ts";
import type { VerifyReport } from "../../api/types.ts";
import { LOG_WRITTEN } from "../../log/log-words.ts";
import type { Opened } from "../assemble.ts";
import type { Core } from "../core.ts";
import type { SpaceState } from "../spaces.ts";

/** So many times the log's own length, and so much in any case, may be written while each key is still followed back. */
const FOLLOWED_SHARE = 2;
const FOLLOWED_BYTES_MIN = 32 * 1024 * 1024;

/** A key space as it was. */
export interface SpaceMoment {
  readonly space: SpaceState;
  /** In the file, as everything that the log itself says. */
  readonly createdAt: number;
  readonly isLive: boolean;
  readonly clears: number;
  readonly records: number;
  readonly bytes: number;
}

export interface Moment {
  /** The log is looked at up to here, as a place in the file. */
  readonly end: number;
  /** The position that the file's first byte has in the index. */
  readonly base: number;
  /** Whether the counts are of exactly that end. */
  readonly isExact: boolean;
  /** By id; of the dropped ones some. */
  readonly spaces: ReadonlyMap<number, SpaceMoment>;
  /** Lets go of it; the database may be closed by then. */
  release(): void;
}

/** Takes the present moment, after everything pending has been written to the file. */
export function takeMoment({ engine }: Opened): Moment {
  const { core, spaces, snapshots } = engine;
  // Once for both: what another Worker publishes in between would be in the counts, and only in part in the file.
  core.mutex.lock();
  try {
    try {
      if (!core.isReadOnly) engine.exclusively(() => core.tail.spill());
    } catch (error) {
      // A database that refuses writes can still be looked at, as far as it is in the file.
      if (!(error instanceof EmdbError)) throw error;
    }
    core.enter();
    const hold = snapshots.hold(spaces.default);
    const found = new Map<number, SpaceMoment>();
    for (let id = 0; id < spaces.nextId; id++) {
      const space = spaces.byId(id);
      if (space === undefined) continue;
      const createdAt = Math.max(0, spaces.createdAt(space) - core.base);
      const facts = { createdAt, isLive: spaces.isLive(space), clears: spaces.clears(space) };
      found.set(id, { space, ...facts, ...spaces.counts(space) });
    }
    const end = Math.min(core.visible, core.control.log.numbers[LOG_WRITTEN]!);
    const release = (): void => snapshots.close(hold);
    const { base } = core;
    const isExact = end === core.visible && end === core.tail.end;
    return { end: end - base, base, isExact, spaces: found, release };
  } finally {
    core.mutex.unlock();
  }
}

/**
 * Whether each key is followed back to what it was at the moment, so that what the indexes show can be counted. Not when
 * so much has been written since that this could take longer than all the rest, and others write on meanwhile: then an
 * index is checked as it is now alone. What was answered with no once is so always.
 */
export function canFollowBack(core: Core, { isExact, base, end }: Moment): boolean {
  return isExact && core.visible - base - end <= Math.max(FOLLOWED_SHARE * end, FOLLOWED_BYTES_MIN);
}

/**
 * Where in the file the frame is that an index names, 0 for nowhere. As long as an index has not been led over to a
 * compacted file, which a poisoned database never does, it names places in the one before.
 */
export function placeInFile(core: Core, moment: Moment, lsn: number): number {
  if (lsn >= moment.base) return lsn - moment.base;
  return Math.max(0, core.log.segments.present(lsn) - moment.base);
}

/** What is wrong, in the order in which it was found. */
export class Problems {
  readonly list: { offset: number; reason: string }[] = [];
  readonly #lost: { readonly from: number; readonly to: number }[] = [];

  add(offset: number, reason: string): void {
    this.list.push({ offset, reason });
  }

  /** Nothing is known of what stands in this stretch of the log; what follows from that alone is no problem of its own. */
  lose(from: number, to: number): void {
    this.#lost.push({ from, to });
  }

  get hasLost(): boolean {
    return this.#lost.length > 0;
  }

  isLost(lsn: number): boolean {
    return this.#lost.some(({ from, to }) => lsn >= from && lsn < to);
  }

  report(counts: Pick<VerifyReport, "records" | "bytes">): VerifyReport {
    return { ...counts, problems: [...this.list].sort((a, b) => a.offset - b.offset) };
  }
}
