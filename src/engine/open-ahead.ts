/**
 * Opening sealed frames ahead of a replay, in helper threads: what an open of an encrypted log takes is mostly the cipher,
 * which is called for each record, and that a thread of its own can do as well.
 *
 * The replay reads pieces of the log ahead into shared slots. Helpers (`open-ahead-script.ts`) take the furthest of them,
 * and write what they open over it; of those that nobody has taken when the replay arrives it opens the frames itself. So
 * it is never behind a helper that starts late, is slow or dies: what helpers do is a gain, and never waited for but while
 * one is at the very piece that is needed.
 *
 * Invariants
 * 1. What a helper has opened is taken only for a frame that begins where that one began, and whose header, counter and
 *    tag are the same: then so is what was sealed. Which bytes the replay judges are those that it read by itself.
 * 2. A piece is bound to the sealer that it was shared for: behind another session the replay opens by itself.
 * 3. What cannot be read, or makes no sense, ends the reading ahead; the replay will come there and say what it is.
 */

import { TAG_BYTES, type Span } from "../crypto/aead.ts";
import type { Cipher } from "../crypto/cipher.ts";
import { COUNTER_BYTES, SEAL_BYTES, type FrameSealer } from "../crypto/frame-sealer.ts";
import { compare } from "../ffi/memory.ts";
import type { FileHandle, System } from "../ffi/system.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_SEALED,
  KIND_SESSION,
  WORD_SHAPE,
  WORD_VALUE_BYTES,
  frameBytes,
  kindOf,
} from "../log/frame.ts";
import type { ClosedFrame } from "../log/scanner.ts";
import type { OpenedMemory } from "./frame-opening.ts";
import { AheadBlock, PIECE_BYTES, type Slot } from "./ahead-block.ts";
import { OPEN_AHEAD_SCRIPT, type AheadOrders } from "./open-ahead-script.ts";
import { startFromText } from "./text-worker.ts";

/** With less to read, a helper is still starting when all is done. */
export const AHEAD_BYTES_MIN = 8 * 1024 * 1024;
/** A helper that takes longer for a piece, a millisecond or two, has died, or others have its processor. */
const WAIT_MS_MAX = 20;
/** So often that is waited for; where others have the processor, nothing is gained. */
const WAITS_IN_VAIN_MAX = 5;

/** What is read ahead: a part of a log's file. */
export interface AheadSource {
  readonly system: Pick<System, "read">;
  readonly file: FileHandle;
  readonly from: number;
  readonly end: number;
}

/** Starts a helper, which ends by itself when it is told to. */
export type StartHelper = (orders: AheadOrders) => void;

/** One in a Worker. */
export function startHelper(orders: AheadOrders): void {
  try {
    startFromText(OPEN_AHEAD_SCRIPT, { message: orders, onLost: () => undefined });
  } catch {
    // Some runtimes forbid code from strings: the replay opens everything by itself.
  }
}

/** The helpers of an open. */
export interface AheadHelpers {
  readonly count: number;
  readonly start: StartHelper;
}

/** Helpers for a replay, if it is long enough for them. */
export function openAhead(
  helpers: AheadHelpers | undefined,
  cipher: Cipher,
  source: AheadSource,
): OpenAhead | undefined {
  // The other cipher is that of a package, which a program from text cannot load.
  if (helpers === undefined || helpers.count === 0 || cipher !== "aes-256-gcm") return undefined;
  return source.end - source.from < AHEAD_BYTES_MIN ? undefined : new OpenAhead(source, helpers);
}

export class OpenAhead implements Disposable {
  /** Where the records are that `find` speaks of. */
  readonly memory: OpenedMemory;
  readonly #source: AheadSource;
  readonly #block: AheadBlock;
  /** Where the next piece begins that is read. */
  #next = 0;
  /** Nothing is read from here on. */
  #stop: number;
  /** Where the replay is: it asks again outside of this, or with another sealer. */
  #start = 0;
  #end = 0;
  #sealer: FrameSealer | undefined;
  /** The piece there, if a helper has opened it. */
  #slot: Slot | undefined;
  /** Which of its frames is the next. */
  #cursor = 0;
  #count = 0;
  readonly #span = { at: 0, bytes: 0 };
  #waitsInVain = 0;
  #hasLeft = false;

  constructor(source: AheadSource, { count, start }: AheadHelpers) {
    this.#source = source;
    this.#stop = source.end;
    this.#block = new AheadBlock(count);
    this.memory = this.#block;
    for (let helper = 0; helper < count; helper++) start(this.#block.orders(helper));
  }

  /** Where in `memory` the record of a frame is, if a helper has opened it; good until the next call. */
  find(frame: ClosedFrame, sealer: FrameSealer): Span | undefined {
    const { lsn, address, bodyBytes } = frame;
    if (this.#hasLeft) return undefined;
    if (lsn < this.#start || lsn >= this.#end || this.#sealer !== sealer) this.#arrive(lsn, sealer);
    const slot = this.#slot;
    if (slot === undefined || address === 0 || bodyBytes < SEAL_BYTES) return undefined;
    const offset = lsn - this.#start;
    while (this.#cursor < this.#count && slot.startOf(this.#cursor) < offset) this.#cursor += 1;
    if (this.#cursor >= this.#count || slot.startOf(this.#cursor) !== offset) return undefined;
    if (offset + FRAME_HEADER_BYTES + bodyBytes > PIECE_BYTES) return undefined;
    const opened = this.memory.address + slot.dataAt + offset;
    const tagAt = FRAME_HEADER_BYTES + bodyBytes - TAG_BYTES;
    if (compare(address, opened, FRAME_HEADER_BYTES + COUNTER_BYTES) !== 0) return undefined;
    if (compare(address + tagAt, opened + tagAt, TAG_BYTES) !== 0) return undefined;
    this.#span.at = slot.dataAt + offset + FRAME_HEADER_BYTES + COUNTER_BYTES;
    this.#span.bytes = bodyBytes - SEAL_BYTES;
    return this.#span;
  }

  /** Lets the helpers end. Idempotent. */
  [Symbol.dispose](): void {
    if (!this.#hasLeft) this.#block.end();
    this.#hasLeft = true;
    this.#slot = undefined;
  }

  /** The replay is at a position outside of the piece that it was in, or behind another session. */
  #arrive(lsn: number, sealer: FrameSealer): void {
    const { slots } = this.#block;
    const isNeeded = (slot: Slot): boolean => slot.end > lsn && slot.sealer === sealer;
    for (const slot of slots) if (!isNeeded(slot)) slot.giveBack();
    const find = (): Slot | undefined => slots.find((slot) => slot.start <= lsn && isNeeded(slot));
    const found = find();
    if (found === undefined && (this.#sealer !== sealer || this.#next < lsn)) this.#next = lsn;
    this.#sealer = sealer;
    for (const slot of slots) if (!slot.isInUse && !this.#fill(slot, sealer)) break;
    this.#enter(found ?? find(), lsn);
  }

  /** Reads the next piece; false when nothing comes of that now. */
  #fill(slot: Slot, sealer: FrameSealer): boolean {
    const { system, file } = this.#source;
    const start = this.#next;
    const wanted = Math.min(PIECE_BYTES, this.#stop - start);
    const read = wanted <= 0 ? 0 : system.read(file, slot.room, { position: start, bytes: wanted });
    const { bytes, next } = this.#wholeFrames(slot, read);
    // At the end, at what is no frame, and at what cannot be read.
    if (next === 0) this.#stop = start;
    this.#next = start + next;
    if (bytes > 0) slot.offer({ start, bytes }, sealer);
    return bytes > 0;
  }

  /** How many bytes of a room whole frames take, as their lengths say, and how far on the next piece begins: 0 at the end. */
  #wholeFrames(slot: Slot, read: number): { readonly bytes: number; readonly next: number } {
    const { u32 } = this.#block;
    let bytes = 0;
    while (bytes + FRAME_HEADER_BYTES <= read) {
      const word = (slot.dataAt + bytes) / 4;
      const kind = kindOf(u32[word + WORD_SHAPE]!);
      if (kind !== KIND_SEALED && kind !== KIND_SESSION) break;
      const whole = frameBytes(u32[word + WORD_SHAPE]!, u32[word + WORD_VALUE_BYTES]!);
      // One that is too long for a piece is passed over.
      if (bytes === 0 && whole > PIECE_BYTES) return { bytes, next: whole };
      if (bytes + whole > read) break;
      bytes += whole;
    }
    return { bytes, next: bytes };
  }

  #enter(slot: Slot | undefined, lsn: number): void {
    this.#slot = undefined;
    this.#start = slot?.start ?? lsn;
    this.#end = slot?.end ?? lsn + 1;
    if (slot === undefined) return;
    const state = slot.arrive();
    if (state === "kept") return;
    if (state === "taken" && !slot.wait(WAIT_MS_MAX)) {
      this.#waitsInVain += 1;
      if (this.#waitsInVain === WAITS_IN_VAIN_MAX) this[Symbol.dispose]();
      return;
    }
    this.#slot = slot;
    this.#cursor = 0;
    this.#count = slot.count;
  }
}
