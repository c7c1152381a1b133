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

import { EmdbError } from "../../errors.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_ABORT,
  KIND_CLEAR,
  KIND_END,
  KIND_PUT,
  KIND_REMOVE,
  KIND_SESSION,
  KIND_SPACE_CREATE,
  KIND_SPACE_DROP,
  PLACE_ALONE,
  PLACE_FIRST,
  PLACE_LAST,
  PLACE_MIDDLE,
} from "../../log/frame.ts";
import { LOG_CLAIMED, LOG_DURABLE, LOG_TAIL, LOG_VISIBLE, LOG_WRITTEN } from "../../log/log-words.ts";
import { Scanner, type Finding, type ScanSource } from "../../log/scanner.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";
import type { Core } from "../core.ts";
import type { Gates } from "../hint/gates.ts";
import { ReplayGroup } from "./replay-group.ts";
import { SPACE_DROPPED, type Spaces, type SpaceState } from "../spaces.ts";
import { NO_BATCH, type BatchAhead } from "./batch-ahead.ts";
import { undo } from "../write/undo.ts";
import { decodeName, isName } from "../names.ts";

export interface Replay {
  /** The log ends here. */
  readonly end: number;
  /** The end, or the end of the mark that stands there. What lies behind is cut off. */
  readonly soundEnd: number;
  readonly records: number;
  /** Bytes behind `soundEnd`, up to the last that is not zero: parts of no whole record or batch, or what a crash kept of later ones. */
  readonly tornBytes: number;
  /** The last thing in the log is a mark that says it was closed in good order. */
  readonly isClean: boolean;
}

/** Where to begin, and what is known of the log already. */
export interface ReplayFrom {
  readonly lsn: number;
  /** What the index holds already, when it was filled from an image. */
  readonly gates: Gates | undefined;
  /** The log was durable up to here: an end before it is damage, not a torn tail. */
  readonly durable: number;
}

/**
 * Thrown by a replay that met a frame that does not open in a batch that its checks had shown as whole. Part of that is
 * in the index, and undoing it would read through the map what another process may be cutting off.
 */
export class ForgedBatch extends Error {}

/** Whether the last frame of the file is the mark of a close in good order, behind which nothing was written. */
export function endsClean(source: ScanSource, markBytes: number): boolean {
  const lsn = source.end - markBytes;
  if (lsn < HEADER_PAGE_BYTES || lsn % 8 !== 0) return false;
  const scanner = new Scanner(source, lsn);
  const isClean = scanner.isCleanEnd(lsn);
  scanner.release();
  return isClean;
}

export class Replayer {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #scanner: Scanner;
  readonly #ahead: BatchAhead | undefined;
  readonly #path: string;
  readonly #gates: Gates | undefined;
  readonly #durable: number;
  readonly #group: ReplayGroup;
  /** Where the batch at hand began; 0 when none is open. */
  #batchStart = 0;
  /** Whether nothing of it was applied. */
  #isUnread = false;
  #records = 0;
  /** The same without those of the batch at hand: if that does not count, they were never there. */
  #recordsBefore = 0;

  /** `ahead`, where another process may write to the file meanwhile, is for looking ahead in the same source. */
  constructor(
    core: Core,
    spaces: Spaces,
    { source, ahead }: { readonly source: ScanSource; readonly ahead: BatchAhead | undefined },
    from: ReplayFrom,
  ) {
    this.#core = core;
    this.#ahead = ahead;
    this.#spaces = spaces;
    this.#scanner = new Scanner(source, from.lsn);
    this.#path = source.path;
    this.#gates = from.gates;
    this.#durable = from.durable;
    const space = (id: number, lsn: number): SpaceState => this.#space(id, lsn);
    const recordCountMax = (source.end - from.lsn) / FRAME_HEADER_BYTES;
    this.#group = new ReplayGroup(core, spaces, { gates: from.gates, space, recordCountMax });
    this.#setEnd(from.lsn);
  }

  /**
   * Reads to the end. `fileBytes` is where the file ends.
   *
   * @throws {ForgedBatch} what is in the index is of no use then
   */
  run(fileBytes: number): Replay {
    try {
      return this.#run(fileBytes);
    } finally {
      this.#ahead?.release();
      this.#scanner.release();
    }
  }

  #run(fileBytes: number): Replay {
    const scanner = this.#scanner;
    const { finding, stop } = this.#readFrames();
    if (this.#batchStart !== 0 && !this.#isUnread && this.#ahead?.opensEach === false) throw new ForgedBatch();
    this.#group.flush();
    const isEnded = finding.kind === "mark" && this.#batchStart === 0;
    const isClean = isEnded && scanner.facts.isClean;
    const markEnd = stop + scanner.facts.frameBytes;
    this.#judgeEnd(finding, stop);
    const end = this.#batchStart === 0 ? stop : this.#batchStart;
    if (end < this.#durable) throw this.#lost(finding, stop);
    if (this.#batchStart !== 0) {
      if (!this.#isUnread) this.#undoBatch();
      this.#setEnd(end);
    }
    const soundEnd = isEnded ? markEnd : end;
    const tornBytes = scanner.lastNonZero(soundEnd, fileBytes) - soundEnd;
    return { end, soundEnd, records: this.#records, tornBytes, isClean };
  }

  /** Takes up frame after frame; returns what ends them, and where. */
  #readFrames(): { readonly finding: Finding; readonly stop: number } {
    const scanner = this.#scanner;
    let finding: Finding = scanner.next();
    while (finding.kind === "frame") {
      if (!this.#follows(scanner.facts.place)) return { finding: NO_BATCH, stop: scanner.lsn };
      const ahead = scanner.facts.place === PLACE_FIRST ? this.#ahead?.look(scanner.lsn) : undefined;
      if (ahead !== undefined && "stop" in ahead) {
        this.#batchStart = scanner.lsn;
        this.#isUnread = true;
        return ahead;
      }
      if (ahead?.isAborted === true) {
        this.#moveTo(ahead.end);
        this.#core.control.log.numbers[LOG_VISIBLE] = ahead.end;
        finding = scanner.judge(ahead.end);
      } else {
        this.#apply();
        finding = scanner.next();
        // What was read before the look ahead may be older than what that has found whole.
        if (finding.kind !== "frame" && this.#ahead !== undefined && this.#batchStart !== 0)
          finding = scanner.judgeAnew(scanner.lsn);
      }
    }
    return { finding, stop: scanner.lsn };
  }

  /** The log has been read up to here. */
  #moveTo(end: number): void {
    const { numbers } = this.#core.control.log;
    // Leaves of an image may name frames that replay has not come to yet, and which keys they have may be asked.
    numbers[LOG_WRITTEN] = this.#gates === undefined ? end : Math.max(end, this.#durable);
    numbers[LOG_TAIL] = end;
  }

  /** Throws when what stands at the end is damage. */
  #judgeEnd(finding: Finding, stop: number): void {
    if (finding.kind === "bad" && finding.isForged === true) throw this.#nonsense(finding.reason, stop);
    const proof = this.#scanner.findSound(stop + 8, stop);
    if (proof === undefined) return;
    // Beside a writer, the place may have been written since it was looked at: the log went on, and as of the open it ends here.
    if (this.#core.isReadOnly && this.#scanner.judgeAnew(stop).kind === "frame") return;
    const reason = finding.kind === "bad" ? finding.reason : "the log ends";
    throw new EmdbError(
      "EMDB_CORRUPTED",
      `${JSON.stringify(this.#path)}: ${reason} at byte ${stop}, yet the frame at byte ${proof} was written after that place had become durable; ` +
        "nothing has been changed. Emdb.salvage copies what is sound into a new file, and tells what it could not use",
      { path: this.#path, offset: stop },
    );
  }

  #lost(finding: Finding, stop: number): EmdbError {
    const reason = finding.kind === "bad" ? finding.reason : "the log ends";
    return new EmdbError(
      "EMDB_CORRUPTED",
      `${JSON.stringify(this.#path)}: ${reason} at byte ${stop}, yet the checkpoint knows that the log was durable up to byte ${this.#durable}; ` +
        "nothing has been changed. Emdb.salvage copies what is sound into a new file, and tells what it could not use",
      { path: this.#path, offset: stop },
    );
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
    if (facts.place === PLACE_FIRST) {
      this.#batchStart = lsn;
      this.#core.expiry.beginBatch();
      this.#recordsBefore = this.#records;
    }
    const end = lsn + facts.frameBytes;
    this.#moveTo(end);
    if (facts.kind === KIND_PUT || facts.kind === KIND_REMOVE) {
      this.#records += 1;
      this.#group.add(this.#scanner, this.#batchStart);
    } else {
      this.#group.flush();
      this.#applyOther();
    }
    if (facts.place === PLACE_LAST) this.#batchStart = 0;
    if (this.#batchStart === 0) numbers[LOG_VISIBLE] = end;
  }

  #applyOther(): void {
    const { facts } = this.#scanner;
    switch (facts.kind) {
      case KIND_SPACE_CREATE:
        this.#applyCreate();
        break;
      case KIND_CLEAR:
      case KIND_SPACE_DROP:
        this.#applyBury(facts.kind === KIND_SPACE_DROP);
        break;
      case KIND_ABORT:
        this.#undoBatch();
        this.#group.wasUndone();
        break;
      case KIND_END:
      case KIND_SESSION:
        break;
      default:
        throw this.#nonsense("a frame of no known kind");
    }
  }

  /** Takes the batch at hand back. */
  #undoBatch(): void {
    undo(this.#core, this.#spaces, this.#batchStart, this.#gates);
    this.#records = this.#recordsBefore;
  }

  #nonsense(what: string, offset = this.#scanner.lsn): EmdbError {
    return new EmdbError("EMDB_CORRUPTED", `${what} at byte ${offset}; nothing has been changed`, {
      path: this.#path,
      offset,
    });
  }

  #space(id: number, lsn: number): SpaceState {
    const space = this.#spaces.byId(id);
    if (space === undefined || !this.#spaces.isLive(space))
      throw this.#nonsense(`a record of a namespace that is not there (id ${id})`, lsn);
    return space;
  }

  /** Whether the index holds the frame at hand already. */
  get #isPast(): boolean {
    return this.#gates !== undefined && this.#scanner.lsn < this.#gates.of(this.#scanner.facts.space);
  }

  #applyCreate(): void {
    const { facts, lsn, head, headAt } = this.#scanner;
    if (this.#isPast) return;
    if (facts.space < this.#spaces.nextId && !this.#isUnnamed(facts.space))
      throw this.#nonsense(`a namespace is created with an id that was given out before (${facts.space})`);
    const from = headAt + FRAME_HEADER_BYTES;
    const bytes = head.u8.slice(from, from + facts.keyBytes);
    if (!isName(bytes)) throw this.#nonsense(`a namespace is created with a name that is no text (id ${facts.space})`);
    const name = decodeName(bytes);
    this.#spaces.create({ id: facts.space, name }, lsn);
  }

  /**
   * Whether an image alone says that an id was given out, one that the log did not name any more at its end: before that the
   * gates let nothing pass. Who then wrote on without the image, as to a copy of the log, gave it out again.
   */
  #isUnnamed(id: number): boolean {
    return this.#gates !== undefined && this.#spaces.byId(id) === undefined;
  }

  #applyBury(isDrop: boolean): void {
    this.#gates?.meetClear(this.#scanner.facts.space, this.#scanner.lsn);
    if (this.#isPast) return;
    const space = this.#space(this.#scanner.facts.space, this.#scanner.lsn);
    if (isDrop) this.#spaces.setState(space, SPACE_DROPPED);
    this.#spaces.bury(space, this.#scanner.lsn);
    if (this.#batchStart === 0) this.#spaces.emptyGraves(space, Infinity);
  }
}

/** Where the frames begin. */
export const FIRST_LSN = HEADER_PAGE_BYTES;
