/**
 * Opening sealed frames ahead of a replay, in helper threads: what an open of an encrypted log takes is mostly the cipher,
 * which is called for each record, and that a thread of its own can do as well.
 *
 * The replay reads pieces of the log ahead into shared slots (`ahead-pieces.ts`). Helpers (`open-ahead-script.ts`) take the
 * furthest of them, and write what they open over it; of those that nobody has taken when the replay arrives it opens the
 * frames itself. So it is never behind a helper that starts late, is slow or dies: what helpers do is a gain, and never
 * waited for but while one is at the very piece that is needed.
 *
 * Invariants
 * 1. What a helper has opened is taken only for a frame that begins where that one began, and whose header, counter and
 *    tag are the same: then so is what was sealed. Which bytes the replay judges are those that it read by itself.
 * 2. A piece is bound to the sealer that it was shared for: behind another session the replay opens by itself.
 */

import { TAG_BYTES, type Span } from "../../crypto/aead.ts";
import type { Cipher } from "../../crypto/cipher.ts";
import { COUNTER_BYTES, SEAL_BYTES, type FrameSealer } from "../../crypto/frame-sealer.ts";
import { systemCipher } from "../../crypto/system-aead.ts";
import { libcryptoCalls } from "../../ffi/libcrypto.ts";
import { compare } from "../../ffi/memory.ts";
import { FRAME_HEADER_BYTES } from "../../log/frame.ts";
import type { ClosedFrame } from "../../log/scanner.ts";
import type { OpenedMemory } from "./frame-opening.ts";
import { AheadBlock, PIECE_BYTES, type Slot } from "./ahead-block.ts";
import { AheadPieces, type AheadSource } from "./ahead-pieces.ts";
import { OPEN_AHEAD_SCRIPT, type AheadLibrary, type AheadOrders } from "./open-ahead-script.ts";
import { hasRoomForWorkers, startFromText } from "../threads/text-worker.ts";

/** With less to read, a helper is still starting when all is done. */
export const AHEAD_BYTES_MIN = 8 * 1024 * 1024;
/** A helper that takes longer for a piece, a millisecond or two, has died, or others have its processor. */
const WAIT_MS_MAX = 20;
/** So often that is waited for; where others have the processor, nothing is gained. */
const WAITS_IN_VAIN_MAX = 5;

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
  if (helpers === undefined || helpers.count === 0 || source.end - source.from < AHEAD_BYTES_MIN) return undefined;
  const found = systemCipher(cipher);
  // Else the other cipher is that of a package, which a program from text cannot load.
  if (found === undefined && cipher !== "aes-256-gcm") return undefined;
  const library = found && { path: found.path, cipher: found.name, calls: libcryptoCalls };
  return new OpenAhead(source, helpers, library);
}

export class OpenAhead implements Disposable {
  /** Where the records are that `find` speaks of. */
  readonly memory: OpenedMemory;
  readonly #block: AheadBlock;
  readonly #pieces: AheadPieces;
  readonly #helpers: AheadHelpers;
  readonly #library: AheadLibrary | undefined;
  readonly #system: AheadSource["system"];
  #hasStarted = false;
  /** Where the replay is: outside of this, or with another sealer, it arrives anew. */
  #from = 0;
  #to = 0;
  #sealer: FrameSealer | undefined;
  /** The piece there, if a helper has opened it. */
  #slot: Slot | undefined;
  /** Which of its frames is the next. */
  #cursor = 0;
  #count = 0;
  readonly #span = { at: 0, bytes: 0 };
  #waitsInVain = 0;
  #hasLeft = false;

  constructor(source: AheadSource, helpers: AheadHelpers, library?: AheadLibrary) {
    this.#helpers = helpers;
    this.#library = library;
    this.#system = source.system;
    this.#block = new AheadBlock(helpers.count);
    this.#pieces = new AheadPieces(source, this.#block);
    this.memory = this.#block;
  }

  /** Where in `memory` the record of a frame is, if a helper has opened it; good until the next call. */
  find(frame: ClosedFrame, sealer: FrameSealer): Span | undefined {
    const { lsn, address, bodyBytes } = frame;
    if (this.#hasLeft) return undefined;
    if (lsn < this.#from || lsn >= this.#to || this.#sealer !== sealer) this.#arrive(lsn, sealer);
    const slot = this.#slot;
    if (slot === undefined || address === 0 || bodyBytes < SEAL_BYTES) return undefined;
    const offset = lsn - this.#from;
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
    if (this.#sealer !== sealer) this.#pieces.begin(lsn);
    else if (found === undefined) this.#pieces.reach(lsn);
    this.#sealer = sealer;
    this.#fill(lsn, sealer);
    this.#enter(found ?? find(), lsn);
  }

  /** Reads on until all slots are in use. */
  #fill(lsn: number, sealer: FrameSealer): void {
    for (const slot of this.#block.slots) {
      if (slot.isInUse) continue;
      const piece = this.#pieces.read(slot, lsn);
      if (piece === undefined) return;
      slot.offer(piece, sealer);
      if (piece.bytes > PIECE_BYTES / 2) this.#start();
    }
  }

  /** Starts the helpers once the log has shown that it has work for them. */
  #start(): void {
    if (this.#hasStarted) return;
    this.#hasStarted = true;
    const { count, start } = this.#helpers;
    if (!hasRoomForWorkers(this.#system, count)) return;
    for (let helper = 0; helper < count; helper++) start(this.#block.orders(helper, this.#library));
  }

  #enter(slot: Slot | undefined, lsn: number): void {
    this.#slot = undefined;
    this.#from = slot?.start ?? lsn;
    this.#to = slot?.end ?? Math.max(lsn + 1, this.#pieces.resumeAt);
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
