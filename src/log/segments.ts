/**
 * The files that compactions have replaced, as long as somebody may read them.
 *
 *     segment (f64)   0 base   1 end   2 address that position 0 would have   3 base of the file that replaced it
 *                     4 generation   5 file (12: its state, see `shared-file.ts`)   6, 7, 8 address, pairs and bytes of the table of moves
 *                     9 position up to which snapshots may need it   10 era in which it was given up
 *                     11 position in the file of its newest session record, if it is encrypted
 *                     13 file of the table of moves (14: its state), where what is mapped needs one that is open
 *
 * A position that the index, a snapshot or an iterator took before a compaction is in such a file, below the
 * current `base`. Its bytes are read where they were; the table of moves says where its frame is in the file that
 * replaced it, and the other way round.
 *
 * Invariants
 * 1. Segments do not overlap, and all lie below the current base. An entry is free when its end is 0.
 * 2. An entry is filled in before its end says that there is one, and a reader looks at the end first: it may find a
 *    position in an older segment while another is being added.
 * 3. Entries change under the writer's lock. One is freed, and its memory unmapped, only when nothing in the index
 *    names a position in it, no snapshot is open that did before, and every thread has been seen past that.
 */

import { barrier } from "../ffi/barrier.ts";
import type { Address } from "../ffi/system.ts";
import { Moves } from "./moves.ts";
import type { SharedFile } from "./shared-file.ts";

export const SEGMENT_COUNT_MAX = 8;
export const SEGMENT_NUMBERS = 15;

const BASE = 0;
const END = 1;
const ORIGIN = 2;
const NEXT = 3;
const GENERATION = 4;
const FILE = 5;
const MOVES = 6;
const PAIRS = 7;
const MOVES_BYTES = 8;
const NEEDED_TO = 9;
const ERA = 10;
const SESSION = 11;
const FILE_STATE = 12;
const MOVES_FILE = 13;
const MOVES_FILE_STATE = 14;

/** In place of a position up to which snapshots may need a segment. */
const POSITIONS_LEFT = -1;

/** What a segment is, as plain numbers. */
export interface SegmentFacts {
  readonly base: number;
  readonly end: number;
  readonly origin: Address;
  /** Base of the file that replaced it. */
  readonly next: number;
  readonly generation: number;
  /** Of an encrypted log: where in the file its newest session record stands; 0: nowhere. */
  readonly session: number;
  readonly moves: { readonly address: Address; readonly pairs: number; readonly bytes: number };
}

/** One thread's eyes on the table. A segment is named by the index of its first number; 0 is none. */
export class Segments {
  readonly #numbers: Float64Array;
  readonly #flags: Int32Array;
  readonly #fence: number;
  readonly #first: number;
  /** For the barriers of a reader: a word that others use would be fought over. */
  readonly #barrier = new Int32Array(1);
  /** Tables that this thread has looked into, by the base of their segment, which is never used again. */
  readonly #moves = new Map<number, Moves>();

  /** `first` is where the table begins, `fence` the flag that writers pass barriers with. */
  constructor(
    words: { readonly numbers: Float64Array; readonly flags: Int32Array },
    at: { readonly first: number; readonly fence: number },
  ) {
    this.#numbers = words.numbers;
    this.#flags = words.flags;
    this.#first = at.first;
    this.#fence = at.fence;
  }

  /** All segments, the oldest first. */
  list(): number[] {
    const all: number[] = [];
    for (let index = 0; index < SEGMENT_COUNT_MAX; index++) {
      const at = this.#first + index * SEGMENT_NUMBERS;
      if (this.#numbers[at + END] !== 0) all.push(at);
    }
    return all.sort((a, b) => this.base(a) - this.base(b));
  }

  /** The segment that a position is in. */
  holding(lsn: number): number {
    const numbers = this.#numbers;
    for (let at = this.#first; at < this.#first + SEGMENT_COUNT_MAX * SEGMENT_NUMBERS; at += SEGMENT_NUMBERS) {
      if (lsn >= numbers[at + END]!) continue;
      barrier(this.#barrier, 0);
      if (lsn >= numbers[at + BASE]!) return at;
    }
    return 0;
  }

  /** The segment that is the file with a base. */
  ofBase(base: number): number {
    const numbers = this.#numbers;
    for (let at = this.#first; at < this.#first + SEGMENT_COUNT_MAX * SEGMENT_NUMBERS; at += SEGMENT_NUMBERS) {
      if (numbers[at + END] !== 0 && numbers[at + BASE] === base) return at;
    }
    return 0;
  }

  /** A free entry. */
  free(): number {
    for (let index = 0; index < SEGMENT_COUNT_MAX; index++) {
      const at = this.#first + index * SEGMENT_NUMBERS;
      if (this.#numbers[at + END] === 0) return at;
    }
    return 0;
  }

  /** Fills a free entry in. Under the writer's lock. */
  add(at: number, facts: SegmentFacts): void {
    const numbers = this.#numbers;
    numbers[at + BASE] = facts.base;
    numbers[at + ORIGIN] = facts.origin;
    numbers[at + NEXT] = facts.next;
    numbers[at + GENERATION] = facts.generation;
    numbers[at + MOVES] = facts.moves.address;
    numbers[at + PAIRS] = facts.moves.pairs;
    numbers[at + MOVES_BYTES] = facts.moves.bytes;
    numbers[at + NEEDED_TO] = 0;
    numbers[at + ERA] = 0;
    numbers[at + SESSION] = facts.session;
    barrier(this.#flags, this.#fence);
    numbers[at + END] = facts.end;
  }

  /** What an entry says. */
  facts(at: number): SegmentFacts {
    const numbers = this.#numbers;
    return {
      base: numbers[at + BASE]!,
      end: numbers[at + END]!,
      origin: numbers[at + ORIGIN]!,
      next: numbers[at + NEXT]!,
      generation: numbers[at + GENERATION]!,
      session: numbers[at + SESSION]!,
      moves: { address: numbers[at + MOVES]!, pairs: numbers[at + PAIRS]!, bytes: numbers[at + MOVES_BYTES]! },
    };
  }

  /** Frees an entry; its memory has been given back. */
  drop(at: number): void {
    this.#numbers[at + END] = 0;
    barrier(this.#flags, this.#fence);
    this.#numbers.fill(0, at, at + SEGMENT_NUMBERS);
  }

  /** Its open file, for who names or closes it. */
  file(at: number): SharedFile {
    return { numbers: this.#numbers, handleAt: at + FILE, stateAt: at + FILE_STATE };
  }

  /** The open file of its table of moves. */
  movesFile(at: number): SharedFile {
    return { numbers: this.#numbers, handleAt: at + MOVES_FILE, stateAt: at + MOVES_FILE_STATE };
  }

  base(at: number): number {
    return this.#numbers[at + BASE]!;
  }

  end(at: number): number {
    return this.#numbers[at + END]!;
  }

  origin(at: number): Address {
    return this.#numbers[at + ORIGIN]!;
  }

  generation(at: number): number {
    return this.#numbers[at + GENERATION]!;
  }

  /** Where in the file its newest session record stands. */
  session(at: number): number {
    return this.#numbers[at + SESSION]!;
  }

  /** Snapshots up to this position may have taken positions in the segment; 0 while the index still names some, negative when none has. */
  neededTo(at: number): number {
    return this.#numbers[at + NEEDED_TO]!;
  }

  /** The index names nothing in the segment any more. */
  giveUp(at: number, neededTo: number, era: number): void {
    this.#numbers[at + ERA] = era;
    this.#numbers[at + NEEDED_TO] = neededTo;
  }

  /** Nobody can hold a position in the segment any more; its file alone is still there. */
  leavePositions(at: number): void {
    this.#numbers[at + NEEDED_TO] = POSITIONS_LEFT;
  }

  /** The oldest segment in which there may be a position that somebody holds. */
  get oldestInUse(): number | undefined {
    return this.list().find((at) => this.#numbers[at + NEEDED_TO] !== POSITIONS_LEFT);
  }

  era(at: number): number {
    return this.#numbers[at + ERA]!;
  }

  /** The table of moves out of a segment. */
  moves(at: number): Moves {
    const base = this.#numbers[at + BASE]!;
    let moves = this.#moves.get(base);
    if (moves === undefined) {
      // What was learned of segments that are gone is forgotten with the first new one; of the others it is dear.
      for (const known of this.#moves.keys()) if (this.ofBase(known) === 0) this.#moves.delete(known);
      moves = Moves.at(this.#numbers[at + MOVES]!, this.#numbers[at + PAIRS]!);
      this.#moves.set(base, moves);
    }
    return moves;
  }

  /** Where the frame at a position in a segment is in the file that replaced it; 0 when it was left out. */
  follow(at: number, lsn: number): number {
    const units = this.moves(at).present(lsn / 8);
    return units === 0 ? 0 : this.#numbers[at + NEXT]! + units * 8;
  }

  /** Replaces positions in a segment among the first `count` (in units) by those in the file that replaced it; 0 when left out. */
  followMany(at: number, units: Float64Array, count: number): void {
    this.moves(at).follow(units, count, this.#numbers[at + NEXT]! / 8);
  }

  /** Where a frame is in the current file, wherever it was before; 0 when a compaction left it out. */
  present(lsn: number): number {
    let place = lsn;
    for (let at = this.holding(place); at !== 0; at = this.holding(place)) {
      const next = this.follow(at, place);
      // Each file's positions are beyond those of the file before; what a table of moves says by now may be rot.
      if (!(next > place)) return 0;
      place = next;
    }
    return place;
  }

  /** Where a frame was in the file before its own, whose base is `base`; 0 when it was not copied from there. */
  former(lsn: number, base: number): number {
    for (const at of this.list()) {
      if (this.#numbers[at + NEXT] === base) return this.moves(at).former((lsn - base) / 8) * 8;
    }
    return 0;
  }
}
