/**
 * What an open does with the hint image: looks for it, fills the index from it, and judges the log by what it knows.
 *
 * Invariant: an image that is there is either used or removed before the log is written on, whatever was wrong with it. It
 * knows of namespace ids that a compacted log does not name any more: beside frames of an open that did not know them, it
 * would pass for an image of the log. Replay allows for that (`recovery.ts`), for a log that was copied without its image.
 */

import { dirname } from "node:path";
import { EmdbError } from "../../errors.ts";
import type { System } from "../../ffi/system.ts";
import { IMAGE_START } from "../threads/control.ts";
import type { Core, LogFile } from "../core.ts";
import type { LogIdentity } from "../hint/hint-format.ts";
import { loadHint, openHint, removeHint, type Hint } from "../hint/hint-reader.ts";
import type { ImageKeys } from "../hint/hint-seal.ts";
import { Ordering } from "../ordering/ordering.ts";
import { FIRST_LSN, type Replay, type ReplayFrom } from "./recovery.ts";
import { removeLeftOvers } from "../files/siblings.ts";
import { Spaces } from "../spaces.ts";

/** A log that is open, and its length. */
interface OpenLog {
  readonly file: LogFile;
  readonly identity: LogIdentity;
  /** Where it ended when the file got its name, by its header; 0 if that does not say. */
  readonly madeEnd: number;
  readonly bytes: number;
  /** It was made in the place of an empty file: an image beside it is of what that once held. */
  readonly wasEmptied: boolean;
  /** Of an encrypted log. */
  readonly keys: ImageKeys | undefined;
}

export class ImageAtOpen {
  readonly #system: System;
  readonly #path: string;
  readonly #fileId: Uint8Array;
  readonly #hint: Hint | undefined;
  readonly #madeEnd: number;
  readonly #known: KnownEnd;
  /** The index was filled from the image, the ordered one as well. */
  usedCheckpoint = false;
  isOrdered = false;

  private constructor(system: System, log: OpenLog) {
    this.#system = system;
    this.#path = log.file.path;
    this.#fileId = log.identity.fileId;
    this.#hint = openHint(system, log, log.keys);
    this.#madeEnd = log.madeEnd;
    this.#known = knownEnd(log, this.#hint);
  }

  static look(system: System, log: OpenLog): ImageAtOpen {
    return new ImageAtOpen(system, log);
  }

  /** The seed of the keys' hash that the image needs. */
  get seed(): Uint8Array | undefined {
    return this.#hint?.header.seed;
  }

  /**
   * Fills the index as far as the image reaches, and says where replay begins. With `wantsOrder` the ordered one as
   * well, if it is in the image: replay then keeps it in step.
   */
  load(core: Core, wantsOrder: boolean): { readonly spaces: Spaces; readonly from: ReplayFrom } {
    const hint = this.#hint;
    const durable = hint?.kinship === "same" ? hint.header.end : 0;
    const newest = hint?.sealed?.newest;
    if (newest !== undefined && newest.session.lsn !== 0 && hint?.isUsable === true)
      core.vault?.meet(newest.session, newest.prev);
    const filled = new Spaces(core);
    if (wantsOrder && hint?.header.isOrdered === true) core.ordering = new Ordering(core);
    const gates = hint?.isUsable === true ? loadHint(core, filled, hint) : undefined;
    if (hint === undefined || gates === undefined) {
      core.vault?.forget();
      // What a bad image has left in `filled` is forgotten with it.
      core.ordering = undefined;
      return { spaces: new Spaces(core), from: { lsn: FIRST_LSN, gates: undefined, durable } };
    }
    this.usedCheckpoint = true;
    this.isOrdered = core.ordering !== undefined;
    // An image that lacks what is wanted is not up to date: the next close makes another.
    if (this.isOrdered === wantsOrder) core.control.numbers[IMAGE_START] = hint.header.start;
    return { spaces: filled, from: { lsn: hint.header.start, gates, durable } };
  }

  /**
   * How much shorter the log is than it is known to have been: to the image, which an open makes anew and which is newer than
   * the header therefore, unless it is of a log that went another way; else to the header.
   * @throws {EmdbError} EMDB_CORRUPTED when the rest is not missing but spoilt.
   */
  missingBytes(replay: Replay): number {
    const known = this.#known;
    const missing = Math.max(0, known.end - replay.end);
    if (known.isCut || missing === 0 || replay.tornBytes === 0) return missing;
    throw new EmdbError(
      "EMDB_CORRUPTED",
      `${JSON.stringify(this.#path)}: the log ends at byte ${replay.end}, yet ${known.by} knows that it was durable up to byte ` +
        `${known.end}; nothing has been changed. Emdb.salvage copies what is sound into a new file, and tells what it could not use`,
      { path: this.#path, offset: replay.end },
    );
  }

  /**
   * Whether the header goes on to know a longer log, whatever is written to this one: a crash would leave what looks spoilt then,
   * and what is missing would be told again. An image of the log as it is now is asked first.
   */
  isWanted(replay: Replay): boolean {
    return !this.usedCheckpoint && this.#madeEnd > replay.end;
  }

  /**
   * Removes what must not be met, or is of no use, from now on. Before the first write; under the lock.
   * @throws {EmdbError} EMDB_IO when the image cannot be removed
   */
  tidy(): void {
    // Siblings of dead processes. One that cannot be removed now is in nobody's way before it is made again.
    removeLeftOvers(this.#system, { path: this.#path, fileId: this.#fileId });
    if (!this.usedCheckpoint) removeHint(this.#system, this.#path, dirname(this.#path));
  }

  [Symbol.dispose](): void {
    if (this.#hint === undefined) return;
    this.#system.close(this.#hint.handle);
    this.#hint.sealed?.seal.wipe();
  }
}

/** Where the log ended once, durable, who says so, and whether the file itself is shorter. */
interface KnownEnd {
  readonly end: number;
  readonly by: string;
  readonly isCut: boolean;
}

function knownEnd({ madeEnd, bytes }: OpenLog, hint: Hint | undefined): KnownEnd {
  const goneAnotherWay = hint?.kinship === "other" && hint.header.end < madeEnd;
  if (hint === undefined || goneAnotherWay) return { end: madeEnd, by: "the header", isCut: bytes < madeEnd };
  // If the log is the same, replay itself has held its end against that.
  return { end: hint.header.end, by: "the checkpoint", isCut: hint.kinship === "short" };
}
