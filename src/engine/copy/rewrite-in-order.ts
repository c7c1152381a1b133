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
 * 2. The writer's lock is held for one stretch.
 * 3. What lies in order already is left there, and so is what has a page of its own anyway.
 * 4. What is written meanwhile is left for the next time, and passed over faster than it comes: this ends.
 */

import { verifyFound } from "../read/body-check.ts";
import { remainderOf, type Remainder } from "../../ordered/range-reader.ts";
import { KIND_PUT, kindOf } from "../../log/frame.ts";
import { SPACES_PER_LOOK } from "../../limits.ts";
import { sharedScratch } from "../../ffi/memory.ts";
import type { BatchWrite } from "../contract.ts";
import type { Engine } from "../engine.ts";
import type { SpaceState } from "../spaces.ts";

/** Neighbours that come to lie side by side, and what their last leaf holds besides: written within some milliseconds. */
const STRETCH_RECORDS = 512;
const STRETCH_BYTES = 256 * 1024;
/** With those among them that came meanwhile, of which nothing is read. */
const STRETCH_POSITIONS = 8192;
/** More than a leaf has: a part then ends with its leaf (`RangeReader.take`). */
const PART_RECORDS = 64;
/** Frames that are as long are read by themselves, wherever they lie, and so is what is as far from its neighbour. */
const NEAR_BYTES = 4096;
/** A stretch lies in order if in so many records there is no more than one that is not near the one before. */
const RECORDS_PER_BREAK = 32;
const sharedUnits = sharedScratch(PART_RECORDS * 8);

/** Where records lie that are to be near each other. */
interface Stretch {
  readonly lsns: number[];
  /** Of everything that was there before, and how many positions that was with what was not. */
  bytes: number;
  positions: number;
  breaks: number;
  /** Where the frame before ends. */
  end: number;
}

/** The steps, each under the writer's lock for a stretch; yields and returns how many bytes of records have been looked at. */
export function* rewriteSteps(engine: Engine): Generator<number, number> {
  const { core, spaces } = engine;
  const before = core.visible;
  let done = 0;
  for (let first = 0; first < spaces.nextId; first += SPACES_PER_LOOK, yield done) {
    const hasOrder = (space: SpaceState): boolean => spaces.tree(space) !== 0;
    const some = engine.exclusivelyInMemory(() => spaces.live(first, SPACES_PER_LOOK).filter(hasOrder));
    for (const space of some) {
      const rest = remainderOf({});
      for (let isMore = true; isMore; yield done) {
        const { bytes, positions } = engine.exclusively(() => rewriteStretch(engine, space, { rest, before }));
        done += bytes;
        isMore = positions > 0;
      }
    }
  }
  return done;
}

/** Looks at the next stretch of what is left of a key space, and writes it anew where that is due; without a position at its end. */
function rewriteStretch(
  engine: Engine,
  space: SpaceState,
  { rest, before }: { readonly rest: Remainder; readonly before: number },
): Stretch {
  const stretch: Stretch = { lsns: [], bytes: 0, positions: 0, breaks: 0, end: 0 };
  // There is none where another Worker has dropped or cleared it in between.
  const tree = engine.spaces.tree(space);
  if (tree === 0) return stretch;
  const { reader } = engine.core.ordering!;
  const units = sharedUnits().f64;
  while (!isFull(stretch)) {
    const count = reader.take(tree, rest, units, PART_RECORDS);
    if (count === 0) break;
    stretch.positions += count;
    for (let index = 0; index < count; index++) {
      const lsn = units[index]! * 8;
      if (lsn < before) look(engine, stretch, lsn);
    }
  }
  const { lsns, breaks } = stretch;
  if (breaks * RECORDS_PER_BREAK > lsns.length) engine.writeBatch(lsns.map((lsn) => writeOf(engine, space, lsn)));
  return stretch;
}

function isFull({ lsns, bytes, positions }: Stretch): boolean {
  return lsns.length >= STRETCH_RECORDS || bytes >= STRETCH_BYTES || positions >= STRETCH_POSITIONS;
}

/** Takes up the record at a position, if it is one whose place matters. */
function look({ core }: Engine, stretch: Stretch, lsn: number): void {
  const { lookup } = core;
  lookup.loadAt(lsn);
  const bytes = lookup.frameBytes();
  stretch.bytes += bytes;
  if (kindOf(lookup.shape) !== KIND_PUT || bytes >= NEAR_BYTES) return;
  const gap = lsn - stretch.end;
  if (stretch.lsns.length > 0 && (gap < 0 || gap >= NEAR_BYTES)) stretch.breaks += 1;
  stretch.end = lsn + bytes;
  stretch.lsns.push(lsn);
}

/** The write of a record as it stands. @throws {EmdbError} EMDB_CORRUPTED */
function writeOf({ core }: Engine, space: SpaceState, lsn: number): BatchWrite {
  const { lookup } = core;
  lookup.loadAt(lsn);
  verifyFound(core);
  const expiresAtMs = lookup.expiresAtMs();
  return { space, key: lookup.keyCopy(), value: lookup.value(), expiresAtMs };
}
