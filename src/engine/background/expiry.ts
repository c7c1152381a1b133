/**
 * Sweeping: the records whose deadline has passed are taken from the queue of their namespace (`keydir/expiry-queue.ts`)
 * and removed, a slice at a time, each slice one batch of the log.
 *
 * Invariants
 * 1. A record is removed only if the version that the queue named is still the newest one of its key, and its frame
 *    names the deadline that has passed: what was inserted again meanwhile stays.
 * 2. The writer's lock is held for one slice; who waits for it gets it between two.
 * 3. What a slice took from the queue is removed, or stale, or in the queue again.
 * 4. A record that has rotted is not passed over: what its key was is not known any more, so it stays, with its entry,
 *    and each sweep tells it. All others go all the same, unless a slice looks at nothing else: then what expired behind so
 *    many stays as well.
 * 5. A walk that cannot read a record counts and enters it, since it may have a deadline; one that fails leaves the queue
 *    unknown.
 * 6. A walk over the index happens only where the queue is unknown: after a writer died, or left a batch to be taken back by
 *    another thread, or after an image that was made of such a queue. It goes on a slice at a time, whoever makes the next.
 */

import { isRot, type EmdbError } from "../../errors.ts";
import { copy, pinned } from "../../ffi/memory.ts";
import { PAGE_BYTES } from "../../ffi/heap.ts";
import { HASHES, hashBehind } from "../../keydir/hash.ts";
import { isTombstone } from "../../keydir/keydir.ts";
import { HASH_SHIFT, PAGE_SLOTS } from "../../keydir/shard.ts";
import { SWEEP_LOOKS_PER_SLICE, SWEEP_RECORDS_PER_SLICE, WALK_LOOKS_PER_SLICE } from "../../limits.ts";
import { FRAME_HEADER_BYTES, PLACE_ALONE, PLACE_FIRST, PLACE_LAST, PLACE_MIDDLE } from "../../log/frame.ts";
import { verifyFound } from "../read/body-check.ts";
import type { Core } from "../core.ts";
import type { SpaceState, Spaces } from "../spaces.ts";
import type { WritePath } from "../write/write-path.ts";

/**
 * In an entry: the record could not be read when its deadline was looked for. As early as a deadline that an image takes
 * can be, so that each sweep looks again. Never renumber.
 */
const UNREAD_MS = Number.MIN_VALUE;

/** What one slice did. */
interface Slice {
  readonly removed: number;
  /** Nothing is due any more, or nothing that can be removed. */
  readonly isDone: boolean;
  /** Tells the first record that has rotted and is in the way of its own removal. */
  readonly rot: EmdbError | undefined;
}

/** What a slice took from the queue. */
interface Entry {
  readonly deadlineMs: number;
  readonly low: number;
  readonly high: number;
}

export class Sweeper {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #write: WritePath;
  /** What failed in the background and was nobody's call; told by the next explicit one. */
  #failure: { readonly thrown: unknown } | undefined;

  constructor(core: Core, spaces: Spaces, write: WritePath) {
    this.#core = core;
    this.#spaces = spaces;
    this.#write = write;
  }

  /**
   * Removes all records of a key space that have expired by now; returns how many.
   *
   * @throws {EmdbError} EMDB_CORRUPTED: one of them has rotted, or several; those that are sound have been removed
   */
  sweep(space: SpaceState): number {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure.thrown;
    const nowMs = this.#core.now();
    let removed = 0;
    let rot: EmdbError | undefined;
    for (;;) {
      const slice = this.slice(space, nowMs);
      removed += slice.removed;
      rot ??= slice.rot;
      if (slice.isDone) break;
      this.#core.mutex.giveWay();
    }
    if (rot !== undefined) throw rot;
    return removed;
  }

  /** Keeps an error for the next explicit sweep. */
  keepFailure(thrown: unknown): void {
    this.#failure = { thrown };
  }

  /** Removes some of the records that have expired by a moment. Rot is told, and not thrown: others may be done without it. */
  slice(space: SpaceState, nowMs: number): Slice {
    const write = this.#write;
    const { mutex } = this.#core;
    mutex.lock();
    try {
      write.begin();
      this.#spaces.mustBeLive(space);
      if (this.#core.expiry.isUnknown(space.address) && !enterSome(this.#core, this.#spaces, space))
        return { removed: 0, isDone: false, rot: undefined };
      return this.#removeDue(space, nowMs);
    } catch (error) {
      write.abandon();
      if (!isRot(error)) throw error;
      return { removed: 0, isDone: true, rot: error };
    } finally {
      mutex.unlock();
    }
  }

  #removeDue(space: SpaceState, nowMs: number): Slice {
    const { expiry } = this.#core;
    const kept: Entry[] = [];
    try {
      return this.#removeSound(space, nowMs, kept);
    } finally {
      for (const { deadlineMs, low, high } of kept) expiry.restore(space.address, deadlineMs, low, high);
    }
  }

  /** Removes what is due; what cannot be removed is out of the queue then, and among what is kept. */
  #removeSound(space: SpaceState, nowMs: number, kept: Entry[]): Slice {
    const { expiry, tail } = this.#core;
    let rot: EmdbError | undefined;
    let removed = 0;
    let looks = 0;
    let isEnded = true;
    while (removed < SWEEP_RECORDS_PER_SLICE && looks < SWEEP_LOOKS_PER_SLICE && expiry.takeDue(space.address, nowMs)) {
      looks += 1;
      const { low, high, deadlineMs } = expiry;
      if (!expiry.isHeld(space.address, low, high)) continue;
      const { end } = tail;
      try {
        const lsn = this.#core.heap.positions.units(low, high) * 8;
        const expiresAtMs = this.#loadRecord(lsn, high);
        if (expiresAtMs !== deadlineMs) {
          if (this.#core.vault === undefined) verifyFound(this.#core);
          // Once it can be read it gets its own deadline; if that has passed, this comes to it again. One without any stays
          // counted: an image may hold the entry twice, and one too many costs nothing, one too few the queue.
          if (deadlineMs === UNREAD_MS && expiresAtMs !== 0) expiry.restore(space.address, expiresAtMs, low, high);
          // Else a frame of the same key that was taken back has stood here. What stands here now has an entry of its own.
          continue;
        }
        const isLast = !expiry.isDue(space.address, nowMs);
        const place = removed === 0 ? (isLast ? PLACE_ALONE : PLACE_FIRST) : isLast ? PLACE_LAST : PLACE_MIDDLE;
        if (!this.#write.delete(space, place)) throw this.#core.log.corrupted(lsn);
        isEnded = isLast;
      } catch (error) {
        kept.push({ deadlineMs, low, high });
        // With a removal that is half done the slice is taken back.
        if (!isRot(error) || tail.end !== end) throw error;
        rot ??= error;
        continue;
      }
      removed += 1;
    }
    if (!isEnded) this.#write.endBatch();
    if (removed > 0) {
      this.#write.publish();
      this.#write.tidy();
    }
    // Where nothing but rot was looked at, the next slice would look at the same.
    return { removed, isDone: looks === kept.length || !expiry.isDue(space.address, nowMs), rot };
  }

  /** Loads the key of the frame that a slot names; returns its deadline. @throws {EmdbError} EMDB_CORRUPTED */
  #loadRecord(lsn: number, high: number): number {
    const { log, lookup, key } = this.#core;
    lookup.loadAt(lsn);
    const expiresAtMs = lookup.expiresAtMs();
    key.loadFrom(lookup.frame.address + FRAME_HEADER_BYTES, lookup.shape >>> 16);
    // A key that has rotted may be another record's by now, which stays.
    if (key.hash !== high >>> HASH_SHIFT) throw log.corrupted(lsn);
    return expiresAtMs;
  }
}

/**
 * Goes on filling the queue of a key space that is unknown, by some of its records; whether it is whole then. Under the
 * writer's lock. @throws {EmdbError} nothing is entered then
 */
function enterSome(core: Core, spaces: Spaces, space: SpaceState): boolean {
  const { expiry } = core;
  const root = spaces.root(space);
  let hash = root === 0 ? HASHES : expiry.walked(space.address);
  try {
    for (let looks = 0; hash < HASHES && looks < WALK_LOOKS_PER_SLICE;) {
      const shard = core.keydir.shardOf(root, hash);
      const end = hashBehind(hash, shard.depth);
      // First: what is entered of a hash that the walk has not come to is left out.
      expiry.walkTo(space.address, end);
      looks += enterShard(core, space, { pages: shard.pages, from: hash });
      hash = end;
    }
  } catch (error) {
    expiry.forget(space.address);
    throw error;
  }
  if (hash < HASHES) return false;
  if (expiry.facts(space.address).live === 0) expiry.begin(space.address);
  return true;
}

/** Enters what a shard holds from a hash on: since the walk was there two may have been laid together. Returns how much it is. */
function enterShard(
  core: Core,
  space: SpaceState,
  shard: { readonly pages: readonly number[]; readonly from: number },
): number {
  const memory = pinned(PAGE_BYTES);
  for (const page of shard.pages) {
    copy(memory.address, core.heap.pageAddress(page), PAGE_BYTES);
    for (let word = 0; word < PAGE_SLOTS * 2; word += 2) {
      const high = memory.u32[word + 1]!;
      if (high >>> HASH_SHIFT >= shard.from) enterSlot(core, space, memory.u32[word]!, high);
    }
  }
  return shard.pages.length * PAGE_SLOTS;
}

function enterSlot(core: Core, space: SpaceState, low: number, high: number): void {
  const units = core.heap.positions.units(low, high);
  if (units === 0 || isTombstone(high)) return;
  const deadlineMs = deadlineAt(core, units * 8);
  if (deadlineMs === 0) return;
  core.expiry.count(space.address, 1, high >>> HASH_SHIFT);
  core.expiry.enter(space.address, deadlineMs, low, high);
}

/** Deadline of the record at a position; 0 for none. */
function deadlineAt({ lookup }: Core, lsn: number): number {
  try {
    lookup.loadAt(lsn);
    return lookup.expiresAtMs();
  } catch (error) {
    if (!isRot(error)) throw error;
    return UNREAD_MS;
  }
}
