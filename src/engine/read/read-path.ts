/**
 * The read path. No lock, no allocation but what is returned.
 *
 * Invariant: what is absent, or only there in a version that the reader may not see, counts only if no frames were taken
 * back since the root was read. A batch that fails may have grown the index before: who still reads a shard of before
 * finds there the places of frames that are gone, and `undo` sets the slots right in the shards of after. A version that
 * the reader may see is never taken back.
 *
 * `getMany` overlaps the memory's latency over its batch: it hashes all keys, then touches all index buckets,
 * then all frames, so that the misses of one stage run side by side, and only then reads the values.
 */

import { ioError } from "../../ffi/io-error.ts";
import { FRAME_HEADER_BYTES, KIND_PUT, SHAPE_EXPIRY, extensionBytes, kindOf } from "../../log/frame.ts";
import { ZERO_COPY_BYTES_MIN } from "../../limits.ts";
import { isTombstone } from "../../keydir/keydir.ts";
import { verifyFound } from "./body-check.ts";
import type { Bytes } from "../contract.ts";
import type { Core } from "../core.ts";
import type { SpaceState, Spaces } from "../spaces.ts";

export class ReadPath {
  readonly #core: Core;
  readonly #spaces: Spaces;
  /** The moment of the read at hand: the position that it sees, how often frames had been taken back, and its root. */
  #visible = 0;
  #retreats = 0;
  #root = 0;
  /** The clock at that moment, asked for when the first deadline is met; negative before. */
  #nowMs = -1;

  constructor(core: Core, spaces: Spaces) {
    this.#core = core;
    this.#spaces = spaces;
  }

  /** Finds the live, unexpired record of a key as of now. */
  find(space: SpaceState, key: Bytes): boolean {
    const core = this.#core;
    core.enter();
    core.key.load(key);
    this.#begin(space);
    return this.#findLoaded(space);
  }

  /** The moment is now. */
  #begin(space: SpaceState): void {
    const core = this.#core;
    this.#nowMs = -1;
    this.#visible = core.present();
    this.#retreats = core.isShared ? core.log.takeRetreats() : 0;
    this.#root = this.#spaces.rootAt(space, this.#visible);
  }

  /** Finds the live, unexpired record of the key that is loaded as of the moment. */
  #findLoaded(space: SpaceState): boolean {
    const core = this.#core;
    const lookup = core.lookup;
    if (!this.#findVersion(space)) {
      if (core.verifyReads) this.#verifyMiss(space);
      return false;
    }
    // Before its deadline is believed.
    if (core.verifyReads) verifyFound(core);
    if ((lookup.shape & SHAPE_EXPIRY) === 0) return true;
    if (this.#nowMs < 0) this.#nowMs = core.now();
    return lookup.expiresAtMs() > this.#nowMs;
  }

  /** Finds the newest version that the moment shows, if that is a value. */
  #findVersion(space: SpaceState): boolean {
    const core = this.#core;
    const { lookup, isShared } = core;
    // There each candidate is opened, and what does not open is an error: it may be the place of what was taken back.
    if (isShared && core.vault !== undefined) return this.#findUndisturbed(space);
    const root = this.#root;
    if (root !== 0 && lookup.findNewest(root)) {
      if (lookup.lsn < this.#visible) return kindOf(lookup.shape) === KIND_PUT;
    } else if (!isShared || !core.log.hasRetreated(this.#retreats)) {
      if (root === 0) this.#spaces.mustBeLive(space);
      return false;
    }
    return this.#findUndisturbed(space);
  }

  #findUndisturbed(space: SpaceState): boolean {
    const { log, lookup } = this.#core;
    return log.undisturbed(() => {
      const root = this.#spaces.rootOf(space, this.#visible);
      if (root === 0) this.#spaces.mustBeLive(space);
      return root !== 0 && lookup.findNewest(root) && lookup.walkBack(this.#visible);
    });
  }

  /**
   * Who has the hash of a key that was not found has another key, or had this one before its bytes changed. Removals are
   * passed over: a key that is not there is none.
   */
  #verifyMiss(space: SpaceState): void {
    const core = this.#core;
    const { keydir, key, lookup, log } = core;
    const visible = this.#visible;
    log.undisturbed(() => {
      if (!keydir.seek(this.#spaces.rootOf(space, visible), key.hash)) return;
      while (keydir.next()) {
        const lsn = keydir.units * 8;
        const isLive = lsn !== 0 && lsn < visible && !isTombstone(keydir.high);
        if (!isLive || log.at(lsn) === 0 || log.limit < FRAME_HEADER_BYTES) continue;
        lookup.loadAt(lsn);
        verifyFound(core);
      }
    });
  }

  get(space: SpaceState, key: Bytes): Uint8Array | undefined {
    return this.find(space, key) ? this.#core.lookup.value() : undefined;
  }

  getText(space: SpaceState, key: Bytes): string | undefined {
    return this.find(space, key) ? this.#core.lookup.text() : undefined;
  }

  getMany(space: SpaceState, keys: readonly Bytes[]): (Uint8Array | undefined)[] {
    const core = this.#core;
    core.enter();
    const { prefetch, verifyReads } = core;
    const values: (Uint8Array | undefined)[] = [];
    this.#begin(space);
    // The index there is now may be of a clear, and of writes, behind the moment: the keys that it has not would be missing.
    if (core.isShared) this.#root = this.#spaces.rootOf(space, this.#visible);
    if (keys.length === 0) this.#spaces.mustBeLive(space);
    const isAnswered = this.#root !== 0 && !verifyReads;
    for (let first = 0; first < keys.length;) {
      const count = prefetch.touchBuckets(this.#root, keys, first);
      if (this.#root !== 0) prefetch.touchFrames(this.#visible);
      for (let index = 0; index < count; index++) {
        const value = isAnswered ? prefetch.answer(index) : undefined;
        values.push(value ?? this.#getTouched(space, index));
      }
      first += count;
    }
    return values;
  }

  /** The value of a key of the group at hand. */
  #getTouched(space: SpaceState, index: number): Uint8Array | undefined {
    this.#core.prefetch.load(index);
    return this.#findLoaded(space) ? this.#core.lookup.value() : undefined;
  }

  /**
   * A long value as a view of its own pages of the file; a short one as a copy, which is cheaper. A copy too where
   * a view would pin the whole file (Windows neither cuts nor replaces a file that is mapped).
   */
  getZeroCopy(space: SpaceState, key: Bytes): Uint8Array | undefined {
    if (!this.find(space, key)) return undefined;
    const core = this.#core;
    const lookup = core.lookup;
    const { file } = core;
    const isMapped = core.log.at(lookup.lsn) !== 0 && !core.log.isInRing;
    const { base } = core.log.fileOf(lookup.lsn);
    // A file that a compaction has replaced is gone soon.
    const inFile = isMapped && base === core.base;
    const isShort = lookup.valueBytes < ZERO_COPY_BYTES_MIN;
    // What is sealed has no value in the file.
    if (file === undefined || core.vault !== undefined) return lookup.value();
    if (!inFile || isShort || !core.system.canMapPastEnd) return lookup.value();
    const position = lookup.lsn - base + FRAME_HEADER_BYTES + (lookup.shape >>> 16) + extensionBytes(lookup.shape);
    const { handle } = file;
    if (core.base !== base) return lookup.value();
    const view = core.system.mapView(handle, { position, bytes: lookup.valueBytes });
    if (typeof view === "number") throw ioError(view, { syscall: "mmap", path: file.path });
    return view;
  }

  /** Deadline of a live record, 0 for none; undefined when absent or expired. */
  expiresAt(space: SpaceState, key: Bytes): number | undefined {
    return this.find(space, key) ? this.#core.lookup.expiresAtMs() : undefined;
  }
}
