/**
 * The memory that a replay and the helpers that open sealed frames ahead of it share: a few words, and slots, each of
 * which holds a piece of the log.
 *
 *     words    over: not 0 when helpers are to end       news: raised with each piece and at the end
 *     slot     state, bytes, how many frames are opened | lsn | key | associated data | where each opened frame begins |
 *              the piece itself
 *
 * Invariants
 * 1. A slot belongs to the replay while it is free, filled or kept; to who has set it from filled to taken until that sets
 *    it to opened; and then to the replay again.
 * 2. Keys are zeroed when the replay is over, whoever else still runs: with a key of zeros nothing opens. A helper that is at a
 *    piece has its key until it looks whether all is over, behind each frame.
 */

import { assert } from "../../errors.ts";
import { NONCE_BYTES, TAG_BYTES } from "../../crypto/aead.ts";
import {
  ASSOCIATED_CLEAR_AT,
  ASSOCIATED_LSN_AT,
  COUNTER_BYTES,
  SEAL_BYTES,
  type FrameSealer,
} from "../../crypto/frame-sealer.ts";
import { KEY_BYTES } from "../../crypto/secret.ts";
import { addressOf } from "../../ffi/memory.ts";
import type { Address } from "../../ffi/system.ts";
import { FRAME_HEADER_BYTES, KIND_MASK, KIND_SEALED, WORD_SHAPE, WORD_VALUE_BYTES } from "../../log/frame.ts";
import type { AheadLibrary, AheadOrders } from "./open-ahead-script.ts";
import { CLEAR_AT, CLEAR_BYTES } from "./sealed-encoder.ts";

/** A piece of the log: some 1200 short records, or one long one; a little more than a millisecond of opening. */
export const PIECE_BYTES = 256 * 1024;
/** So many pieces are read ahead: a helper that is woken late still finds some. */
const SLOTS = 8;

/** A replay offers a piece each millisecond or two. */
const IDLE_MS_MAX = 10_000;

// What a slot's state says.
const SLOT_FREE = 0;
/** It holds a piece that nobody has taken. */
const SLOT_FILLED = 1;
/** A helper is at it. */
const SLOT_TAKEN = 2;
/** A helper was at it. */
const SLOT_OPENED = 3;
/** The replay opens its frames by itself. */
const SLOT_KEPT = 4;

// Words of the block.
const WORD_OVER = 0;
const WORD_NEWS = 1;
const SLOTS_AT = 64;

// Words of a slot.
const SLOT_STATE = 0;
const SLOT_BYTES = 1;
const SLOT_COUNT = 2;
// Bytes of a slot.
const LSN_AT = 16;
const KEY_AT = 24;
const ASSOCIATED_AT = KEY_AT + KEY_BYTES;
const ASSOCIATED_BYTES = ASSOCIATED_CLEAR_AT + CLEAR_BYTES;
const STARTS_AT = 128;
assert(ASSOCIATED_AT + ASSOCIATED_BYTES <= STARTS_AT, "the parts of a slot lie one behind the other");
// Frames begin at multiples of eight, so all of this is copied by words.
assert((ASSOCIATED_AT + ASSOCIATED_LSN_AT) % 4 === 0 && (ASSOCIATED_AT + ASSOCIATED_CLEAR_AT) % 4 === 0, "words");
assert(COUNTER_BYTES === 4 && CLEAR_AT % 4 === 0 && CLEAR_BYTES % 4 === 0 && NONCE_BYTES % 4 === 0, "words");
/** A frame of nothing but its seal is the shortest. */
const STARTS_MAX = Math.ceil(PIECE_BYTES / (FRAME_HEADER_BYTES + SEAL_BYTES));
const DATA_AT = STARTS_AT + Math.ceil(STARTS_MAX / 2) * 8;
const SLOT_WHOLE_BYTES = DATA_AT + PIECE_BYTES;
const SCRATCH_AT = SLOTS_AT + SLOTS * SLOT_WHOLE_BYTES;

/** Where everything is in the block, for who has no constants of ours; all in bytes but what is called a word. */
const LAYOUT = {
  wordOver: WORD_OVER,
  wordNews: WORD_NEWS,
  slots: SLOTS,
  slotsAt: SLOTS_AT,
  slotBytes: SLOT_WHOLE_BYTES,
  wordState: SLOT_STATE,
  wordBytes: SLOT_BYTES,
  wordOpened: SLOT_COUNT,
  lsnAt: LSN_AT,
  keyAt: KEY_AT,
  keyBytes: KEY_BYTES,
  associatedAt: ASSOCIATED_AT,
  startsAt: STARTS_AT,
  dataAt: DATA_AT,
  pieceBytes: PIECE_BYTES,
  scratchAt: SCRATCH_AT,
  idleMsMax: IDLE_MS_MAX,
  filled: SLOT_FILLED,
  taken: SLOT_TAKEN,
  opened: SLOT_OPENED,
} as const;
export type AheadLayout = typeof LAYOUT;

/** The same of a sealed frame and its associated data. */
const FRAME_LAYOUT = {
  headerBytes: FRAME_HEADER_BYTES,
  wordShape: WORD_SHAPE,
  wordLength: WORD_VALUE_BYTES,
  kindMask: KIND_MASK,
  kindSealed: KIND_SEALED,
  clearAt: CLEAR_AT,
  clearBytes: CLEAR_BYTES,
  counterBytes: COUNTER_BYTES,
  tagBytes: TAG_BYTES,
  nonceBytes: NONCE_BYTES,
  associatedBytes: ASSOCIATED_BYTES,
  associatedLsnAt: ASSOCIATED_LSN_AT,
  associatedClearAt: ASSOCIATED_CLEAR_AT,
} as const;
export type FrameLayout = typeof FRAME_LAYOUT;

/** One slot, as the replay sees it. */
export class Slot {
  /** The piece, and all of the slot's room for one. */
  readonly room: Uint8Array;
  /** Byte of the block at which the piece begins. */
  readonly dataAt: number;
  /** Where in the file it begins and ends; the same when there is none. */
  start = 0;
  end = 0;
  /** Whom it was shared for. */
  sealer: FrameSealer | undefined;
  readonly #block: AheadBlock;
  readonly #at: number;
  readonly #word: number;
  readonly #key: Uint8Array;
  readonly #associated: Uint8Array;

  constructor(block: AheadBlock, index: number) {
    this.#block = block;
    this.#at = SLOTS_AT + index * SLOT_WHOLE_BYTES;
    this.#word = this.#at / 4;
    this.dataAt = this.#at + DATA_AT;
    const part = (at: number, bytes: number): Uint8Array => block.u8.subarray(this.#at + at, this.#at + at + bytes);
    this.room = part(DATA_AT, PIECE_BYTES);
    this.#key = part(KEY_AT, KEY_BYTES);
    this.#associated = part(ASSOCIATED_AT, ASSOCIATED_BYTES);
  }

  /** Whether there is a piece in it, or a helper is at one. */
  get isInUse(): boolean {
    return Atomics.load(this.#block.i32, this.#word + SLOT_STATE) !== SLOT_FREE;
  }

  /** Offers the piece that was read into its room, of whole frames. */
  offer(piece: { readonly start: number; readonly bytes: number }, sealer: FrameSealer): void {
    const { i32, f64 } = this.#block;
    this.start = piece.start;
    this.end = piece.start + piece.bytes;
    this.sealer = sealer;
    sealer.share(KIND_SEALED, { key: this.#key, associatedData: this.#associated });
    f64[(this.#at + LSN_AT) / 8] = piece.start;
    i32[this.#word + SLOT_BYTES] = piece.bytes;
    i32[this.#word + SLOT_COUNT] = 0;
    Atomics.store(i32, this.#word + SLOT_STATE, SLOT_FILLED);
    this.#block.tell();
  }

  /** The replay has come to it: whether a helper has opened it, or is at it; else nobody will. */
  arrive(): "opened" | "taken" | "kept" {
    const { i32 } = this.#block;
    switch (Atomics.compareExchange(i32, this.#word + SLOT_STATE, SLOT_FILLED, SLOT_KEPT)) {
      case SLOT_OPENED:
        return "opened";
      case SLOT_TAKEN:
        return "taken";
      default:
        return "kept";
    }
  }

  /** Waits until the helper that is at it has done; false when that takes longer. */
  wait(ms: number): boolean {
    const { i32 } = this.#block;
    const state = this.#word + SLOT_STATE;
    // A helper that was late may wake us for a piece that is no more.
    while (Atomics.load(i32, state) === SLOT_TAKEN)
      if (Atomics.wait(i32, state, SLOT_TAKEN, ms) === "timed-out") return false;
    return true;
  }

  /** How many frames a helper has opened. */
  get count(): number {
    return Math.min(this.#block.u32[this.#word + SLOT_COUNT]!, STARTS_MAX);
  }

  /** Where in the piece the frame begins that was opened as the so-manieth. */
  startOf(index: number): number {
    return this.#block.u32[(this.#at + STARTS_AT) / 4 + index]!;
  }

  /** The piece is not needed; a slot that a helper is at stays in use until that has done. */
  giveBack(): void {
    const { i32 } = this.#block;
    const state = this.#word + SLOT_STATE;
    if (Atomics.compareExchange(i32, state, SLOT_FILLED, SLOT_FREE) === SLOT_TAKEN) return;
    Atomics.store(i32, state, SLOT_FREE);
    this.start = this.end = 0;
    this.sealer = undefined;
  }
}

export class AheadBlock {
  readonly buffer: SharedArrayBuffer;
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly f64: Float64Array;
  /** Good as long as this object is held. */
  readonly address: Address;
  readonly slots: readonly Slot[];

  constructor(helpers: number) {
    this.buffer = new SharedArrayBuffer(SCRATCH_AT + helpers * PIECE_BYTES);
    this.u8 = new Uint8Array(this.buffer);
    this.i32 = new Int32Array(this.buffer);
    this.u32 = new Uint32Array(this.buffer);
    this.f64 = new Float64Array(this.buffer);
    this.address = addressOf(this.u8);
    this.slots = Array.from({ length: SLOTS }, (_, index) => new Slot(this, index));
  }

  /** `library` has the cipher; undefined: the runtime has it. */
  orders(helper: number, library: AheadLibrary | undefined): AheadOrders {
    return { buffer: this.buffer, layout: LAYOUT, frame: FRAME_LAYOUT, helper, library };
  }

  /** Wakes helpers. */
  tell(): void {
    Atomics.add(this.i32, WORD_NEWS, 1);
    Atomics.notify(this.i32, WORD_NEWS);
  }

  /** Lets the helpers end, and leaves nothing of keys and records but what one of them is writing at this moment. */
  end(): void {
    Atomics.store(this.i32, WORD_OVER, 1);
    this.tell();
    this.u8.fill(0, SLOTS_AT);
  }
}
