/**
 * Before a compaction that is to leave records in the order of their keys: those that do not lie so are written anew, a
 * stretch of the key space at a time, by the write path, as anybody's overwrites with the same bytes would be. The copy, which
 * keeps the order of the log, then has each stretch in one piece.
 *
 * So nothing that a copy relies on is new, and a crash, an abort or a full disk at any moment leaves the same records.
 * What is paid is one more write of what lay elsewhere, and the room for it until the file before is gone.
 *
 * Invariants
 * 1. A record is written with the bytes and the deadline that it has under the same lock, once they have been held against its
 *    checksums: rot is not written anew as if it were sound.
 * 2. The writer's lock is held for one step, which is of at most so many records, bytes, positions and key spaces.
 * 3. A stretch that lies in order is left where it is, and so is what has a page of its own anyway.
 * 4. What is written meanwhile is left for the next time, and passed over faster than it comes: this ends.
 */

import { isRot } from "../../errors.ts";
import { sharedScratch } from "../../ffi/memory.ts";
import { SPACES_PER_LOOK } from "../../limits.ts";
import { KIND_PUT, kindOf } from "../../log/frame.ts";
import { PART_MAX, remainderOf, type Remainder } from "../../ordered/range-reader.ts";
import type { BatchWrite } from "../contract.ts";
import type { Core } from "../core.ts";
import type { Engine } from "../engine.ts";
import { verifyFound } from "../read/body-check.ts";
import type { SpaceState } from "../spaces.ts";

/** Neighbours that come to lie side by side, and what their last leaf holds besides: written within some milliseconds. */
const STEP_RECORDS = 512;
const STEP_BYTES = 256 * 1024;
/** With those among them that came meanwhile, of which nothing is read. */
const STEP_POSITIONS = 8192;
/** Frames that are as long are read by themselves, wherever they lie, and so is what is as far from its neighbour. */
const NEAR_BYTES = 4096;
/** A stretch lies in order if in so many records there is no more than one that is not near the one before, */
const RECORDS_PER_BREAK = 16;
/** and what lies between those that are is no more than so many times as long as they. */
const GAPS_PER_BYTE = 4;
const sharedUnits = sharedScratch(PART_MAX * 8);

/** The steps, each under the writer's lock; yields and returns how many bytes of records have been looked at. */
export function* rewriteSteps(engine: Engine): Generator<number, number> {
  const rewrite = new Rewrite(engine);
  while (engine.exclusively(() => rewrite.step())) yield rewrite.done;
  return rewrite.done;
}

/** Short records that follow each other in the order of their keys, and how they lie. */
class Stretch {
  readonly lsns: number[] = [];
  #bytes = 0;
  #gaps = 0;
  #breaks = 0;
  /** Where the frame before ends. */
  #end = 0;

  add(lsn: number, bytes: number): void {
    const gap = lsn - this.#end;
    if (this.lsns.length > 0) {
      if (gap < 0 || gap >= NEAR_BYTES) this.#breaks += 1;
      else this.#gaps += gap;
    }
    this.#bytes += bytes;
    this.#end = lsn + bytes;
    this.lsns.push(lsn);
  }

  get isInOrder(): boolean {
    return this.#breaks * RECORDS_PER_BREAK <= this.lsns.length && this.#gaps <= this.#bytes * GAPS_PER_BYTE;
  }
}

class Rewrite {
  readonly #engine: Engine;
  readonly #core: Core;
  /** Where the log ended when this began, and the first key space that came later. */
  readonly #before: number;
  readonly #spacesEnd: number;
  /** The key space at hand, and what is left of it. */
  #space = 0;
  #rest: Remainder = remainderOf({});
  /** Bytes of records that have been looked at. */
  done = 0;
  /** What the step at hand has looked at. */
  #records = 0;
  #positions = 0;
  #spaces = 0;
  #stepBegan = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
    this.#core = engine.core;
    this.#before = engine.core.visible;
    this.#spacesEnd = engine.spaces.nextId;
  }

  /** Goes on, under the writer's lock; false when there is no more. */
  step(): boolean {
    const writes: BatchWrite[] = [];
    this.#records = 0;
    this.#positions = 0;
    this.#spaces = 0;
    this.#stepBegan = this.done;
    while (this.#space < this.#spacesEnd && !this.#isLong) {
      const space = this.#engine.spaces.byId(this.#space);
      const stretch = new Stretch();
      const isMore = space !== undefined && this.#take(space, stretch);
      if (!stretch.isInOrder) for (const lsn of stretch.lsns) writes.push(this.#writeOf(space!, lsn));
      if (isMore) continue;
      this.#space += 1;
      this.#spaces += 1;
      this.#rest = remainderOf({});
    }
    if (writes.length > 0) this.#engine.writeBatch(writes);
    return this.#space < this.#spacesEnd;
  }

  get #isLong(): boolean {
    const isLookedAt = this.#records >= STEP_RECORDS || this.done - this.#stepBegan >= STEP_BYTES;
    return isLookedAt || this.#positions >= STEP_POSITIONS || this.#spaces >= SPACES_PER_LOOK;
  }

  /** Takes the next stretch of a key space; whether there is more of it. */
  #take(space: SpaceState, stretch: Stretch): boolean {
    // There is none where another Worker has dropped or cleared it in between.
    const tree = this.#engine.spaces.tree(space);
    if (tree === 0) return false;
    const { reader } = this.#core.ordering!;
    const units = sharedUnits().f64;
    while (!this.#isLong) {
      const count = reader.take(tree, this.#rest, units, PART_MAX);
      this.#positions += count;
      for (let index = 0; index < count; index++) {
        const lsn = units[index]! * 8;
        if (lsn < this.#before) this.#look(stretch, lsn);
      }
      if (this.#rest.isDone) return false;
    }
    return true;
  }

  /** Takes up the record at a position, if it is one whose place matters. */
  #look(stretch: Stretch, lsn: number): void {
    const { lookup } = this.#core;
    try {
      lookup.loadAt(lsn);
    } catch (error) {
      if (!isRot(error)) throw error;
      // The copy finds out whether anybody needs it.
      return;
    }
    const bytes = lookup.frameBytes();
    this.done += bytes;
    this.#records += 1;
    if (kindOf(lookup.shape) === KIND_PUT && bytes < NEAR_BYTES) stretch.add(lsn, bytes);
  }

  /** The write of a record as it stands. @throws {EmdbError} EMDB_CORRUPTED */
  #writeOf(space: SpaceState, lsn: number): BatchWrite {
    const { lookup } = this.#core;
    lookup.loadAt(lsn);
    verifyFound(this.#core);
    const expiresAtMs = lookup.expiresAtMs();
    return { space, key: lookup.keyCopy(), value: lookup.value(), expiresAtMs };
  }
}
