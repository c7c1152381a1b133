/**
 * Copying a log into a new one while it is written on: the frames that are live, in the order of the log, then of what was
 * written meanwhile those that are live by then, and so on, and at last everything that was written in the end.
 *
 * The new log holds the same records as the old one at a moment: when it has caught up and nobody writes. It is read
 * with system calls and of each frame that is copied every checksum is looked at, so that what has rotted is not written
 * anew as if it were sound. What is dead is not looked at.
 *
 * Invariants
 * 1. `start` is where the log ended, settled, when the copy began, and `liveEnd` where it ended when the last round began.
 *    Before `start` a frame is copied if the index named it when that was gone through (`live-places.ts`), and between the
 *    two if it names it when the frame is met, with nothing half-written: what replaced it by then stands further on. Each
 *    stands alone in the copy, since nobody sees that before all of it is there.
 * 2. Behind `start`, what removes a value that has been copied, or clears, creates or drops a namespace, is copied too. A
 *    batch that was taken back has no place there: if there is one behind `start`, there is no further round.
 * 3. Behind `liveEnd` every frame is copied, batches with their borders.
 * 4. A copy names as the version before it the one that it followed, or the last value of its key in the copy if that was
 *    left out, and none if there is none: for the new log it is a new key, or the removal of a key that it does not know.
 *    What a batch writes after its own removal needs that name: replay gives a batch no slot of a removal in it otherwise.
 * 5. A namespace is created in the copy if it was there at `start`, or created behind it.
 * 6. The table of moves gets a pair for each copied frame of a record or a creation, and for each that was left out behind
 *    `start` although a version before it was copied; in ascending order.
 */

import type { FrameSealer } from "../../crypto/frame-sealer.ts";
import { assert, EmdbError } from "../../errors.ts";
import { copy, pinned, type Pinned } from "../../ffi/memory.ts";
import { isTombstone } from "../../keydir/keydir.ts";
import { COPIED_FRAME_BYTES_MAX, HEADER_PAGE_BYTES, KEY_BYTES_MAX, SCAN_BYTES } from "../../limits.ts";
import { appendFrame } from "../../log/append.ts";
import { FrameEncoder } from "../../log/encoder.ts";
import {
  FRAME_HEADER_BYTES,
  FRAME_OVERHEAD_BYTES_MAX,
  KIND_CLEAR,
  KIND_MARK,
  KIND_PUT,
  KIND_REMOVE,
  KIND_SESSION,
  KIND_SPACE_CREATE,
  KIND_SPACE_DROP,
  PLACE_ALONE,
  SHAPE_CLEAN,
} from "../../log/frame.ts";
import { leftOutOf, removalOf } from "../../log/moves.ts";
import type { NewLog } from "../../log/new-log.ts";
import { Scanner, type Finding, type ScanSource } from "../../log/scanner.ts";
import { ABORTS } from "../threads/control.ts";
import type { Core } from "../core.ts";
import { DraftKeys } from "./draft-keys.ts";
import { LivePlaces } from "./live-places.ts";
import type { MoveTable } from "./move-table.ts";
import { ScanOpener } from "../sealed/scan-opener.ts";
import { SealedEncoder } from "../sealed/sealed-encoder.ts";
import type { Spaces } from "../spaces.ts";
import { MemoryReads } from "../verify/verify-source.ts";

/** Frames that are copied, or looked up, in one step, and the longest stretch of log that they may come from. */
const GROUP = 128;
const GROUP_BYTES_MAX = SCAN_BYTES / 2;
const BUCKET_BYTES = 64;
/** Key and value of a frame that is staged for sure. */
const SHORT_RECORD_BYTES = 4096;
assert(SHORT_RECORD_BYTES + FRAME_OVERHEAD_BYTES_MAX <= COPIED_FRAME_BYTES_MAX, "a short record is staged");
/** What the link to a version farther away than 32 GiB adds to a frame. */
const WIDE_PREV_BYTES = 8;
/** Twice so much is left for the last sync at most, beside what is copied right before it. */
const WRITE_BACK_BYTES = 4 * 1024 * 1024;

/** What a copy is made of and for. */
export interface CopyParts {
  readonly core: Core;
  readonly spaces: Spaces;
  readonly log: NewLog;
  readonly table: MoveTable;
  /** Removals that the index holds at or behind this position (in units) by then are kept for the snapshots that need them. */
  readonly keepFrom: () => number;
  /** Runs something under the writer's lock with nothing half-written. */
  readonly exclusively: <T>(body: () => T) => T;
  /** The same for what looks at memory alone. */
  readonly exclusivelyInMemory: <T>(body: () => T) => T;
}

export class LogCopy {
  readonly #parts: CopyParts;
  readonly #base: number;
  /** Where the log ended when the copy began, and the last round of it, as places in the file. */
  readonly #start: number;
  #liveEnd: number;
  /** Batches that had been taken back by then. */
  readonly #aborts: number;
  readonly #live: LivePlaces;
  /** Key spaces that there are in the copy so far, before `start`. */
  readonly #created = new Set([0]);
  readonly #encoder: FrameEncoder;
  readonly #key = pinned(KEY_BYTES_MAX);
  /** Of an encrypted log: what opens its frames, and the session that the copy is sealed in. */
  readonly #opener: ScanOpener | undefined;
  readonly #draftKeys: DraftKeys | undefined;
  #scanner: Scanner;
  /** Everything before this place in the file has been copied or left out. */
  #done = HEADER_PAGE_BYTES;
  /** Up to where the copy is on its way to the disk. */
  #backTo = 0;
  /** How far the scanner may look. */
  #scanned = 0;
  readonly #lsns = new Float64Array(GROUP);
  readonly #prevs = new Float64Array(GROUP);
  readonly #kinds = new Uint8Array(GROUP);
  readonly #ids32 = new Uint32Array(GROUP);
  readonly #hashes = new Int32Array(GROUP);
  readonly #roots = new Float64Array(GROUP);
  readonly #isKept = new Uint8Array(GROUP);
  readonly #touched: Pinned = pinned(BUCKET_BYTES);

  /** Begins a copy. Under the writer's lock, with nothing half-written and all of it in the file. */
  constructor(parts: CopyParts, generation: number) {
    const { core, log } = parts;
    this.#parts = parts;
    this.#base = core.base;
    this.#start = core.visible - core.base;
    this.#liveEnd = this.#start;
    this.#aborts = core.control.flags[ABORTS]!;
    this.#live = new LivePlaces(parts, this.#start);
    const salts = core.saltsOf(generation);
    const { vault } = core;
    if (vault !== undefined) {
      const { fileId, dataKey } = vault;
      const sealerAt = (position: number): FrameSealer | undefined => vault.sealerAt(this.#base + position);
      const last = vault.newestBefore(this.#start)?.session;
      // Before `start` session records are passed over, and behind it the engine has them anyway.
      const keys = { fileId, dataKey, sealerAt, meet: () => undefined };
      this.#opener = new ScanOpener(keys, { generation: core.generation, last });
      this.#draftKeys = new DraftKeys(vault, { generation, position: log.end });
      const draft = new FrameEncoder(salts);
      this.#appendSession(draft, this.#draftKeys.record);
      this.#appendSession(draft, this.#draftKeys.twin(vault, log.end));
    }
    this.#encoder = this.#draftKeys === undefined ? new FrameEncoder(salts) : new SealedEncoder(salts, this.#draftKeys);
    this.#scanner = new Scanner(this.#source(this.#start), HEADER_PAGE_BYTES);
    this.#scanned = this.#start;
  }

  #appendSession(draft: FrameEncoder, record: Uint8Array): void {
    const { log } = this.#parts;
    const position = log.end;
    draft.kind = KIND_SESSION;
    draft.place = PLACE_ALONE;
    draft.durable = HEADER_PAGE_BYTES;
    draft.loadValue(record);
    appendFrame(log.tail, draft, this.#key, 0, position);
  }

  /** How far into the file it has come. */
  get done(): number {
    return this.#done;
  }

  #source(end: number): ScanSource {
    const { core } = this.#parts;
    const path = core.file?.path ?? "";
    const system = core.file === undefined ? new MemoryReads(core.log, this.#base) : core.system;
    return { system, file: core.file?.handle ?? 0, path, salts: core.salts, opener: this.#opener, end };
  }

  /** Copies some of what is live; false when there is no more in this round. */
  step(): boolean {
    if (this.#done < this.#start) this.#stepLive();
    else if (this.#done < this.#liveEnd) this.#stepGroup();
    else return false;
    this.writeBackNowAndThen();
    return true;
  }

  /** Whether the next step begins with a look at the index. */
  get needsLock(): boolean {
    return this.#done >= this.#start || !this.#live.isKnown(this.#done);
  }

  /** Before `start`: goes from live frame to live frame, once it is known where they are. */
  #stepLive(): void {
    const live = this.#live;
    if (!live.isKnown(this.#done)) {
      this.#parts.exclusivelyInMemory(() => live.gather(this.#done));
      return;
    }
    const until = Math.min(live.end, this.#done + GROUP_BYTES_MAX);
    let place = live.next(this.#done);
    for (let copied = 0; copied < GROUP && place < until; copied++) {
      this.#read(place);
      this.#mustBelong();
      this.#append(PLACE_ALONE);
      this.#done = place + this.#scanner.facts.frameBytes;
      place = live.next(place + 8);
      // Inside a frame none begins: who passed over it would leave out what the index names.
      if (place < Math.min(this.#done, live.end)) throw this.#parts.core.log.corrupted(this.#base + place);
    }
    if (place >= until) this.#done = Math.max(this.#done, until);
  }

  /**
   * The index names records and creations, each record behind the creation of its namespace. A log without that would not open.
   *
   * @throws {EmdbError} EMDB_CORRUPTED for anything else, as a slot of a forged image may name
   */
  #mustBelong(): void {
    const { facts, lsn } = this.#scanner;
    const isRecord = facts.kind === KIND_PUT || facts.kind === KIND_REMOVE;
    if (facts.kind === KIND_SPACE_CREATE) this.#created.add(facts.space);
    else if (!isRecord || !this.#created.has(facts.space)) throw this.#parts.core.log.corrupted(this.#base + lsn);
  }

  /** Behind it: reads some frames, looks for all of them in the index at once, and copies those that it names. */
  #stepGroup(): void {
    const { reads } = this.#scanner;
    const count = this.#takeGroup();
    this.#parts.exclusivelyInMemory(() => this.#judge(count));
    for (let index = 0; index < count; index++) {
      if (this.#isKept[index] === 0 && !this.#isMissed(index)) continue;
      this.#mustBeSound(this.#scanner.judgeAgain(this.#lsns[index]!, reads));
      this.#append(PLACE_ALONE);
    }
  }

  /** Begins another round, over all that has been written since; false when that holds a batch that was taken back. */
  goOn(): boolean {
    const { core, exclusively } = this.#parts;
    return exclusively(() => {
      if (core.control.flags[ABORTS] !== this.#aborts) return false;
      core.tail.spill();
      this.#liveEnd = core.visible - core.base;
      this.#scanTo(this.#liveEnd);
      return true;
    });
  }

  /** Lets the scanner look further; what it has read ahead may not have been whole. */
  #scanTo(end: number): void {
    if (end === this.#scanned) return;
    this.#scanner.release();
    this.#scanner = new Scanner(this.#source(end), this.#done);
    this.#scanned = end;
  }

  /** Reads on, and notes the frames that may have to be copied. */
  #takeGroup(): number {
    const { core } = this.#parts;
    const scanner = this.#scanner;
    const until = Math.min(this.#liveEnd, this.#done + GROUP_BYTES_MAX);
    let count = 0;
    while (count < GROUP && this.#done < until) {
      this.#read(this.#done);
      const { facts, lsn } = scanner;
      const isRecord = facts.kind === KIND_PUT || facts.kind === KIND_REMOVE;
      this.#isKept[count] = isEvent(facts.kind) ? 1 : 0;
      if (isRecord)
        this.#hashes[count] = core.hash.at(scanner.head, scanner.headAt + FRAME_HEADER_BYTES, facts.keyBytes);
      this.#lsns[count] = lsn;
      this.#prevs[count] = facts.prev;
      this.#kinds[count] = facts.kind;
      this.#ids32[count] = facts.space;
      if (isRecord || this.#isKept[count] === 1) count += 1;
      this.#done = lsn + facts.frameBytes;
    }
    return count;
  }

  /**
   * Whether a record that the index does not name has to be copied nevertheless: a removal, of what was copied. Of a value,
   * notes the one before it that was copied.
   */
  #isMissed(index: number): boolean {
    const held = this.#heldAt(this.#prevs[index]!);
    if (held === 0) return false;
    if (this.#kinds[index] === KIND_REMOVE) return true;
    this.#parts.table.add(leftOutOf((this.#base + this.#lsns[index]!) / 8), held / 8);
    return false;
  }

  /** Reads the sound frame at a place in the file. @throws {EmdbError} EMDB_CORRUPTED */
  #read(place: number): void {
    this.#mustBeSound(this.#scanner.judge(place));
  }

  #mustBeSound(finding: Finding): void {
    if (finding.kind === "frame") return;
    const offset = this.#scanner.lsn;
    const reason = finding.kind === "bad" ? finding.reason : "the log ends";
    const message = `${reason} at byte ${offset}; nothing has been changed. verify lists what is wrong`;
    throw new EmdbError("EMDB_CORRUPTED", message, { path: this.#parts.core.file?.path, offset });
  }

  /** Finds out which frames of the group the index names. Under the writer's lock. */
  #judge(count: number): void {
    const { keydir } = this.#parts.core;
    const keepFrom = this.#parts.keepFrom();
    const roots = this.#roots;
    for (let index = 0; index < count; index++) {
      const isSame = index > 0 && this.#ids32[index] === this.#ids32[index - 1];
      roots[index] = isSame ? roots[index - 1]! : this.#root(this.#ids32[index]!);
    }
    // Nothing but copies in this loop: their misses overlap.
    for (let index = 0; index < count; index++) {
      const root = roots[index]!;
      if (root !== 0) copy(this.#touched.address, keydir.bucketOf(root, this.#hashes[index]!), BUCKET_BYTES);
    }
    for (let index = 0; index < count; index++) {
      if (this.#isKept[index] === 1) continue;
      const units = (this.#base + this.#lsns[index]!) / 8;
      if (!keydir.seek(roots[index]!, this.#hashes[index]!)) continue;
      while (keydir.next()) {
        if (keydir.units !== units) continue;
        this.#isKept[index] = !isTombstone(keydir.high) || units >= keepFrom ? 1 : 0;
        break;
      }
    }
  }

  #root(id: number): number {
    const { spaces } = this.#parts;
    const space = spaces.byId(id);
    return space === undefined ? 0 : spaces.root(space);
  }

  /** Copies what was written behind the last round as it is: up to a place in the file, or so many bytes of it. */
  catchUp(end: number, bytesMax = Infinity): void {
    if (this.#done >= end) return;
    this.#scanTo(end);
    const until = Math.min(end, this.#done + bytesMax);
    while (this.#done < until) {
      this.#read(this.#done);
      this.#append(this.#scanner.facts.place);
      this.#done += this.#scanner.facts.frameBytes;
    }
    assert(this.#done <= end, "what was written ends with a frame");
  }

  /** Appends the frame that was read to the new log. */
  #append(place: number): void {
    const { log, table } = this.#parts;
    const scanner = this.#scanner;
    const { facts } = scanner;
    // The copy has a session of its own.
    if (facts.kind === KIND_SESSION) return;
    const position = log.end;
    const draft = this.#encoder;
    draft.kind = facts.kind;
    draft.place = place;
    draft.space = facts.space;
    draft.expiresAtMs = facts.expiresAtMs;
    draft.flags = 0;
    draft.prev = facts.prev === 0 ? 0 : table.moves.beforeNext((this.#base + facts.prev) / 8) * 8;
    draft.durable = position;
    const isShort = facts.keyBytes + facts.valueBytes <= SHORT_RECORD_BYTES;
    const value = isShort ? scanner.valueAddress : 0;
    if (value === 0) draft.loadValue(scanner.value());
    else draft.loadValueFrom(value, facts.valueBytes);
    const key = scanner.head.address + scanner.headAt + FRAME_HEADER_BYTES;
    if (facts.keyBytes > 0) copy(this.#key.address, key, facts.keyBytes);
    appendFrame(log.tail, draft, this.#key, facts.keyBytes, position);
    if (facts.kind !== KIND_PUT && facts.kind !== KIND_REMOVE && facts.kind !== KIND_SPACE_CREATE) return;
    // The version before may be further away than the one that was left out between them.
    assert(log.end - position <= facts.frameBytes + WIDE_PREV_BYTES, "a copy is no longer than its frame");
    const former = (this.#base + scanner.lsn) / 8;
    table.add(facts.kind === KIND_REMOVE ? removalOf(former) : former, position / 8);
  }

  /** Where in the new file the value of the version before is, or that of the last one before it that was copied; 0: nowhere. */
  #heldAt(prev: number): number {
    if (prev === 0) return 0;
    return this.#parts.table.moves.heldAt((this.#base + prev) / 8) * 8;
  }

  /** After each step, and now and then, so that the last sync has little to do. */
  writeBackNowAndThen(): void {
    const { log } = this.#parts;
    if (log.end - this.#backTo >= WRITE_BACK_BYTES) this.#backTo = log.writeBack(this.#backTo);
  }

  /** The mark that says that everything before it is durable, and how the log ended. Takes no place in it. */
  mark(isClean: boolean): Uint8Array {
    const draft = this.#encoder;
    draft.kind = KIND_MARK;
    draft.place = PLACE_ALONE;
    draft.space = 0;
    draft.expiresAtMs = 0;
    draft.prev = 0;
    draft.flags = isClean ? SHAPE_CLEAN : 0;
    draft.durable = this.#parts.log.end;
    draft.loadNothing();
    const bytes = draft.measure(0, draft.durable);
    draft.encode(this.#key, 0, draft.durable);
    return draft.stage.u8.subarray(0, bytes);
  }

  /** Lets go of the scanner's memory and of the keys. */
  release(): void {
    this.#scanner.release();
    this.#draftKeys?.wipe();
  }
}

/** Whether a frame that is no record has to be copied: what clears, creates or drops a key space. */
function isEvent(kind: number): boolean {
  return kind === KIND_SPACE_CREATE || kind === KIND_SPACE_DROP || kind === KIND_CLEAR;
}
