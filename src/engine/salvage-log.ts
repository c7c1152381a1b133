/**
 * Reading a damaged log for all that is sound in it, in the order in which it was written.
 *
 * A batch is read twice: first to see whether it is whole, then, if it is, for its records. So memory does not
 * grow with a batch. A frame that is bad behind a sound header costs only itself; behind any other bad place the
 * next sound frame is looked for. Without its beginning, its end, or one of its frames, a batch is lost whole.
 */

import { HEADER_PAGE_BYTES, SCAN_BYTES } from "../limits.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_ABORT,
  KIND_SPACE_CREATE,
  PLACE_ALONE,
  PLACE_FIRST,
  PLACE_LAST,
} from "../log/frame.ts";
import { Scanner, type ScanSource } from "../log/scanner.ts";
import type { FoundFrame } from "./salvage-target.ts";

export class LogSalvage {
  readonly #source: ScanSource;
  readonly #scanner: Scanner;
  readonly #apply: (frame: FoundFrame) => void;
  readonly #name: (frame: FoundFrame) => void;
  readonly #frame: FoundFrame;
  readonly #lost: { offset: number; bytes: number }[] = [];
  /** Where the batch began whose frames are being looked through; 0 when none is. */
  #batchStart = 0;
  /** Where the batch ends whose frames are being taken; 0 when none is. */
  #wholeUntil = 0;
  /** Where the stretch began that is being searched for a sound frame; 0 when none is. */
  #lostFrom = 0;
  /** Behind the last byte of that stretch that is not zero. */
  #lostTo = 0;

  /** Everything before has been dealt with. */
  lsn = HEADER_PAGE_BYTES;

  /** `name` hears of each creation of a namespace, before it is known whether its batch is whole. */
  constructor(
    source: ScanSource,
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
    if (this.#lostFrom !== 0) return this.#search();
    if (this.lsn >= this.#source.end) return this.#end();
    const finding = this.#scanner.judge(this.lsn);
    if (finding.kind === "frame") {
      if (this.#scanner.facts.kind === KIND_SPACE_CREATE) this.#name(this.#frame);
      this.#take();
      return true;
    }
    // A disk may fail between the two times that a batch is read; what is left of it has no beginning then.
    this.#wholeUntil = 0;
    const reach = finding.kind === "bad" ? this.#scanner.soundReach : 0;
    if (reach > 0) {
      this.#loseFrame(reach);
      return true;
    }
    // The mark at the end of the log is no record; only what stands behind it would be lost.
    const isMark = finding.kind === "mark" && this.#batchStart === 0;
    this.#lostFrom = isMark ? this.lsn + this.#scanner.facts.frameBytes : this.#batchStart || this.lsn;
    this.#lostTo = this.#lostFrom;
    this.#batchStart = 0;
    return true;
  }

  #end(): false {
    if (this.#batchStart !== 0) this.#lose(this.#batchStart, this.lsn);
    this.#batchStart = 0;
    return false;
  }

  #lose(from: number, to: number): void {
    const last = this.#lost.at(-1);
    if (to <= from) return;
    if (last !== undefined && last.offset + last.bytes >= from) last.bytes = to - last.offset;
    else this.#lost.push({ offset: from, bytes: to - from });
  }

  /** Looks on for the next sound frame, a buffer at a time. */
  #search(): boolean {
    const from = this.lsn + 8;
    const until = Math.min(from + SCAN_BYTES, this.#source.end);
    const found = this.#scanner.findSound(from, -1, until);
    if (found === undefined) {
      this.#lostTo = Math.max(this.#lostTo, this.#scanner.lastNonZero(this.lsn, until));
      this.lsn = until - 8;
      if (until < this.#source.end) return true;
      this.lsn = until;
    } else {
      this.#lostTo = this.lsn = found;
    }
    this.#lose(this.#lostFrom, this.#lostTo);
    this.#lostFrom = 0;
    return found !== undefined;
  }

  /** A bad frame behind a sound header, which ends at `reach`; of its batch the rest has no beginning any more. */
  #loseFrame(reach: number): void {
    this.#lose(this.#batchStart || this.lsn, reach);
    this.#batchStart = 0;
    this.lsn = reach;
  }

  #take(): void {
    const { facts } = this.#scanner;
    const end = this.lsn + facts.frameBytes;
    if (this.#wholeUntil !== 0) {
      this.#apply(this.#frame);
      if (end === this.#wholeUntil) this.#wholeUntil = 0;
      this.lsn = end;
      return;
    }
    const isFirst = facts.place === PLACE_ALONE || facts.place === PLACE_FIRST;
    if (isFirst && this.#batchStart !== 0) this.#lose(this.#batchStart, this.lsn);
    if (isFirst) this.#batchStart = facts.place === PLACE_FIRST ? this.lsn : 0;
    if (facts.place === PLACE_ALONE) this.#apply(this.#frame);
    else if (this.#batchStart === 0) this.#lose(this.lsn, end);
    else if (facts.place === PLACE_LAST) return this.#endBatch(end);
    this.lsn = end;
  }

  /** The batch is whole: back to its beginning, unless it was given up when it was written. */
  #endBatch(end: number): void {
    const isAborted = this.#scanner.facts.kind === KIND_ABORT;
    this.lsn = isAborted ? end : this.#batchStart;
    this.#wholeUntil = isAborted ? 0 : end;
    this.#batchStart = 0;
  }
}
