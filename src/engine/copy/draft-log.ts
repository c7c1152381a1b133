/**
 * The file that a copy of the log goes to, as it is begun: where its positions come to lie, and whether there is room for it.
 *
 * Invariant: what is refused here is refused before anything of the log has been changed.
 */

import { EmdbError } from "../../errors.ts";
import type { Pinned } from "../../ffi/memory.ts";
import { GROWTH_BYTES_MAX, LOG_BYTES_MAX, POSITIONS_END_MAX, RING_BYTES, SPACES_PER_LOOK } from "../../limits.ts";
import { LOG_CLAIMED, LOG_TAIL, positionsInUse } from "../../log/log-words.ts";
import { PAIR_BYTES } from "../../log/moves.ts";
import { NewLog } from "../../log/new-log.ts";
import type { MakeRoom } from "../../log/reservation.ts";
import { SEGMENT_COUNT_MAX } from "../../log/segments.ts";
import type { Core } from "../core.ts";
import type { Engine } from "../engine.ts";
import { headerPageOf, pageAfter } from "../files/made-end.ts";
import { roomMaker } from "../files/make-room.ts";
import { LIVE_BYTES } from "../threads/control.ts";
import { discardDraft } from "./swap.ts";

/** Where a log copy goes. */
export interface DraftPlan {
  readonly path: string | undefined;
  readonly generation: number;
}

/** A log that is begun; `page` is its header page, undefined in memory. */
interface DraftLog {
  readonly log: NewLog;
  readonly page: Pinned | undefined;
  readonly makeRoom: MakeRoom;
}

/** Begins it. Under the writer's lock. */
export function beginLog(engine: Engine, { path, generation }: DraftPlan): DraftLog {
  const { core } = engine;
  const { system, control } = core;
  const page = path === undefined ? undefined : pageAfter(core, headerPageOf(core), { generation, madeEnd: 0 });
  const made = page === undefined || path === undefined ? undefined : { path, page };
  const makeRoom = roomMaker(engine);
  const log = NewLog.begin(system, control.draft, { generation, file: made, makeRoom });
  return { log, page, makeRoom };
}

/** Reserves what a copy will take, in steps: a file system in memory has to fill what it reserves. */
export function* reserveSteps(log: NewLog, live: number): Generator<number, void> {
  for (let bytes = 0; bytes < live; yield 0) {
    bytes = Math.min(bytes + GROWTH_BYTES_MAX, live);
    log.reserve(bytes);
  }
}

/**
 * Asks for the room for everything that is live to be written twice, into the log and into its copy, with the table of moves,
 * and gives it back. Who has the place of long work; `isOurs` says whether it still has.
 *
 * @throws {EmdbError} EMDB_FULL
 */
export function* askForTwice(engine: Engine, plan: DraftPlan, isOurs: () => boolean): Generator<number, void> {
  const { core, spaces } = engine;
  const twice = 2 * core.control.numbers[LIVE_BYTES]!;
  let moves = 0;
  for (let first = 0; first < spaces.nextId; first += SPACES_PER_LOOK, yield 0) {
    const some = engine.exclusivelyInMemory(() => spaces.live(first, SPACES_PER_LOOK));
    for (const space of some) moves += PAIR_BYTES * spaces.records(space);
  }
  const begun = engine.exclusively(() => {
    nextBase(core, twice);
    return plan.path === undefined ? undefined : beginLog(engine, plan);
  });
  if (begun === undefined) return;
  try {
    yield* reserveSteps(begun.log, twice + moves);
  } finally {
    if (isOurs()) discardDraft(core, plan.path);
  }
}

/**
 * A base beyond every position that was given out, so that the ring's places stay told apart, for a file of some length.
 * It holds only under the lock in which the swap is made: until then others write on.
 *
 * @throws {EmdbError} EMDB_FULL when there is none
 */
export function nextBase(core: Core, bytes: number): number {
  const { numbers } = core.control.log;
  const used = Math.max(numbers[LOG_TAIL]!, numbers[LOG_CLAIMED]!);
  const base = Math.ceil((used + 1) / RING_BYTES) * RING_BYTES;
  const { origin, end } = positionsInUse(core.control.log);
  const hasRoom = base + bytes + RING_BYTES <= end;
  if (hasRoom && core.log.segments.free() !== 0) return base;
  const inUse =
    `the files that the last ${SEGMENT_COUNT_MAX} compactions replaced, the most that are kept, are still in use, by iterators ` +
    "that began before or by a Worker whose event loop has not turned since it read: end the iterators, or let that Worker's loop turn";
  const whole = `the log and its compacted copy would span ${base + bytes - origin} bytes; the limit is ${LOG_BYTES_MAX}`;
  const spent = `more than ${POSITIONS_END_MAX} bytes have been written since the open; reopen the database`;
  const what = hasRoom || origin < core.base ? inUse : end === POSITIONS_END_MAX ? spent : whole;
  throw new EmdbError("EMDB_FULL", what, { path: core.file?.path });
}
