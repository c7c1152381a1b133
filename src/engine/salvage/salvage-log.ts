/**
 * Reading a damaged log for all that is sound in it, in the order in which it was written.
 *
 * A batch is read twice: first for its end, then, if that says that it was done, for its sound frames. So memory does
 * not grow with a batch. A frame that is bad behind a sound header costs only itself, and still says where in its batch
 * it stands; behind any other bad place the next sound header is looked for.
 *
 * Invariants
 * 1. A batch counts when its last frame says that it is the last and no abort; then every sound frame of it does. Of a
 *    plain log the header says that, of an encrypted one the sealed body. Otherwise it is lost whole: what is missing
 *    may have been the abort.
 * 2. A frame that does not begin a batch goes on with the one before it, or, when that has ended, with one whose
 *    beginning is lost. So one stretch of damage over the end of a batch and the beginning of the next joins the two: what
 *    was given up there comes back, where the other choice would lose all that stands before any such stretch.
 * 3. Every byte of a frame that is not taken is in a lost range, but for those of an undamaged batch that was given up.
 */

import { HEADER_PAGE_BYTES, SCAN_BYTES } from "../../limits.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_ABORT,
  KIND_END,
  KIND_SPACE_CREATE,
  PLACE_ALONE,
  PLACE_FIRST,
  PLACE_LAST,
  kindOf,
  placeOf,
} from "../../log/frame.ts";
import { Scanner, type ScanSource } from "../../log/scanner.ts";
import type { FoundFrame } from "./salvage-target.ts";

/** The log that is salvaged. */
export interface DamagedLog extends ScanSource {
  /** Where it ended once by its header, 0 if that does not say: what is missing up to there is lost. */
  readonly madeEnd: number;
}

export class LogSalvage {
  readonly #source: DamagedLog;
  readonly #scanner: Scanner;
  readonly #apply: (frame: FoundFrame) => void;
  readonly #name: (frame: FoundFrame) => void;
  readonly #frame: FoundFrame;
  readonly #lost: { offset: number; bytes: number }[] = [];
  /** Where the batch begins whose end is looked for; 0 when none is. */
  #batchStart = 0;
  /** Whether something bad was met behind that. */
  #isDamaged = false;
  /** Where the batch ends whose frames are being taken; 0 when none is. */
  #takeUntil = 0;
  /** Where the stretch began that is being searched for a sound header; 0 when none is. */
  #gapFrom = 0;
  /** Behind the last byte of that stretch that is not zero. */
  #gapTo = 0;

  /** Behind the last frame with a sound header. */
  #framesEnd = HEADER_PAGE_BYTES;

  /** Everything before has been dealt with. */
  lsn = HEADER_PAGE_BYTES;

  /** `name` hears of each creation of a namespace, before it is known whether its batch counts. */
  constructor(
    source: DamagedLog,
    { apply, name }: { readonly apply: (frame: FoundFrame) => void; readonly name: (frame: FoundFrame) => void },
  ) {
    this.#source = source;
    this.#apply = apply;
    this.#name = name;
    const scanner = (this.#scanner = new Scanner(source, this.lsn));
    const value = (): Uint8Array => this.#scanner.value();
    this.#frame = {
      facts: scanner.facts,
      get key() {
        const from = scanner.headAt + FRAME_HEADER_BYTES;
        return scanner.head.u8.subarray(from, from + scanner.facts.keyBytes);
      },
      value,
    };
  }

  release(): void {
    this.#scanner.release();
  }

  /** The stretches of the log of which nothing was taken, in order. */
  get lostRanges(): { readonly offset: number; readonly bytes: number }[] {
    return this.#lost;
  }

  /** Deals with one frame, or with a stretch of what is none; false at the end. */
  step(): boolean {
    if (this.#gapFrom !== 0) return this.#search();
    if (this.lsn >= this.#source.end) return this.#end();
    const finding = this.#scanner.judge(this.lsn);
    const isSound = finding.kind === "frame";
    const bytes = isSound ? this.#scanner.facts.frameBytes : 0;
    const end = finding.kind === "bad" ? this.#scanner.soundReach : this.lsn + bytes;
    if (end <= this.lsn) {
      // The mark at the end of the log is no record, and no batch goes on behind it; only what stands there would be lost.
      const isMark = finding.kind === "mark";
      if (isMark) this.#giveUp(this.lsn);
      this.#gapFrom = this.#gapTo = isMark ? this.lsn + this.#scanner.facts.frameBytes : this.lsn;
      return true;
    }
    this.#framesEnd = end;
    if (isSound && this.#scanner.facts.kind === KIND_SPACE_CREATE) this.#name(this.#frame);
    if (this.#takeUntil === 0) this.#look(end, isSound);
    else this.#take(end, isSound);
    return true;
  }

  #end(): false {
    this.#giveUp(this.lsn);
    this.#lose(this.#framesEnd, this.#source.madeEnd);
    return false;
  }

  #lose(from: number, to: number): void {
    const last = this.#lost.at(-1);
    if (to <= from) return;
    const lastEnd = last === undefined ? 0 : last.offset + last.bytes;
    if (last !== undefined && lastEnd >= from) last.bytes = Math.max(lastEnd, to) - last.offset;
    else this.#lost.push({ offset: from, bytes: to - from });
  }

  /** The batch at hand, if there is one, has no end before `to`. */
  #giveUp(to: number): void {
    if (this.#batchStart !== 0) this.#lose(this.#batchStart, to);
    this.#batchStart = 0;
  }

  /** Looks on for the next sound header, a buffer at a time. */
  #search(): boolean {
    const end = this.#takeUntil || this.#source.end;
    const from = this.lsn + 8;
    const until = Math.min(from + SCAN_BYTES, end);
    const found = this.#scanner.findHeader(from, until);
    if (found === undefined) {
      const last = this.#scanner.lastNonZero(this.lsn, until);
      // Where all are zeros, that is where this stretch begins: space that was reserved behind the log is no loss.
      if (last > this.lsn) this.#gapTo = Math.max(this.#gapTo, last);
      this.lsn = until - 8;
      if (until < end) return true;
      this.lsn = until;
    } else {
      this.#gapTo = this.lsn = found;
    }
    this.#endGap();
    return true;
  }

  /** Nothing sound stands between where the gap began and here. */
  #endGap(): void {
    const isInside = this.lsn < this.#source.end;
    if (this.#takeUntil !== 0) this.#lose(this.#gapFrom, this.lsn);
    else if (this.#batchStart === 0) this.#lose(this.#gapFrom, this.#gapTo);
    else if (isInside) this.#isDamaged = true;
    else this.#giveUp(this.#gapTo);
    this.#gapFrom = 0;
    if (this.lsn >= this.#takeUntil) this.#takeUntil = 0;
  }

  /** A frame of a batch that counts. What was sound when its end was looked for may be bad now: a disk may fail in between. */
  #take(end: number, isSound: boolean): void {
    if (isSound) this.#apply(this.#frame);
    else this.#lose(this.lsn, end);
    this.lsn = end;
    if (end >= this.#takeUntil) this.#takeUntil = 0;
  }

  /** A frame of a batch whose end is not known yet, or one that is alone; a bad one has a sound header. */
  #look(end: number, isSound: boolean): void {
    const place = placeOf(this.#scanner.shape);
    if (place === PLACE_ALONE || place === PLACE_FIRST) this.#giveUp(this.lsn);
    if (place === PLACE_ALONE) return this.#take(end, isSound);
    if (this.#batchStart === 0) {
      this.#batchStart = this.lsn;
      this.#isDamaged = place !== PLACE_FIRST;
    }
    if (!isSound) this.#isDamaged = true;
    this.lsn = end;
    if (place === PLACE_LAST) this.#endBatch(end, isSound);
  }

  /** Back to the beginning of the batch that ends at `end`, unless it was given up when it was written, or may have been. */
  #endBatch(end: number, isSound: boolean): void {
    const start = this.#batchStart;
    const kind = isSound ? this.#scanner.facts.kind : kindOf(this.#scanner.shape);
    // A header alone says what its frame is in a plain log only.
    const isKnown = isSound || (this.#source.opener === undefined && kind <= KIND_END);
    this.#batchStart = 0;
    if (isKnown && kind !== KIND_ABORT) {
      this.lsn = start;
      this.#takeUntil = end;
    } else if (this.#isDamaged) {
      this.#lose(start, end);
    }
  }
}
