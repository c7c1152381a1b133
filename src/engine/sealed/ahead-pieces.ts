/**
 * Which pieces of an encrypted log are read ahead of its replay, so that helpers open the frames in them: whole frames of one
 * session, as their lengths say, one piece behind the other.
 *
 * What helpers gain is a call of the cipher for each frame, so pieces of few long frames are not offered, and the longer such
 * a stretch is, the more rarely it is looked at; of what cannot be read, or is no frame, the same holds. Behind the record of a session nothing is read before the replay is there:
 * it is sealed under a key that nobody knows yet. The first piece of a session is short, since many sessions are.
 *
 * Nothing that is read here is believed, or checked.
 */

import type { FileHandle, System } from "../../ffi/system.ts";
import { FRAME_HEADER_BYTES, KIND_SEALED, WORD_SHAPE, WORD_VALUE_BYTES, frameBytes, kindOf } from "../../log/frame.ts";
import { PIECE_BYTES, type AheadBlock, type Slot } from "./ahead-block.ts";

const FIRST_PIECE_BYTES = 16 * 1024;
/** Longer frames cost more for their bytes, on either thread, than for the call. */
const MEAN_FRAME_BYTES_MAX = 16 * 1024;
const PAUSE_BYTES_MAX = 1024 * 1024;

/** A part of a log's file. */
export interface AheadSource {
  readonly system: Pick<System, "read" | "open" | "close">;
  readonly file: FileHandle;
  readonly from: number;
  readonly end: number;
}

export class AheadPieces {
  readonly #source: AheadSource;
  readonly #block: AheadBlock;
  /** Where the next piece begins. */
  #next = 0;
  #wanted = FIRST_PIECE_BYTES;
  /** How long the last stretch was that was not looked at; 0 behind a piece. */
  #pauseBytes = 0;
  /** Nothing is to be read while the replay is before this position, in this session. */
  resumeAt = 0;

  constructor(source: AheadSource, block: AheadBlock) {
    this.#source = source;
    this.#block = block;
  }

  /** The replay is in another session. */
  begin(lsn: number): void {
    this.#next = lsn;
    this.resumeAt = 0;
  }

  /** The replay is at a place that no piece holds. */
  reach(lsn: number): void {
    this.#next = Math.max(this.#next, lsn);
  }

  /** Reads the next piece into a slot, for a replay that is at a position; undefined when there is none now. */
  read(slot: Slot, lsn: number): { readonly start: number; readonly bytes: number } | undefined {
    if (lsn < this.resumeAt) return undefined;
    const start = this.#next;
    const { bytes, isDense, isLast } = this.#lookAt(start, slot);
    if (!isDense) {
      this.#pauseBytes = Math.min(Math.max(this.#pauseBytes * 2, PIECE_BYTES), PAUSE_BYTES_MAX);
      this.resumeAt = start + this.#pauseBytes;
      this.#wanted = FIRST_PIECE_BYTES;
      return undefined;
    }
    this.#pauseBytes = 0;
    this.#wanted = isLast ? FIRST_PIECE_BYTES : Math.min(this.#wanted * 2, PIECE_BYTES);
    if (isLast) this.resumeAt = Infinity;
    this.#next = start + bytes;
    return { start, bytes };
  }

  /** How many bytes of whole frames a room can be filled with, whether those are many, and whether something else follows. */
  #lookAt(
    position: number,
    slot: Slot,
  ): { readonly bytes: number; readonly isDense: boolean; readonly isLast: boolean } {
    const { system, file, end } = this.#source;
    const wanted = Math.min(this.#wanted, end - position);
    const read = wanted <= 0 ? 0 : system.read(file, slot.room, { position, bytes: wanted });
    const { u32 } = this.#block;
    let frames = 0;
    let bytes = 0;
    // Of the frame that is not whole there, if one is.
    let cutBytes = 0;
    let isLast = false;
    while (bytes + FRAME_HEADER_BYTES <= read) {
      const word = (slot.dataAt + bytes) / 4;
      const shape = u32[word + WORD_SHAPE]!;
      isLast = kindOf(shape) !== KIND_SEALED;
      if (isLast) break;
      const whole = frameBytes(shape, u32[word + WORD_VALUE_BYTES]!);
      if (bytes + whole > read) {
        cutBytes = whole;
        break;
      }
      bytes += whole;
      frames += 1;
    }
    const seen = frames + (cutBytes > 0 ? 1 : 0);
    return { bytes, isDense: frames > 0 && bytes + cutBytes <= seen * MEAN_FRAME_BYTES_MAX, isLast };
  }
}
