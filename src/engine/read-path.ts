/**
 * The read path. No lock, no allocation but what is returned.
 *
 * `getMany` overlaps the memory's latency over its batch: it hashes all keys, then touches all index buckets,
 * then all frames, so that the misses of one stage run side by side, and only then reads the values.
 */

import { ioError } from "../ffi/io-error.ts";
import { FRAME_HEADER_BYTES, SHAPE_EXPIRY, extensionBytes } from "../log/frame.ts";
import { ZERO_COPY_BYTES_MIN } from "../limits.ts";
import { isTombstone } from "../keydir/keydir.ts";
import { verifyFound } from "./body-check.ts";
import type { Bytes } from "./contract.ts";
import type { Core } from "./core.ts";
import type { SpaceState, Spaces } from "./spaces.ts";

export class ReadPath {
  readonly #core: Core;
  readonly #spaces: Spaces;

  constructor(core: Core, spaces: Spaces) {
    this.#core = core;
    this.#spaces = spaces;
  }

  /** Finds the live, unexpired record of a key as of now. */
  find(space: SpaceState, key: Bytes): boolean {
    const core = this.#core;
    core.enter();
    core.key.load(key);
    return this.findLoaded(space, core.present());
  }

  /** The same for the key that is loaded already, as of a position. */
  findLoaded(space: SpaceState, visible: number): boolean {
    const root = this.#spaces.rootAt(space, visible);
    if (root === 0) {
      this.#spaces.mustBeLive(space);
      return false;
    }
    return this.#findIn(root, visible);
  }

  #findIn(root: number, visible: number): boolean {
    const core = this.#core;
    const lookup = core.lookup;
    if (!lookup.findVisible(root, visible)) {
      if (core.verifyReads) this.#verifyMiss(root, visible);
      return false;
    }
    if ((lookup.shape & SHAPE_EXPIRY) !== 0 && lookup.expiresAtMs() <= core.now()) return false;
    if (core.verifyReads) verifyFound(core);
    return true;
  }

  /**
   * Who has the hash of a key that was not found has another key, or had this one before its bytes changed. Removals are
   * passed over: a key that is not there is none.
   */
  #verifyMiss(root: number, visible: number): void {
    const core = this.#core;
    const { keydir, key, lookup, log } = core;
    log.undisturbed(() => {
      if (!keydir.seek(root, key.hash)) return;
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

  getMany(space: SpaceState, keys: readonly Bytes[]): (Uint8Array | undefined)[] {
    const core = this.#core;
    core.enter();
    const { prefetch, verifyReads } = core;
    const values: (Uint8Array | undefined)[] = [];
    const visible = core.present();
    const root = this.#spaces.rootAt(space, visible);
    if (root === 0) {
      this.#spaces.mustBeLive(space);
      return Array.from({ length: keys.length });
    }
    const moment = { root, visible };
    for (let first = 0; first < keys.length;) {
      const count = prefetch.touchBuckets(root, keys, first);
      prefetch.touchFrames(visible);
      for (let index = 0; index < count; index++) {
        const value = verifyReads ? undefined : prefetch.answer(index);
        values.push(value ?? this.#getTouched(index, moment));
      }
      first += count;
    }
    return values;
  }

  /** The value of a key of the group at hand. */
  #getTouched(index: number, moment: { readonly root: number; readonly visible: number }): Uint8Array | undefined {
    this.#core.prefetch.load(index);
    return this.#findIn(moment.root, moment.visible) ? this.#core.lookup.value() : undefined;
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
