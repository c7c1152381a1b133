/**
 * Compaction: the live records are copied to a sibling while reads and writes go on, the sibling catches up with what
 * was written meanwhile, takes the name under the writer's lock, and the index is led over to it.
 *
 *     sweep (-> rewrite in order) -> copy -> catch up, a few times -> swap (lock: some milliseconds) -> relocate the index -> release the old file
 *
 * The steps are a generator, so that the event loop turns between two of them, and a test runs them as it likes.
 *
 * Invariants
 * 1. Until the swap a failure changes no record: the sibling and the table of moves are gone, the log goes on.
 * 2. Before the sibling takes the name, the swap waits for the sync under way and keeps others from beginning one: what a
 *    flush acknowledges is durable in the file that has the name. It has the writer's lock by then, see `sync.ts`.
 * 3. Memory is a few buffers of fixed size, whatever the log's; the table of moves is in a file.
 */

import { EmdbError } from "../../errors.ts";
import { must } from "../../ffi/io-error.ts";
import { collectGarbage, type Pinned } from "../../ffi/memory.ts";
import type { CompactOptions } from "../../api/types.ts";
import { HEADER_PAGE_BYTES, SPACES_PER_LOOK } from "../../limits.ts";
import { LOG_FILE, LOG_WRITTEN, logFileOf } from "../../log/log-words.ts";
import type { NewLog } from "../../log/new-log.ts";
import { withRoom, type MakeRoom } from "../../log/reservation.ts";
import { nameFile } from "../../log/shared-file.ts";
import { Chase, catchUpSteps, roundSteps } from "./catch-up.ts";
import { LIVE_BYTES, NEXT_BASE, STATE } from "../threads/control.ts";
import { refusal, type Core } from "../core.ts";
import type { Engine } from "../engine.ts";
import { LogCopy, type CopyParts } from "./log-copy.ts";
import type { LongWork } from "../background/long-work.ts";
import { askForTwice, beginLog, nextBase, reserveSteps, type DraftPlan } from "./draft-log.ts";
import { pageAfter } from "../files/made-end.ts";
import { MoveTable } from "./move-table.ts";
import { Pace } from "../progress.ts";
import { rewriteSteps } from "./rewrite-in-order.ts";
import type { Relocation } from "./relocation.ts";
import { inSlices } from "../threads/held-steps.ts";
import { reapDeadRows } from "../threads/rows.ts";
import { compactPath } from "../files/siblings.ts";
import { discardDraft, holdLogFolder, install, syncName, takeName } from "./swap.ts";
import type { SpaceState } from "../spaces.ts";
import type { Sync } from "../sync/sync.ts";

/** Another round of copying by the index pays off for so much, or for such a share of what has been copied. */
const ROUND_BYTES_MIN = 1024 * 1024;
const ROUND_SHARE_MIN = 1 / 8;
/** So many rounds there may be, and then more as long as each leaves no more than such a share of what the one before left. */
const ROUNDS_ANYWAY = 3;
const ROUND_SHRINKS_TO = 0.8;
/** What is told as progress is bytes of log, and then, as if each shard of the index were one, so much memory of it. */
const SHARD_BYTES = 4096;
/** Turns of the event loop to wait until no other Worker can be in the old file; iterators may keep it longer. */
const RELEASE_TURNS = 64;

export interface CompactionParts {
  readonly engine: Engine;
  readonly work: LongWork;
  readonly relocation: Relocation;
  /** Undefined in memory. */
  readonly sync: Sync | undefined;
}

/** What there is to a compaction that nobody has asked for. */
export interface Unasked {
  /** Whether it is needed still, when it is its turn. */
  readonly isWanted: () => boolean;
  /** The disk has all the room for the copy, and copying begins. */
  readonly onRoom: () => void;
}

/** What there is to the steps of a compaction. */
interface CopyPlan {
  readonly onRoom?: (() => void) | undefined;
  /** Records that do not lie in the order of their keys are written anew before (`rewrite-in-order.ts`). */
  readonly isInOrder?: boolean;
}

/** A copy under way. */
export interface Draft {
  readonly log: NewLog;
  /** Its header page; undefined in memory. */
  readonly page: Pinned | undefined;
  readonly table: MoveTable;
  readonly copy: LogCopy;
  readonly makeRoom: MakeRoom;
}

export class Compaction {
  readonly #parts: CompactionParts;
  readonly #core: Core;
  /** Under way. */
  #copy: LogCopy | undefined;

  constructor(parts: CompactionParts) {
    this.#parts = parts;
    this.#core = parts.engine.core;
  }

  /** Resolves when the compacted file is in service and the one before is not needed any more. */
  async run(options: CompactOptions, unasked?: Unasked): Promise<void> {
    const core = this.#core;
    const isInOrder = options.inKeyOrder === true;
    refuseUnfit(core);
    if (isInOrder) refuseOrder(core);
    // What is live is looked at, and most of it may be written once more.
    const rewritten = isInOrder ? 2 * core.control.numbers[LIVE_BYTES]! : 0;
    const copied = core.visible - core.base + rewritten;
    const pace = new Pace(core, options, copied + core.heap.bytes / SHARD_BYTES);
    await this.#parts.work.run({ draftPath: this.#draftPath, options }, async (check) => {
      await pace.begin();
      check();
      if (unasked?.isWanted() === false) return;
      await this.#giveBack(0, pace, check);
      if (this.#isOutOfSegments()) await this.releaseDropped(() => this.#isOutOfSegments(), check);
      await pace.drive(core, this.copySteps({ onRoom: unasked?.onRoom, isInOrder }), {
        check,
        needsLock: () => this.#copy?.needsLock ?? true,
      });
      // What has been swapped in stays: it is too late to abort.
      pace.commit();
      await pace.drive(core, this.relocationSteps(copied), { check });
      await this.#giveBack(RELEASE_TURNS, pace, check);
      pace.finish();
    });
  }

  /** The same in one go, for who has the place. */
  runSync(): void {
    for (const _ of this.copySteps());
    for (const _ of this.relocationSteps());
    this.release("at once");
  }

  get #draftPath(): string | undefined {
    const { place } = this.#core;
    return place && compactPath(place);
  }

  /**
   * The steps to the swap, each of a few milliseconds at most; yields how far into the log it is. Who waits for `onRoom` has
   * all the room asked for before anything is copied: on a disk that has it not, next to nothing has been done then.
   */
  *copySteps(plan: CopyPlan = {}): Generator<number, void> {
    const { relocation, engine, sync } = this.#parts;
    const { onRoom } = plan;
    while (relocation.step()) yield 0;
    yield* this.sweepSteps();
    const looked = plan.isInOrder === true ? yield* this.#orderSteps() : 0;
    const draft = this.#begin();
    this.#copy = draft.copy;
    try {
      const steps = copySteps(engine, sync, { ...draft, onRoom, finish: () => this.#swap(draft) });
      for (const done of steps) yield looked + done;
    } finally {
      this.#copy = undefined;
      draft.copy.release();
      if (this.#parts.work.isOurs) discardDraft(this.#core, this.#draftPath);
    }
  }

  /** The steps after it, with which the old file is given up; yields how many it has done, added to what came before. */
  *relocationSteps(before = 0): Generator<number, void> {
    const { relocation } = this.#parts;
    let done = before;
    while (relocation.step()) yield (done += 1);
  }

  /** Lets go of the old files that nobody can be in any more; returns what is left. */
  release(pace: "in steps" | "at once"): "nothing" | "more" | "held" {
    const { engine, relocation } = this.#parts;
    return engine.exclusively(() => {
      this.#core.tidyIndex();
      return relocation.releaseUnneeded(pace);
    });
  }

  #isOutOfSegments(): boolean {
    const { segments } = this.#core.log;
    if (segments.free() === 0) this.release("at once");
    return segments.free() === 0;
  }

  /**
   * Iterators that nobody has any more keep their files until the collector comes by: it is called, and waited for as long
   * as files are in the way.
   */
  async releaseDropped(areInTheWay: () => boolean, check: () => void): Promise<void> {
    collectGarbage();
    for (let turn = 0; turn < RELEASE_TURNS && areInTheWay(); turn++) await this.#turn(check);
  }

  async #turn(check: () => void): Promise<void> {
    await this.#core.turned();
    check();
  }

  /** Gives back the old files that nobody can be in any more, in as many turns of the event loop as they are long. */
  async giveBackUnneeded(): Promise<void> {
    const core = this.#core;
    await this.#giveBack(0, new Pace(core, {}, 0), () => core.enter());
  }

  /** The same, and waits so many turns for others to be seen past a file. What is held longer goes with a later write. */
  async #giveBack(turnsMax: number, pace: Pace, check: () => void): Promise<void> {
    let turns = 0;
    let isMore = false;
    const step = (): boolean => {
      const left = this.release("in steps");
      isMore = left === "more";
      return isMore || (left === "held" && turns++ < turnsMax);
    };
    const isTurnDue = (): boolean => !isMore || pace.isLate;
    await inSlices(this.#core, { ...pace.slices({ step, check }), isTurnDue });
  }

  /**
   * What has expired need not be copied: the steps in which it is removed. Returns how many records that were.
   *
   * @throws {EmdbError} EMDB_CORRUPTED at their end: some have rotted, and no copy can be made of them
   */
  *sweepSteps(): Generator<number, number> {
    const { engine } = this.#parts;
    const { spaces, sweeper } = engine;
    const core = this.#core;
    const nowMs = core.now();
    let removed = 0;
    let rot: Error | undefined;
    const mayBeDue = (space: SpaceState): boolean => core.expiry.mayBeDue(space.address, nowMs);
    for (let first = 0; first < spaces.nextId; first += SPACES_PER_LOOK, yield 0) {
      const some = engine.exclusivelyInMemory(() => spaces.live(first, SPACES_PER_LOOK).filter(mayBeDue));
      for (const space of some) {
        for (let isDone = false; !isDone;) {
          yield 0;
          // Under one lock: another Worker may drop it in between.
          const slice = engine.exclusively(() => (spaces.isLive(space) ? sweeper.slice(space, nowMs) : undefined));
          removed += slice?.removed ?? 0;
          rot ??= slice?.rot;
          isDone = slice?.isDone ?? true;
        }
      }
    }
    if (rot !== undefined) throw rot;
    return removed;
  }

  /** The steps in which records are brought into order, once there is room for that and for the copy; returns how many bytes were looked at. */
  *#orderSteps(): Generator<number, number> {
    const { engine, relocation, work } = this.#parts;
    engine.exclusively(() => relocation.releaseUnneeded("at once"));
    yield* askForTwice(engine, this.#draftPlan, () => work.isOurs);
    return yield* rewriteSteps(engine);
  }

  get #draftPlan(): DraftPlan {
    return { path: this.#draftPath, generation: this.#core.generation + 1 };
  }

  #begin(): Draft {
    const { engine, relocation } = this.#parts;
    const core = this.#core;
    const exclusively = <T>(body: () => T): T => engine.exclusively(body);
    const exclusivelyInMemory = <T>(body: () => T): T => engine.exclusivelyInMemory(body);
    return exclusively(() => {
      // The snapshots of threads that have died keep nothing.
      reapDeadRows(core.control, core.system);
      relocation.releaseUnneeded("at once");
      engine.spaces.emptyAllGraves(core.keepFrom() * 8);
      nextBase(core, core.control.numbers[LIVE_BYTES]!);
      core.tail.spill();
      engine.spaces.noteCopy();
      const options = { keepFrom: () => core.keepFrom(), exclusively, exclusivelyInMemory };
      const draft = beginDraft(engine, this.#draftPlan, options);
      // Where that is refused the file is the owner's alone, as a new one is.
      if (core.file !== undefined) core.system.copyAccess?.(core.file.handle, core.control.draft.numbers[LOG_FILE]!);
      return draft;
    });
  }

  /** Under the writer's lock: the rest is copied, the sibling gets the name, its words become the log's. */
  #swap(draft: Draft): void {
    const { engine, sync } = this.#parts;
    const core = this.#core;
    engine.exclusively(() => {
      core.tail.spill();
      draft.copy.catchUp(core.visible - core.base);
      draft.table.finish();
      this.#end(draft);
      core.control.numbers[NEXT_BASE] = nextBase(core, draft.log.end);
      if (sync === undefined) this.#exchange();
      else sync.alone(() => this.#exchange());
    });
  }

  /** The sibling is the log from here on. */
  #exchange(): void {
    const core = this.#core;
    using folder = holdLogFolder(core);
    takeName(core);
    try {
      syncName(core, folder);
    } finally {
      install(core, this.#parts.engine.spaces);
      core.takeFile();
      core.log.takeMap();
    }
  }

  /** Makes the sibling whole and durable, and opens it as the log is opened. */
  #end(draft: Draft): void {
    const { system, control, writeThrough } = this.#core;
    const { log } = draft;
    const path = this.#draftPath;
    if (path === undefined) return;
    log.tail.spill();
    writeEnd(this.#core, draft, false);
    log.sync();
    if (writeThrough) {
      const handle = must(system.open(path, "write-through"), { syscall: "open", path });
      const former = control.draft.numbers[LOG_FILE]!;
      nameFile(system, logFileOf(control.draft), handle);
      system.close(former);
    }
    // As the log's file is: before it has a name to which there could be a link.
    must(system.lock(control.draft.numbers[LOG_FILE]!), { syscall: "flock", path });
  }
}

/** Long work needs a database that is open for writing and healthy. */
function refuseUnfit(core: Core): void {
  core.enter();
  const path = core.file?.path;
  if (core.isReadOnly) throw new EmdbError("EMDB_READ_ONLY", "the database was opened with readOnly", { path });
  if (core.control.flags[STATE] !== 0) throw refusal(core);
}

/** @throws {EmdbError} EMDB_INVALID_CONFIG for what has no order of keys, or must not show it */
function refuseOrder({ ordering, vault }: Core): void {
  if (ordering === undefined)
    throw new EmdbError("EMDB_INVALID_CONFIG", "inKeyOrder needs the ordered index: open with { rangeScans: true }");
  if (vault === undefined) return;
  const message =
    "inKeyOrder is not for an encrypted database: in a file in the order of its keys the length of the record at each rank shows";
  throw new EmdbError("EMDB_INVALID_CONFIG", message);
}

/** Begins a copy of the log as it is. Under the writer's lock, with everything in the file. */
export function beginDraft(
  engine: Engine,
  plan: DraftPlan,
  options: Pick<CopyParts, "keepFrom" | "exclusively" | "exclusivelyInMemory">,
): Draft {
  const { core, spaces } = engine;
  const { system, control } = core;
  const { path, generation } = plan;
  const { log, page, makeRoom } = beginLog(engine, plan);
  try {
    const ownRoom = (): boolean => log.tail.giveBack() || makeRoom();
    const place =
      path === undefined ? { logBytes: 2 * (core.visible - core.base) } : { draftPath: path, makeRoom: ownRoom };
    const table = new MoveTable(system, control, place);
    return { log, page, table, copy: new LogCopy({ core, spaces, log, table, ...options }, generation), makeRoom };
  } catch (error) {
    discardDraft(core, path);
    throw error;
  }
}

/**
 * Copies what is live, then what is live of what was written meanwhile, and so on, then catches up with all of it until
 * little is left, for which `finish` takes the writer's lock. Between the steps a write of this thread that finds the disk full has what the copy has reserved ahead.
 */
export function* copySteps(
  engine: Engine,
  sync: Sync | undefined,
  draft: Draft & { readonly onRoom?: (() => void) | undefined; readonly finish: () => void },
): Generator<number, void> {
  const { core } = engine;
  core.makeRoom = () => draft.log.tail.giveBack();
  try {
    if (draft.onRoom !== undefined) {
      yield* reserveSteps(draft.log, core.control.numbers[LIVE_BYTES]!);
      draft.onRoom();
    }
    yield* copyRounds(engine, sync, draft);
  } finally {
    core.makeRoom = () => false;
  }
}

function* copyRounds(
  engine: Engine,
  sync: Sync | undefined,
  draft: Draft & { readonly finish: () => void },
): Generator<number, void> {
  const { core } = engine;
  const { copy: copying, finish } = draft;
  // Whoever has begun it had the lock for that, and may have to wait for it anew.
  yield copying.done;
  while (copying.step()) yield copying.done;
  // Writers of any speed may go on beside the first round.
  const chase = new Chase(engine, copying.done);
  for (let round = 1, before = Infinity; ; round += 1) {
    const left = core.visible - core.base - copying.done;
    const isWorthIt = left > Math.min(ROUND_BYTES_MIN, draft.log.end * ROUND_SHARE_MIN);
    const shrinks = round < ROUNDS_ANYWAY || left <= before * ROUND_SHRINKS_TO;
    if (!isWorthIt || !shrinks || !copying.goOn()) break;
    yield* roundSteps(engine, copying, chase);
    before = left;
  }
  yield* catchUpSteps(engine, sync, copying, { chase, finish });
}

/** Writes the mark behind the end of a draft, and into its header where that is; returns the mark's length. */
export function writeEnd(core: Core, draft: Draft, isClean: boolean): number {
  const { numbers } = core.control.draft;
  const mark = draft.copy.mark(isClean);
  writeAt(core, draft, { position: numbers[LOG_WRITTEN]!, bytes: mark });
  const { page } = draft;
  if (page !== undefined) {
    const next = pageAfter(core, page.u8.subarray(0, HEADER_PAGE_BYTES), { madeEnd: draft.log.end });
    writeAt(core, draft, { position: 0, bytes: next.u8.subarray(0, HEADER_PAGE_BYTES) });
  }
  return mark.length;
}

function writeAt(
  { system, control, file }: Core,
  { makeRoom }: Draft,
  { position, bytes }: { readonly position: number; readonly bytes: Uint8Array },
): void {
  const handle = control.draft.numbers[LOG_FILE]!;
  const written = withRoom(makeRoom, () => system.write(handle, bytes, { position, bytes: bytes.length }));
  must(written, { syscall: "pwrite", path: file?.path });
}
