/**
 * The log under verify: every frame from the beginning to the moment's end, by system reads.
 *
 * Of each frame: both checksums and its fields (`scanner.ts`), its place in a batch, its namespace, that the
 * version it names as the one before is one of the same key, and that the index does not name an older one. On
 * the way the records and bytes of each key space are counted as recovery would count them.
 *
 * A bad frame with a sound header costs only itself; behind any other the next sound frame is looked for. What
 * follows from a bad frame (a batch without its end, counts that differ) is not reported again.
 */

import { compare, sharedScratch } from "../../ffi/memory.ts";
import { must } from "../../ffi/io-error.ts";
import { HEADER_PAGE_BYTES, KEY_BYTES_MAX, SCAN_BYTES } from "../../limits.ts";
import {
  EXTENSION_BYTES_MAX,
  FRAME_HEADER_BYTES,
  KIND_ABORT,
  KIND_CLEAR,
  KIND_PUT,
  KIND_REMOVE,
  KIND_SPACE_CREATE,
  KIND_SPACE_DROP,
  PLACE_ALONE,
  PLACE_FIRST,
  PLACE_LAST,
  WORD_SHAPE,
  decodeInto,
  isPlausible,
  placeOf,
  type FrameFacts,
} from "../../log/frame.ts";
import { Scanner, type Finding, type ScanSource } from "../../log/scanner.ts";
import { isTombstone } from "../../keydir/keydir.ts";
import type { Core } from "../core.ts";
import type { SessionKeeper } from "../sealed/scan-opener.ts";
import { sealedLiveBytes } from "../sealed/sealed-encoder.ts";
import type { Spaces } from "../spaces.ts";
import { PastRecords } from "./verify-past.ts";
import { placeInFile, type Moment, type Problems, type SpaceMoment } from "./verify-moment.ts";
import { decodeName } from "../names.ts";

/** A key space as the log up to here makes it. */
export interface Tally {
  records: number;
  bytes: number;
  /** Position behind which the index may name frames: that of the last clear. */
  readonly clearedAt: number;
  readonly isDropped: boolean;
}

const EMPTY: Tally = { records: 0, bytes: 0, clearedAt: 0, isDropped: false };
const sharedPeek = sharedScratch(FRAME_HEADER_BYTES + KEY_BYTES_MAX + EXTENSION_BYTES_MAX);

export class LogCheck {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #moment: Moment;
  readonly #problems: Problems;
  readonly #source: ScanSource;
  readonly #scanner: Scanner;
  readonly #tallies = new Map<number, Tally>();
  /** The tallies as they were when the batch at hand began. */
  readonly #before = new Map<number, Tally>();
  /** Problems of the batch at hand that count only if it was not given up. */
  #suspicions: { offset: number; reason: string }[] = [];
  /** Batches that were given up. */
  readonly #aborted: { readonly from: number; readonly to: number }[] = [];
  #batch: "outside" | "inside" | "unknown" = "outside";
  #batchStart = 0;
  #hasEnded = false;
  /** Where each namespace was created. */
  readonly #created = new Map<number, number>();
  /** Where the stretch began that is being searched for a sound frame; 0 when none is. */
  #lostFrom = 0;
  readonly #peek = sharedPeek();
  /** Of an encrypted log: what has been passed, to be read again. */
  readonly #past: PastRecords | undefined;
  readonly #old: FrameFacts;
  readonly #older: number[] = [];

  /** Sound records met so far. */
  records = 0;
  /** Everything before has been looked at. */
  lsn = HEADER_PAGE_BYTES;

  constructor(
    core: Core,
    spaces: Spaces,
    parts: {
      readonly moment: Moment;
      readonly problems: Problems;
      readonly source: ScanSource;
      /** Of an encrypted log. */
      readonly keys?: SessionKeeper | undefined;
    },
  ) {
    this.#core = core;
    this.#spaces = spaces;
    this.#moment = parts.moment;
    this.#problems = parts.problems;
    this.#source = parts.source;
    this.#scanner = new Scanner(parts.source, this.lsn);
    this.#past = parts.keys === undefined ? undefined : new PastRecords(parts.source, parts.keys);
    this.#old = { ...this.#scanner.facts };
  }

  release(): void {
    this.#scanner.release();
  }

  /** A key space as the whole log makes it. */
  tally(id: number): Tally {
    return this.#tallies.get(id) ?? EMPTY;
  }

  /** Whether a frame at a position belongs to a batch that was given up. */
  isAborted(lsn: number): boolean {
    return this.#aborted.some(({ from, to }) => lsn >= from && lsn < to);
  }

  /** Looks at one frame, or at a stretch of what is none; false when all has been looked at. */
  step(): boolean {
    if (this.lsn >= this.#moment.end) return this.#end();
    if (this.#lostFrom !== 0) {
      this.#search();
      return true;
    }
    const finding = this.#scanner.judge(this.lsn);
    if (finding.kind === "frame") {
      this.#check();
      this.lsn += this.#scanner.facts.frameBytes;
    } else {
      this.#lose(finding);
    }
    return true;
  }

  #end(): false {
    if (this.#batch === "inside") {
      this.#problems.add(this.#batchStart, "a batch has no end");
      this.#batch = "outside";
    }
    if (!this.#hasEnded) this.#checkSpaces();
    this.#hasEnded = true;
    return false;
  }

  // -- bad places --------------------------------------------------------------

  #lose(finding: Exclude<Finding, { kind: "frame" }>): void {
    const from = this.lsn;
    this.#problems.add(from, this.#reasonOf(finding));
    const reach = finding.kind === "bad" ? this.#scanner.soundReach : 0;
    if (reach > 0) {
      this.#problems.lose(from, reach);
      this.#enter(placeOf(this.#scanner.shape), from);
      this.lsn = reach;
    } else {
      this.#lostFrom = from;
      this.#batch = "unknown";
      this.lsn = from + 8;
    }
    this.#suspicions = [];
  }

  #reasonOf(finding: Exclude<Finding, { kind: "frame" }>): string {
    const end = this.#moment.end;
    switch (finding.kind) {
      case "bad":
        return finding.reason;
      case "mark":
        return `a mark says that the log ends here, which ends at byte ${end}`;
      case "end":
        return `nothing stands here (zeros, or the file's end), and the log ends at byte ${end}`;
    }
  }

  #search(): void {
    const until = Math.min(this.lsn + SCAN_BYTES, this.#moment.end);
    const found = this.#scanner.findSound(this.lsn, -1, until);
    this.lsn = found ?? until;
    if (found === undefined && until < this.#moment.end) return;
    this.#problems.lose(this.#lostFrom, this.lsn);
    this.#lostFrom = 0;
  }

  // -- frames ------------------------------------------------------------------

  #check(): void {
    const { facts, lsn } = this.#scanner;
    const isFirst = facts.place === PLACE_ALONE || facts.place === PLACE_FIRST;
    if (this.#batch !== "unknown" && isFirst !== (this.#batch === "outside")) {
      this.#problems.add(lsn, isFirst ? "the batch before this frame has no end" : "a batch has no beginning");
    }
    this.#enter(facts.place, lsn);
    this.#checkKind();
    if (facts.place === PLACE_LAST) this.#endBatch(facts.kind === KIND_ABORT, lsn + facts.frameBytes);
  }

  /** Follows the places of frames; a lost frame with a sound header counts. */
  #enter(place: number, lsn: number): void {
    if (place === PLACE_FIRST || place === PLACE_ALONE) {
      this.#before.clear();
      this.#batchStart = lsn;
    }
    this.#batch = place === PLACE_ALONE || place === PLACE_LAST ? "outside" : "inside";
  }

  #endBatch(isAborted: boolean, end: number): void {
    if (isAborted) {
      for (const [id, tally] of this.#before) this.#tallies.set(id, tally);
      for (const [id, lsn] of this.#created) if (lsn >= this.#batchStart) this.#created.delete(id);
      this.#aborted.push({ from: this.#batchStart, to: end });
    } else {
      this.#problems.list.push(...this.#suspicions);
    }
    this.#suspicions = [];
    this.#before.clear();
  }

  #checkKind(): void {
    const { facts, lsn } = this.#scanner;
    switch (facts.kind) {
      case KIND_PUT:
      case KIND_REMOVE:
        this.records += 1;
        this.#checkRecord();
        break;
      case KIND_SPACE_CREATE:
        this.#checkCreation();
        break;
      case KIND_CLEAR:
      case KIND_SPACE_DROP:
        if (!this.#isSpaceThere()) break;
        this.#keepBefore(facts.space);
        this.#tallies.set(facts.space, { ...EMPTY, clearedAt: lsn, isDropped: facts.kind === KIND_SPACE_DROP });
        break;
      default:
        break;
    }
  }

  #checkCreation(): void {
    const { facts, lsn, head, headAt } = this.#scanner;
    const from = headAt + FRAME_HEADER_BYTES;
    const name = decodeName(head.u8.slice(from, from + facts.keyBytes));
    const known = this.#moment.spaces.get(facts.space);
    if (this.#created.has(facts.space)) {
      this.#suspect(lsn, `a namespace is created with an id that was given out before (${facts.space})`);
    } else if (known !== undefined && (known.createdAt !== lsn || known.space.name !== name)) {
      this.#suspect(lsn, `the namespace ${JSON.stringify(name)} that is created here is not known as that`);
    }
    this.#created.set(facts.space, lsn);
  }

  /** Whether the namespace of the frame at hand was there when the frame was written, as far as the log tells. */
  #isSpaceThere(): boolean {
    const { space: id } = this.#scanner.facts;
    const isCreated = id === 0 || this.#created.has(id) || this.#problems.hasLost;
    if (isCreated && !this.tally(id).isDropped) return true;
    this.#suspect(this.#scanner.lsn, `the frame is of a namespace that is not there (id ${id})`);
    return false;
  }

  /** The namespaces that the log leaves are those that are known. */
  #checkSpaces(): void {
    for (const [id, lsn] of this.#created) {
      if (this.tally(id).isDropped || this.#moment.spaces.get(id)?.isLive === true || this.#problems.hasLost) continue;
      this.#problems.add(lsn, "the namespace that is created here is not known");
    }
    for (const [id, { isLive, createdAt }] of this.#moment.spaces) {
      if (id === 0 || !isLive || this.#created.has(id) || this.#problems.hasLost) continue;
      this.#problems.add(createdAt, `a namespace is known that no frame creates (id ${id})`);
    }
  }

  #keepBefore(id: number): void {
    if (this.#batch === "inside" && !this.#before.has(id)) this.#before.set(id, { ...this.tally(id) });
  }

  #checkRecord(): void {
    const { facts } = this.#scanner;
    if (!this.#isSpaceThere()) return;
    const oldBytes = this.#checkPrev();
    this.#keepBefore(facts.space);
    let tally = this.#tallies.get(facts.space);
    if (tally === undefined) this.#tallies.set(facts.space, (tally = { ...EMPTY }));
    tally.records += (facts.kind === KIND_PUT ? 1 : 0) - (oldBytes > 0 ? 1 : 0);
    tally.bytes += (facts.kind === KIND_PUT ? facts.liveBytes : 0) - oldBytes;
    const known = this.#moment.spaces.get(facts.space);
    if (known !== undefined) this.#checkSlot(known);
  }

  // -- the version before ------------------------------------------------------

  /** Bytes of the frame that held the value which this one replaces; 0 when there was none. */
  #checkPrev(): number {
    const { facts, lsn } = this.#scanner;
    if (facts.prev === 0) return 0;
    if (this.#holdsSameKey(facts.prev)) return this.#old.kind === KIND_PUT ? this.#old.liveBytes : 0;
    if (!this.#problems.isLost(facts.prev)) {
      this.#problems.add(lsn, `byte ${facts.prev}, which is named as the version before, holds no record of the key`);
    }
    return 0;
  }

  /** Whether the record at a position has the key and namespace of the frame at hand; decodes it into `#old`. */
  #holdsSameKey(position: number): boolean {
    if (this.#past !== undefined) return this.#holdsSameSealed(this.#past, position);
    const { facts, lsn, at, memory } = this.#scanner;
    const start = lsn - at;
    const isNear = position >= start;
    const place = isNear ? position - start : 0;
    const there = isNear ? memory : this.#peek;
    if (!isNear) {
      const bytes = FRAME_HEADER_BYTES + facts.keyBytes + EXTENSION_BYTES_MAX;
      const { system, file, path } = this.#source;
      const read = system.read(file, this.#peek.u8, { position, bytes });
      if (must(read, { syscall: "pread", path }) < FRAME_HEADER_BYTES + facts.keyBytes) return false;
    }
    if (there.u32[(place >> 2) + WORD_SHAPE]! >>> 16 !== facts.keyBytes) return false;
    if (!isPlausible(there, place, position)) return false;
    if (!decodeInto(this.#old, there, { at: place, lsn: position })) return false;
    if (this.#old.kind !== KIND_PUT && this.#old.kind !== KIND_REMOVE) return false;
    if (this.#old.space !== facts.space) return false;
    if (facts.keyBytes === 0) return true;
    const key = memory.address + at + FRAME_HEADER_BYTES;
    return compare(there.address + place + FRAME_HEADER_BYTES, key, facts.keyBytes) === 0;
  }

  #holdsSameSealed(past: PastRecords, position: number): boolean {
    const { facts, head, headAt } = this.#scanner;
    const record = past.read(position);
    if (record === undefined || record.keyBytes !== facts.keyBytes || record.space !== facts.space) return false;
    if (record.kind !== KIND_PUT && record.kind !== KIND_REMOVE) return false;
    this.#old.kind = record.kind;
    this.#old.liveBytes = sealedLiveBytes(record);
    if (facts.keyBytes === 0) return true;
    const key = head.address + headAt + FRAME_HEADER_BYTES;
    return compare(past.head.address + FRAME_HEADER_BYTES, key, facts.keyBytes) === 0;
  }

  // -- the index ---------------------------------------------------------------

  /** The slot of the key names this frame or a later one, if there still is a slot. */
  #checkSlot(known: SpaceMoment): void {
    const { keydir, key } = this.#core;
    const { facts, lsn, headAt, head } = this.#scanner;
    const root = this.#spaces.rootBefore(known.space, known.clears);
    if (root === 0) return;
    key.loadFrom(head.address + headAt + FRAME_HEADER_BYTES, facts.keyBytes);
    keydir.seek(root, key.hash);
    this.#older.length = 0;
    while (keydir.next()) {
      const position = placeInFile(this.#core, this.#moment, keydir.units * 8);
      if (position >= HEADER_PAGE_BYTES && position < lsn) this.#older.push(position);
      if (position !== lsn) continue;
      if (isTombstone(keydir.high) !== (facts.kind === KIND_REMOVE)) {
        this.#problems.add(lsn, "the index takes a removal for a record, or a record for a removal");
      }
      return;
    }
    // Slots of the same hash that name older frames: almost always of other keys.
    for (const position of this.#older) {
      if (this.#problems.isLost(position) || !this.#holdsSameKey(position)) continue;
      this.#suspect(lsn, `the index names an older version of this record, at byte ${position}`);
    }
  }

  /** Of a batch that was given up nothing is known, and rightly so. */
  #suspect(offset: number, reason: string): void {
    if (this.#batch === "inside" || this.#scanner.facts.place === PLACE_LAST) this.#suspicions.push({ offset, reason });
    else this.#problems.add(offset, reason);
  }
}
