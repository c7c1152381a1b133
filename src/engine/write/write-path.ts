/**
 * The write path: encode a frame into the tail, point the index to it, publish.
 *
 * Invariants
 * 1. All under the writer's lock, which the caller takes and gives back, and every write begins with `begin`: it refuses an unhealthy database and
 *    undoes what a failed or dead writer left between `visible` and the tail.
 * 2. Frame bytes, then `tail`, then the slot, then `visible`: a reader that finds a slot finds the frame.
 * 3. Nothing is visible before `publish`; until then `undo` can take everything back.
 * 4. Between a slot and the counts that go with it nothing can fail; behind `publish` nothing fails.
 */

import { EmdbError, assert } from "../../errors.ts";
import { appendFrame } from "../../log/append.ts";
import { FrameEncoder } from "../../log/encoder.ts";
import {
  KIND_ABORT,
  KIND_CLEAR,
  KIND_END,
  KIND_PUT,
  KIND_REMOVE,
  KIND_SPACE_CREATE,
  KIND_SPACE_DROP,
  PLACE_ALONE,
  PLACE_FIRST,
  PLACE_LAST,
  PLACE_MIDDLE,
  KIND_SESSION,
  SHAPE_EXPIRY,
  kindOf,
  placeOf,
} from "../../log/frame.ts";
import { LOG_DURABLE, LOG_VISIBLE, LOG_WRITTEN } from "../../log/log-words.ts";
import { syncError } from "../../ffi/io-error.ts";
import { HEADER_PAGE_BYTES, SPILL_PAUSE_MS_MAX, STRIDE_BYTES, VALUE_BYTES_MAX } from "../../limits.ts";
import { BatchRemovals } from "./batch-removals.ts";
import type { Bytes } from "../contract.ts";
import { forgetDeadlines, recount, renumberTrees, repairDirectories } from "../threads/audit.ts";
import { ABORTS, AUDIT, GRAVES, SNAPSHOTS, STATE, STATE_POISONED } from "../threads/control.ts";
import { refusal, type Core } from "../core.ts";
import { noteDeadline } from "./deadlines.ts";
import { leaveForLater } from "../../ffi/give-back.ts";
import { isProcessEnding } from "../../ffi/process-exit.ts";
import { reapDeadRows } from "../threads/rows.ts";
import { SPACE_DROPPED, type SpaceState, type Spaces } from "../spaces.ts";
import { endSwap } from "../copy/swap.ts";
import { undo } from "./undo.ts";
import type { Vault } from "../sealed/vault.ts";
import { writeAgain } from "../sync/write-again.ts";

/** Batches of retired memory, a quarter of a MiB each, from which on it is looked whether some of it is free: 4 MiB. */
const WAITING_MANY = 16;
/** So many publications for each look, which goes over all rows. */
const LOOK_EVERY = 8;
/** While there are snapshots or graves it is looked so often who needs them: some thousand tombstones that a dead thread keeps. */
const SNAPSHOT_LOOK_BYTES = 256 * 1024;

export class WritePath {
  readonly #core: Core;
  readonly #spaces: Spaces;
  /** Whether the last `put` or `delete` found a value, expired or not. */
  wasLive = false;
  /** Whether the value that the last `delete` found had not expired. */
  wasPresent = false;
  #spillIsDue = false;
  #looks = 0;
  /** Where the log ended when it was last looked for snapshots of dead threads. */
  #lookedAt = 0;
  readonly #removals: BatchRemovals;

  constructor(core: Core, spaces: Spaces) {
    this.#core = core;
    this.#spaces = spaces;
    this.#removals = new BatchRemovals(core, spaces);
  }

  /** Makes sure that writing, to the log or to memory alone, can begin. */
  begin(isOfFile = true): void {
    const core = this.#core;
    core.expiry.forgetBatch();
    if (core.isReadOnly)
      throw new EmdbError("EMDB_READ_ONLY", "the database was opened with readOnly", { path: core.file?.path });
    if (core.control.flags[STATE] !== 0) throw refusal(core);
    core.enter();
    core.takeFile();
    const isSettled = core.control.flags[AUDIT] === 0 && core.tail.end === core.visible;
    if (isOfFile || !isSettled) this.#look();
    if (core.control.flags[AUDIT] !== 0) this.#audit();
    else if (!isSettled) this.rollBack();
    core.expiry.beginBatch();
  }

  #look(): void {
    const { tail, lockWatch } = this.#core;
    if (tail.pendingBytes === 0 || lockWatch.wasRobbed) lockWatch.lookOnce();
  }

  /** After a writer's death: directories and trees first, or its frames could not be looked up to be undone. */
  #audit(): void {
    const core = this.#core;
    endSwap(core, this.#spaces);
    core.takeFile();
    core.tail.mend();
    repairDirectories(core, this.#spaces);
    renumberTrees(core, this.#spaces);
    this.#hearAgain();
    forgetDeadlines(core, this.#spaces);
    if (core.tail.end !== core.visible) this.rollBack();
    recount(core, this.#spaces);
    Atomics.store(core.control.flags, AUDIT, 0);
  }

  /** Where writing through is a sync by itself, the dead writer may have been in one, and what the system said of it is lost. */
  #hearAgain(): void {
    const core = this.#core;
    const { file } = core;
    if (!core.writeThrough || core.system.lacksWriteThrough !== true || file === undefined) return;
    writeAgain(core, file);
    if (core.control.flags[STATE] !== 0) throw refusal(core);
  }

  /** After a published batch. */
  tidy(): void {
    this.#removals.tidy();
  }

  /** After a throw: takes back what the write left. What cannot be taken back now is by the next `begin`. */
  abandon(): void {
    const core = this.#core;
    this.#removals.forget();
    if (core.isReadOnly || core.isClosed) return;
    // It may have been refused for their sake: where nothing is written, nobody else lets go of them.
    core.releaseFiles();
    // What a dead writer has left is the next audit's: this one has not come to its end.
    if (core.tail.end === core.visible || core.control.flags[AUDIT] !== 0) return;
    try {
      this.rollBack();
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
    }
  }

  /** Takes back every frame behind `visible`; closes with an abort what is in the file already, or may be. */
  rollBack(): void {
    const core = this.#core;
    const { tail } = core;
    if (core.vault !== undefined) this.#adoptSession(core.vault);
    const start = core.visible;
    if (tail.end === start) return;
    const { written, isEnded } = this.#unfinished(start);
    // In the file with its end: whoever wrote it through died when all was done but to say so, and what has ended takes
    // no abort. Nor does what ends with one: it was undone, and counted, before that was written.
    const isDone = isEnded && core.writeThrough && core.file !== undefined && tail.pendingBytes === 0;
    // Or its sync has failed: it was refused, and nothing more is written.
    const isLost = isDone && core.control.flags[STATE] !== 0;
    if (!isDone || isLost) undo(core, this.#spaces, start);
    if (isLost) throw refusal(core);
    if (!isDone) {
      if (!tail.retreat(written)) tail.retreat(core.control.log.numbers[LOG_WRITTEN]!);
      if (tail.end === start) return;
      Atomics.add(core.control.flags, ABORTS, 1);
      this.#append(KIND_ABORT, PLACE_LAST, 0);
    }
    this.publish();
  }

  /**
   * Of the frames behind `start`: where the last one begins that may be in the file, `start` if none, and whether they have
   * their end.
   */
  #unfinished(start: number): { readonly written: number; readonly isEnded: boolean } {
    const { lookup, tail } = this.#core;
    let written = start;
    for (let lsn = start; lsn < tail.end; lsn += lookup.frameBytes()) {
      lookup.loadAnyAt(lsn);
      if (lsn < tail.touched) written = lsn;
    }
    const place = placeOf(lookup.shape);
    const isEnded = place === PLACE_ALONE || place === PLACE_LAST;
    // Who died in a roll-back, behind the retreat, has left a frame there that may be in the file.
    if (!isEnded && tail.end < tail.touched) written = tail.end;
    return { written, isEnded };
  }

  /** Lets every reader see what has been written, and sees to it that it reaches the file. */
  publish(): void {
    const core = this.#core;
    core.ordering?.enterGathered(this.#spaces);
    if (core.writeThrough) this.#writeThrough();
    const log = core.control.log;
    core.orderStores();
    log.numbers[LOG_VISIBLE] = core.tail.end;
    this.#spaces.publishCounts();
    const pending = core.tail.pendingBytes;
    // Behind the last turn of the event loop there is no later.
    if (pending > 0 && isProcessEnding()) this.#spill(false);
    else if (pending > 0 && !this.#spillIsDue) this.#spillLater();
    if (pending >= STRIDE_BYTES) this.#spill(true);
    this.#tend();
  }

  /** What comes with a publication, which has taken effect whatever becomes of this. */
  #tend(): void {
    const core = this.#core;
    try {
      core.ordering?.tidy(this.#spaces);
      if (core.tail.end >= core.growthAt) core.onGrowth();
      core.tendFiles();
      if (core.reclaim.waitingCount >= WAITING_MANY && ++this.#looks % LOOK_EVERY === 0) core.tidyIndex();
      const isKept = core.control.flags[SNAPSHOTS]! > 0 || core.control.flags[GRAVES] !== 0;
      if (isKept && core.visible - this.#lookedAt >= SNAPSHOT_LOOK_BYTES) {
        this.#lookedAt = core.visible;
        this.#forgetDead();
      }
    } catch (error) {
      leaveForLater(error);
    }
  }

  /** What a dead thread had open keeps nothing any more, nor the graves of a walk that has ended while somebody wrote. */
  #forgetDead(): void {
    const core = this.#core;
    const { control, system } = core;
    reapDeadRows(control, system);
    // What a dead writer has left is looked at by the next `begin` first.
    if (control.flags[GRAVES] === 0 || control.flags[AUDIT] !== 0) return;
    core.orderStores();
    this.#spaces.emptyAllGraves(core.keepFrom() * 8);
  }

  #writeThrough(): void {
    const core = this.#core;
    // Whoever takes back what a failed sync leaves asks for none again: it would be told of a success that is none.
    if (core.control.flags[STATE] !== 0) throw refusal(core);
    try {
      core.tail.spill();
      const { system, file } = core;
      const synced = file !== undefined && system.lacksWriteThrough === true ? system.sync(file.handle) : 0;
      if (synced < 0) throw syncError(synced, file!.path);
    } catch (error) {
      // Whoever cannot ask whose the lock is has written nothing.
      const isFailed = error instanceof EmdbError && error.code === "EMDB_IO" && error.syscall !== "stat";
      if (isFailed) Atomics.or(core.control.flags, STATE, STATE_POISONED);
      throw error;
    }
    core.control.log.numbers[LOG_DURABLE] = core.tail.end;
    core.tail.forgetRefused();
  }

  /** Writes what is pending; a failure is left to the next flush, which tells it. */
  #spill(onlyStrides: boolean): void {
    const { tail } = this.#core;
    try {
      if (onlyStrides) tail.spillStrides();
      else tail.spill(this.#core.visible);
      this.#core.onSpill();
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
    }
  }

  /** Writes what is pending at the turn of the event loop; beside a holder of the lock it tries again, less and less often. */
  #spillLater(delayMs = 0): void {
    this.#spillIsDue = true;
    const core = this.#core;
    core.putOff(() => {
      this.#spillIsDue = false;
      if (core.isClosed || core.control.flags[STATE] !== 0 || core.tail.pendingBytes === 0) return;
      if (!core.mutex.tryLock()) {
        this.#spillLater(delayMs === 0 ? 1 : Math.min(2 * delayMs, SPILL_PAUSE_MS_MAX));
        return;
      }
      try {
        this.#spill(false);
      } finally {
        core.mutex.unlock();
      }
    }, delayMs);
  }

  /** Encodes the frame that the encoder was told of, for the loaded key, at the tail; returns its position. */
  #append(kind: number, place: number, keyBytes: number): number {
    const core = this.#core;
    if (core.vault !== undefined) this.#ensureSession(core.vault);
    const draft = core.encoder;
    const tail = core.tail;
    const lsn = tail.end;
    const { base } = core;
    draft.kind = kind;
    draft.place = place;
    draft.durable = core.control.log.numbers[LOG_DURABLE]! - base;
    if (kind === KIND_ABORT || kind === KIND_END) this.#emptyDraft(0);
    appendFrame(tail, draft, core.key.memory, keyBytes, lsn - base);
    return lsn;
  }

  /** Before the first frame of a batch: a session to seal it in. */
  #ensureSession(vault: Vault): void {
    const isBetween = this.#core.tail.end === this.#core.visible;
    if (vault.isActive && !(vault.isSpent && isBetween)) return;
    assert(isBetween, "a session begins between two batches");
    this.#beginSession(vault);
  }

  /**
   * Writes a session's two records and publishes them by themselves: they are part of no batch, and nothing takes them
   * back. Where there is room for one only, that one does.
   */
  #beginSession(vault: Vault): void {
    const { tail, salts, control, key, base } = this.#core;
    const first = tail.end - base;
    const draft = new FrameEncoder(salts);
    draft.kind = KIND_SESSION;
    draft.place = PLACE_ALONE;
    draft.prev = vault.last?.lsn ?? 0;
    draft.durable = HEADER_PAGE_BYTES;
    draft.loadValue(vault.newSession(first));
    appendFrame(tail, draft, key.memory, 0, first);
    let newest = first;
    try {
      const twin = tail.end - base;
      draft.loadValue(vault.twinSession(twin));
      appendFrame(tail, draft, key.memory, 0, twin);
      newest = twin;
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
    }
    this.#core.orderStores();
    vault.enter(newest);
    control.log.numbers[LOG_VISIBLE] = tail.end;
  }

  /** A writer that died had begun a session, of which nothing is sealed: as far as it is there, it goes on as ours. */
  #adoptSession(vault: Vault): void {
    const { tail, lookup, control, base } = this.#core;
    for (let at = this.#core.visible; at < tail.end; at = this.#core.visible) {
      lookup.loadAnyAt(at);
      if (kindOf(lookup.shape) !== KIND_SESSION) return;
      vault.adopt(at - base);
      control.log.numbers[LOG_VISIBLE] = at + lookup.frameBytes();
    }
  }

  /** At the end of everything: sees to it that a last mark can be sealed, where the disk has room for that. */
  conclude(): void {
    const { vault } = this.#core;
    if (vault === undefined) return;
    try {
      this.#ensureSession(vault);
    } catch (error) {
      if (!(error instanceof EmdbError) || error.code !== "EMDB_FULL") throw error;
    }
  }

  #emptyDraft(space: number): void {
    const draft = this.#core.encoder;
    draft.space = space;
    draft.prev = 0;
    draft.expiresAtMs = 0;
    draft.flags = 0;
    draft.loadNothing();
  }

  /** Writes one value; the key has been loaded. `before` then says what it replaced. */
  put(space: SpaceState, value: Bytes, expiresAtMs: number, place: number): void {
    const core = this.#core;
    const lookup = core.lookup;
    const exists = this.#findOld(space);
    const draft = core.encoder;
    draft.space = space.id;
    draft.expiresAtMs = expiresAtMs;
    draft.flags = 0;
    const prev = exists ? lookup.lsn : 0;
    draft.prev = prev === 0 ? 0 : core.inFile(prev);
    draft.loadValue(value);
    // As with a key: its length was checked before code of the caller's may have run.
    if (draft.valueBytes > VALUE_BYTES_MAX) throw outgrown(draft.valueBytes);
    const oldBytes = this.wasLive ? lookup.liveBytes() : 0;
    const hadDeadline = this.wasLive && (lookup.shape & SHAPE_EXPIRY) !== 0;
    const ownPlace = this.#ownPlace(place);
    const lsn = this.#append(KIND_PUT, ownPlace, core.key.bytes);
    const newBytes = draft.liveBytes;
    core.orderStores();
    if (exists) core.keydir.replace(lsn / 8, false);
    else core.keydir.add(space.address, lsn / 8, core.keepFrom());
    // Before anything that may fail: `undo` takes every slot that it finds out of the counts.
    this.#spaces.count(space, this.wasLive ? 0 : 1, newBytes - oldBytes);
    if (hadDeadline || expiresAtMs !== 0) noteDeadline(core, space, { hadDeadline, expiresAtMs, lsn });
    core.ordering?.put(this.#spaces, space, { lsn, prev });
    if (ownPlace !== place) this.endBatch();
  }

  /** A frame that goes to the file at once can only be taken back as part of a batch that has not ended: it ends none. */
  #ownPlace(place: number): number {
    if ((place !== PLACE_ALONE && place !== PLACE_LAST) || !this.#isLong()) return place;
    return place === PLACE_ALONE ? PLACE_FIRST : PLACE_MIDDLE;
  }

  /** Whether the frame of the loaded key and value may be appended, not placed. */
  #isLong(): boolean {
    const { encoder, key, tail } = this.#core;
    return key.bytes + encoder.valueBytes + encoder.overheadBytesMax > tail.placedBytesMax;
  }

  /** Removes the loaded key; false when no record of it is held. */
  delete(space: SpaceState, place: number): boolean {
    const core = this.#core;
    const lookup = core.lookup;
    if (!this.#findOld(space) || !this.wasLive) return false;
    const oldBytes = lookup.liveBytes();
    const hadDeadline = (lookup.shape & SHAPE_EXPIRY) !== 0;
    this.wasPresent = !hadDeadline || lookup.expiresAtMs() > core.now();
    const prev = lookup.lsn;
    this.#emptyDraft(space.id);
    core.encoder.prev = core.inFile(prev);
    const ownPlace = this.#ownPlace(place);
    const lsn = this.#append(KIND_REMOVE, ownPlace, core.key.bytes);
    core.orderStores();
    core.keydir.replace(lsn / 8, true);
    // Before anything that may fail, as in `put`. The queue looks into the index: the shard comes before it.
    this.#spaces.count(space, -1, -oldBytes);
    this.#shrink(space);
    if (hadDeadline) core.expiry.count(space.address, -1, core.key.hash);
    core.ordering?.remove(this.#spaces, space, { lsn, prev });
    if (ownPlace !== place) this.endBatch();
    if (place !== PLACE_ALONE) this.#removals.note(space);
    return true;
  }

  /** After the slot that was found became a tombstone. */
  #shrink(space: SpaceState): void {
    const { keydir } = this.#core;
    try {
      keydir.shrink(space.address, this.#core.keepFrom());
    } catch (error) {
      leaveForLater(error);
    }
  }

  /** Finds the newest frame of the loaded key and fills in `wasLive`. */
  #findOld(space: SpaceState): boolean {
    const { lookup } = this.#core;
    const root = this.#spaces.root(space);
    if (root === 0) this.#spaces.mustBeLive(space);
    const exists = lookup.findNewest(root);
    this.wasLive = exists && !lookup.isRemoved;
    return exists;
  }

  /** Ends a batch of which frames have been written, none of them its last. */
  endBatch(): void {
    this.#append(KIND_END, PLACE_LAST, 0);
  }

  /** Writes the frame that creates a namespace, and enters it: nobody learns of it before it is published. */
  createSpace(name: string, place: number): SpaceState {
    const core = this.#core;
    this.#spaces.refuseBeyondMax();
    const id = this.#spaces.nextId;
    core.heap.ensureSpace(id);
    core.key.load(name);
    this.#emptyDraft(id);
    const lsn = this.#append(KIND_SPACE_CREATE, place, core.key.bytes);
    return this.#spaces.create({ id, name }, lsn);
  }

  /** Empties a key space, or drops it, with one frame. */
  bury(space: SpaceState, isDrop: boolean): void {
    const core = this.#core;
    this.#emptyDraft(space.id);
    const lsn = this.#append(isDrop ? KIND_SPACE_DROP : KIND_CLEAR, PLACE_ALONE, 0);
    if (isDrop) this.#spaces.setState(space, SPACE_DROPPED);
    this.#spaces.bury(space, lsn);
    // However small its frame, much may be dead now.
    if (core.growthAt !== Infinity) core.growthAt = 0;
  }

  /** After a published clear: gives the old index back as soon as no iterator needs it. */
  emptyGraves(space: SpaceState): void {
    const core = this.#core;
    // What was published is out before the snapshots are looked at: a new one then is behind the clear.
    core.orderStores();
    try {
      if (core.control.flags[SNAPSHOTS]! > 0) reapDeadRows(core.control, core.system);
      this.#spaces.emptyGraves(space, core.keepFrom() * 8);
    } catch (error) {
      leaveForLater(error);
    }
  }
}

function outgrown(bytes: number): EmdbError {
  return new EmdbError("EMDB_TOO_LARGE", `the value has grown to ${bytes} bytes; the limit is ${VALUE_BYTES_MAX}`);
}
