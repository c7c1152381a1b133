/**
 * The hash index under verify, one shard at a time, as of the moment.
 *
 * Of each shard: its own invariants (`keydir/check.ts`). Of each slot: that it names a whole record of its
 * namespace whose key has its hash, that it says rightly whether that removes, and that no other slot is the
 * same key's. Together with `verify-log.ts`, which sees to it that no slot names an older version, equal counts
 * then mean: the index names exactly the newest version of every record. (They are not counted where very much is
 * written meanwhile; see `canFollowBack`.)
 */

import { isRot } from "../../errors.ts";
import { HASH_BITS, hashBehind } from "../../keydir/hash.ts";
import { ShardCopy } from "../../keydir/check.ts";
import { FRAME_HEADER_BYTES, KIND_REMOVE, kindOf } from "../../log/frame.ts";
import type { Core } from "../core.ts";
import type { Spaces } from "../spaces.ts";
import type { LogCheck } from "./verify-log.ts";
import { canFollowBack, placeInFile, type Moment, type Problems, type SpaceMoment } from "./verify-moment.ts";

export class IndexCheck {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #moment: Moment;
  readonly #problems: Problems;
  readonly #log: LogCheck;
  /** Whether the log can be read through pointers as far as it goes. */
  readonly #isReadable: boolean;
  readonly #shard = new ShardCopy();
  readonly #waiting: SpaceMoment[];
  #records = 0;
  /** Every smaller hash of the namespace at hand has been visited. */
  #hash = 0;

  /** Bytes of index looked at. */
  bytes = 0;

  constructor(
    core: Core,
    spaces: Spaces,
    parts: {
      readonly moment: Moment;
      readonly problems: Problems;
      readonly log: LogCheck;
      readonly isReadable: boolean;
    },
  ) {
    this.#core = core;
    this.#spaces = spaces;
    this.#moment = parts.moment;
    this.#problems = parts.problems;
    this.#log = parts.log;
    this.#isReadable = parts.isReadable;
    this.#waiting = [...parts.moment.spaces.values()].reverse();
  }

  /** Looks at one shard, or ends one namespace; false when all have been looked at. */
  step(): boolean {
    const known = this.#waiting.at(-1);
    if (known === undefined) return false;
    if (this.#takeShard(known)) {
      this.#checkShard(known);
      return true;
    }
    this.#compareCounts(known);
    this.#waiting.pop();
    this.#records = 0;
    this.#hash = 0;
    return true;
  }

  #takeShard({ space, clears }: SpaceMoment): boolean {
    const { mutex, keydir } = this.#core;
    if (this.#hash >= 1 << HASH_BITS) return false;
    mutex.lock();
    try {
      const root = this.#spaces.rootBefore(space, clears);
      if (root === 0) return false;
      this.#shard.take(keydir, root, this.#hash);
      return true;
    } finally {
      mutex.unlock();
    }
  }

  #checkShard(known: SpaceMoment): void {
    const shard = this.#shard;
    for (const { slot, reason } of shard.faults()) {
      this.#problems.add(slot < 0 ? known.createdAt : this.#placeOf(slot), reason);
    }
    for (let slot = 0; slot < shard.slotCount; slot++) {
      // Shards may have been merged since the one before was visited.
      if (shard.isEmpty(slot) || shard.hashOf(slot) < this.#hash) continue;
      if (this.#isReadable) this.#checkSlot(known, slot);
    }
    this.bytes += shard.bytes;
    this.#hash = hashBehind(this.#hash, shard.depth);
  }

  #checkSlot(known: SpaceMoment, slot: number): void {
    if (this.#isGone(this.#shard.lsnOf(slot)) && this.#shard.isRemoval(slot)) return;
    const place = this.#placeOf(slot);
    if (this.#problems.isLost(place)) return;
    try {
      const reason = this.#faultOf(known, slot);
      if (reason !== undefined) this.#problems.add(place, reason);
    } catch (error) {
      if (!isRot(error)) throw error;
      this.#problems.add(place, "the index names this place, where no record is");
    }
  }

  /** What is wrong with a slot; counts the record that it showed at the moment. */
  #faultOf({ space }: SpaceMoment, slot: number): string | undefined {
    const { lookup, key } = this.#core;
    const shard = this.#shard;
    const place = this.#placeOf(slot);
    if (place === 0) return "the index names what is not in the file";
    lookup.loadAt(this.#moment.base + place);
    const isRemoval = kindOf(lookup.shape) === KIND_REMOVE;
    const ownSpace = lookup.space();
    key.loadFrom(lookup.frame.address + FRAME_HEADER_BYTES, lookup.shape >>> 16);
    if (key.hash !== shard.hashOf(slot)) return "the index names this record with another hash than its key's";
    if (ownSpace !== space.id) return `the index of namespace ${space.id} names a record of namespace ${ownSpace}`;
    if (isRemoval !== shard.isRemoval(slot)) {
      return "the index takes a removal for a record, or a record for a removal";
    }
    if (this.#isOutOfDate(space.id, place)) return "the index names a record that was cleared, or never committed";
    const { base, end } = this.#moment;
    if (canFollowBack(this.#core, this.#moment) && lookup.walkBack(base + end)) this.#records += 1;
    return this.#rivalFault(slot);
  }

  /** An undone first version leaves a removal that names nothing, and so does a removal that a compaction had no use for. */
  #isGone(lsn: number): boolean {
    const { segments } = this.#core.log;
    return lsn === 0 || (segments.holding(lsn) !== 0 && segments.present(lsn) === 0);
  }

  /** Where in the file the frame is that a slot names; 0: nowhere. */
  #placeOf(slot: number): number {
    return placeInFile(this.#core, this.#moment, this.#shard.lsnOf(slot));
  }

  /** Whether the log says that a frame before the moment's end no longer counts. */
  #isOutOfDate(id: number, place: number): boolean {
    if (place >= this.#moment.end || this.#problems.hasLost) return false;
    return place < this.#log.tally(id).clearedAt || this.#log.isAborted(place);
  }

  /** Slots of the same hash before this one must be other keys'. */
  #rivalFault(slot: number): string | undefined {
    const rivals = this.#shard.rivals(slot);
    if (rivals.length === 0) return undefined;
    const { lookup } = this.#core;
    lookup.loadAt(this.#moment.base + this.#placeOf(slot));
    const key = lookup.keyCopy();
    for (const rival of rivals) {
      const place = this.#placeOf(rival);
      if (place === 0) continue;
      lookup.loadAt(this.#moment.base + place);
      if (Buffer.compare(lookup.keyCopy(), key) === 0)
        return `the index names this key twice, at byte ${this.#placeOf(rival)} as well`;
    }
    return undefined;
  }

  #compareCounts(known: SpaceMoment): void {
    if (!this.#moment.isExact || this.#problems.hasLost || !this.#isReadable) return;
    const { space, createdAt, records, bytes } = known;
    const name = space.id === 0 ? "the default key space" : `the namespace ${JSON.stringify(space.name)}`;
    const tally = this.#log.tally(space.id);
    if (canFollowBack(this.#core, this.#moment) && tally.records !== this.#records) {
      const text = `the log holds ${tally.records} records of ${name}, its index names ${this.#records}`;
      this.#problems.add(createdAt, text);
    }
    if (tally.records !== records || tally.bytes !== bytes) {
      const held = `${tally.records} records and ${tally.bytes} bytes`;
      this.#problems.add(createdAt, `the log holds ${held} of ${name}, counted are ${records} and ${bytes}`);
    }
  }
}
