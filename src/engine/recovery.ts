/**
 * Opening a log: read it from the beginning, put every record into the index, and find out how it ends.
 *
 * The index is filled without comparing keys: a frame says where the previous version of its key is, so the
 * slot that points there is the key's, and a frame without a previous version is a new key's.
 *
 * How it ends (design: torn tail, or damage):
 * - zeros, the end of the file, or a mark, with nothing behind that was written later: a clean end;
 * - a bad place with no frame behind it that was written when the place was durable: a torn tail, cut off;
 * - a bad place with such a frame behind it: damage, EMDB_CORRUPTED, nothing is changed.
 *
 * Invariants
 * 1. Nothing is written here. The caller cuts the tail once it has the lock and knows that the open succeeds.
 * 2. A batch without its end is undone; the log then ends where the batch began.
 */

import { EmdbError } from "../errors.ts";
import {
  FRAME_HEADER_BYTES,
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
  TWO_32,
} from "../log/frame.ts";
import { LOG_CLAIMED, LOG_DURABLE, LOG_TAIL, LOG_VISIBLE, LOG_WRITTEN, unitHigh, unitLow } from "../log/log-words.ts";
import { Scanner, type Finding, type ScanSource } from "../log/scanner.ts";
import { isTombstone, positionHigh } from "../keydir/keydir.ts";
import { HEADER_PAGE_BYTES } from "../limits.ts";
import type { Core } from "./core.ts";
import { SPACE_DROPPED, Spaces, type SpaceState } from "./spaces.ts";
import { undo } from "./undo.ts";

export interface Replay {
  /** The log ends here. */
  readonly end: number;
  readonly records: number;
  /** Bytes behind the end that were part of no whole record or batch. */
  readonly tornBytes: number;
  /** The last thing in the log is a mark that says it was closed in good order. */
  readonly isClean: boolean;
}

/** Where to begin, in a log that an image has already vouched for up to there. */
export interface ReplayFrom {
  readonly lsn: number;
}

export class Replayer {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #scanner: Scanner;
  readonly #path: string;
  /** Where the batch at hand began; 0 when none is open. */
  #batchStart = 0;
  #records = 0;

  constructor(core: Core, spaces: Spaces, source: ScanSource, from: ReplayFrom) {
    this.#core = core;
    this.#spaces = spaces;
    this.#scanner = new Scanner(source, from.lsn);
    this.#path = source.path;
    this.#setEnd(from.lsn);
  }

  /** Reads to the end. `fileBytes` is where the file ends. */
  run(fileBytes: number): Replay {
    const scanner = this.#scanner;
    let finding: Finding = scanner.next();
    while (finding.kind === "frame") {
      if (!this.#follows(scanner.facts.place)) {
        finding = { kind: "bad", reason: "a batch has no beginning, or no end" };
        break;
      }
      this.#apply();
      finding = scanner.next();
    }
    const isClean = finding.kind === "mark" && scanner.facts.isClean && this.#batchStart === 0;
    const stop = scanner.lsn;
    this.#judgeEnd(finding, stop);
    const end = this.#batchStart === 0 ? stop : this.#batchStart;
    if (this.#batchStart !== 0) {
      undo(this.#core, this.#spaces, this.#batchStart);
      this.#setEnd(end);
    }
    const tornBytes = this.#tornBytes(finding, end, fileBytes);
    scanner.release();
    return { end, records: this.#records, tornBytes, isClean };
  }

  /** Throws when what stands at the end is damage. */
  #judgeEnd(finding: Finding, stop: number): void {
    if (finding.kind === "mark" && this.#scanner.facts.isClean) return;
    const proof = this.#scanner.findSound(stop + 8, stop);
    if (proof === undefined) return;
    const reason = finding.kind === "bad" ? finding.reason : "the log ends";
    throw new EmdbError(
      "EMDB_CORRUPTED",
      `${reason} at byte ${stop}, yet the frame at byte ${proof} was written after that place had become durable; ` +
        "nothing has been changed. verify lists what is wrong, salvage copies what is sound",
      { path: this.#path, offset: stop },
    );
  }

  /** What a crash left behind the end: up to the last byte that is not zero. */
  #tornBytes(finding: Finding, end: number, fileBytes: number): number {
    if (finding.kind === "mark" && this.#batchStart === 0) return 0;
    return this.#scanner.lastNonZero(end, fileBytes) - end;
  }

  #follows(place: number): boolean {
    const isInside = this.#batchStart !== 0;
    return isInside ? place === PLACE_MIDDLE || place === PLACE_LAST : place === PLACE_ALONE || place === PLACE_FIRST;
  }

  #setEnd(lsn: number): void {
    const numbers = this.#core.control.log.numbers;
    for (const word of [LOG_VISIBLE, LOG_TAIL, LOG_WRITTEN, LOG_CLAIMED, LOG_DURABLE]) numbers[word] = lsn;
  }

  /** Puts the frame at hand into the index. */
  #apply(): void {
    const { facts, lsn } = this.#scanner;
    const numbers = this.#core.control.log.numbers;
    if (facts.place === PLACE_FIRST) this.#batchStart = lsn;
    const end = lsn + facts.frameBytes;
    numbers[LOG_WRITTEN] = end;
    numbers[LOG_TAIL] = end;
    switch (facts.kind) {
      case KIND_PUT:
      case KIND_REMOVE:
        this.#applyRecord();
        break;
      case KIND_SPACE_CREATE:
        this.#applyCreate();
        break;
      case KIND_CLEAR:
      case KIND_SPACE_DROP:
        this.#applyBury(facts.kind === KIND_SPACE_DROP);
        break;
      case KIND_ABORT:
        undo(this.#core, this.#spaces, this.#batchStart);
        break;
      case KIND_END:
        break;
      default:
        throw this.#nonsense("a frame of no known kind");
    }
    if (facts.place === PLACE_LAST) this.#batchStart = 0;
    if (this.#batchStart === 0) numbers[LOG_VISIBLE] = end;
  }

  #nonsense(what: string): EmdbError {
    const offset = this.#scanner.lsn;
    return new EmdbError("EMDB_CORRUPTED", `${what} at byte ${offset}; nothing has been changed`, {
      path: this.#path,
      offset,
    });
  }

  #space(): SpaceState {
    const space = this.#spaces.byId(this.#scanner.facts.space);
    if (space === undefined || !this.#spaces.isLive(space))
      throw this.#nonsense(`a record of a namespace that is not there (id ${this.#scanner.facts.space})`);
    return space;
  }

  #applyCreate(): void {
    const { facts, lsn, memory, at } = this.#scanner;
    if (facts.space < this.#spaces.nextId)
      throw this.#nonsense(`a namespace is created with an id that was given out before (${facts.space})`);
    const from = at + FRAME_HEADER_BYTES;
    const name = Spaces.decodeName(memory.u8.slice(from, from + facts.keyBytes));
    this.#spaces.create({ id: facts.space, name }, lsn);
  }

  #applyBury(isDrop: boolean): void {
    const space = this.#space();
    if (isDrop) this.#spaces.setState(space, SPACE_DROPPED);
    this.#spaces.bury(space, this.#scanner.lsn);
    if (this.#batchStart === 0) this.#spaces.emptyGraves(space, Infinity);
  }

  #applyRecord(): void {
    const core = this.#core;
    const { facts, lsn, memory, at } = this.#scanner;
    const space = this.#space();
    this.#records += 1;
    core.key.loadFrom(memory.address + at + FRAME_HEADER_BYTES, facts.keyBytes);
    const isRemoval = facts.kind === KIND_REMOVE;
    const keydir = core.keydir;
    const hasSlot = this.#findSlot(space, facts.prev);
    const wasLive = hasSlot && !isTombstone(keydir.high) && facts.prev !== 0;
    let oldBytes = 0;
    if (wasLive) {
      core.lookup.loadAnyAt(facts.prev);
      oldBytes = core.lookup.frameBytes();
    }
    if (hasSlot) keydir.replace(unitLow(lsn), unitHigh(lsn), isRemoval);
    else if (!isRemoval) keydir.add(space.address, unitLow(lsn), unitHigh(lsn), this.#keepFrom());
    const newBytes = isRemoval ? 0 : facts.frameBytes;
    this.#spaces.count(space, (isRemoval ? 0 : 1) - (wasLive ? 1 : 0), newBytes - oldBytes);
  }

  /** Tombstones from before the batch at hand may go: nobody reads yet. */
  #keepFrom(): number {
    return (this.#batchStart === 0 ? Infinity : this.#batchStart) / 8;
  }

  /** Finds the slot that points to `prev`; for a new key, one that a removed key no longer needs. */
  #findSlot(space: SpaceState, prev: number): boolean {
    const keydir = this.#core.keydir;
    const keepFrom = this.#keepFrom();
    if (!keydir.seek(this.#spaces.root(space), this.#core.key.hash)) return false;
    while (keydir.next()) {
      const units = positionHigh(keydir.high) * TWO_32 + keydir.low;
      if (prev === 0 ? isTombstone(keydir.high) && units < keepFrom : units === prev / 8) return true;
    }
    return false;
  }
}

/** Where the frames begin. */
export const FIRST_LSN = HEADER_PAGE_BYTES;
