/**
 * The program of a helper that opens sealed frames ahead of a replay (`open-ahead.ts`), as text: a string works from
 * source, bundled, compiled into an executable, and inside another Worker. It imports nothing but the runtime's own
 * `node:crypto`.
 *
 * Of the pieces that nobody has taken it takes the one that is furthest ahead: the replay takes the nearest, so that
 * neither waits for the other. It goes from frame to frame as their lengths say. What opens is written over the sealed
 * text in its place, and its offset noted; at anything else the piece ends for it.
 *
 * It touches nothing but the shared block, and nothing outside of the piece and its own scratch. Whoever reads what it
 * wrote takes it only for a frame whose header, counter and tag are those of the one at hand.
 */

import type { AheadLayout, FrameLayout } from "./ahead-block.ts";

/** What a helper is told first; plain data. */
export interface AheadOrders {
  readonly buffer: SharedArrayBuffer;
  readonly layout: AheadLayout;
  readonly frame: FrameLayout;
  /** Which of the helpers it is, from 0 on. */
  readonly helper: number;
}

export const OPEN_AHEAD_SCRIPT = `
import { createDecipheriv } from "node:crypto";

function makeOpener({ buffer, layout, frame, helper }, isOver) {
  const u8 = new Uint8Array(buffer);
  const u32 = new Uint32Array(buffer);
  const f64 = new Float64Array(buffer);
  const tag = new Uint8Array(frame.tagBytes);
  const nonce = new Uint8Array(frame.nonceBytes);
  const nonceWords = new Uint32Array(nonce.buffer);
  const counterWord = nonceWords.length - 1;
  const scratch = layout.scratchAt + helper * layout.pieceBytes;
  // Records of one length are many, and making a view is a twentieth of what opening one costs.
  let view = new Uint8Array(buffer, scratch, 0);

  const openOne = (at, sealedBytes, piece) => {
    const { key, associated } = piece;
    const bytes = sealedBytes - frame.counterBytes - frame.tagBytes;
    if (bytes < 0) return false;
    const sealedAt = at + frame.headerBytes;
    const textAt = sealedAt + frame.counterBytes;
    nonceWords[counterWord] = u32[sealedAt / 4];
    for (let index = 0; index < frame.tagBytes; index++) tag[index] = u8[textAt + bytes + index];
    const clear = (piece.associatedAt + frame.associatedClearAt) / 4;
    const from = (at + frame.clearAt) / 4;
    for (let word = 0; word < frame.clearBytes / 4; word++) u32[clear + word] = u32[from + word];
    const lsn = piece.lsn + at - piece.from;
    const place = (piece.associatedAt + frame.associatedLsnAt) / 4;
    u32[place] = lsn % 4294967296;
    u32[place + 1] = lsn / 4294967296;
    u8.copyWithin(scratch, textAt, textAt + bytes);
    if (view.length !== bytes) view = new Uint8Array(buffer, scratch, bytes);
    const decipher = createDecipheriv("aes-256-gcm", key, nonce);
    decipher.setAAD(associated);
    decipher.setAuthTag(tag);
    const plain = decipher.update(view);
    try {
      decipher.final();
    } catch {
      plain.fill(0);
      return false;
    }
    if (plain.length !== bytes) return false;
    u8.set(plain, textAt);
    return true;
  };

  return (slot) => {
    const head = layout.slotsAt + slot * layout.slotBytes;
    const from = head + layout.dataAt;
    const end = from + Math.min(u32[head / 4 + layout.wordBytes], layout.pieceBytes);
    const piece = {
      from,
      lsn: f64[(head + layout.lsnAt) / 8],
      key: new Uint8Array(buffer, head + layout.keyAt, layout.keyBytes),
      associatedAt: head + layout.associatedAt,
      associated: new Uint8Array(buffer, head + layout.associatedAt, frame.associatedBytes),
    };
    const starts = (head + layout.startsAt) / 4;
    let count = 0;
    for (let at = from; at + frame.headerBytes <= end && !isOver(); count++) {
      const kind = u32[at / 4 + frame.wordShape] & frame.kindMask;
      const bytes = u32[at / 4 + frame.wordLength];
      if (kind !== frame.kindSealed || bytes > end - at - frame.headerBytes || !openOne(at, bytes, piece)) break;
      u32[starts + count] = at - from;
      at += (frame.headerBytes + bytes + 7) & ~7;
    }
    u32[head / 4 + layout.wordOpened] = count;
  };
}

function take(words, places, layout) {
  let taken = -1;
  let furthest = -1;
  for (let slot = 0; slot < layout.slots; slot++) {
    const head = layout.slotsAt + slot * layout.slotBytes;
    if (Atomics.load(words, head / 4 + layout.wordState) !== layout.filled) continue;
    const lsn = places[(head + layout.lsnAt) / 8];
    if (lsn > furthest) [taken, furthest] = [slot, lsn];
  }
  if (taken < 0) return -1;
  const state = (layout.slotsAt + taken * layout.slotBytes) / 4 + layout.wordState;
  const isOurs = Atomics.compareExchange(words, state, layout.filled, layout.taken) === layout.filled;
  return isOurs ? taken : take(words, places, layout);
}

self.onmessage = (event) => {
  const orders = event.data;
  const { buffer, layout } = orders;
  const words = new Int32Array(buffer);
  const places = new Float64Array(buffer);
  const isOver = () => Atomics.load(words, layout.wordOver) !== 0;
  postMessage("ready");
  if (!isOver()) {
    const open = makeOpener(orders, isOver);
    while (!isOver()) {
      const seen = Atomics.load(words, layout.wordNews);
      const slot = isOver() ? -1 : take(words, places, layout);
      if (slot < 0) {
        // Who does not hear for so long has been left by a thread that died.
        if (!isOver() && Atomics.wait(words, layout.wordNews, seen, layout.idleMsMax) === "timed-out") break;
        continue;
      }
      open(slot);
      const state = (layout.slotsAt + slot * layout.slotBytes) / 4 + layout.wordState;
      Atomics.store(words, state, layout.opened);
      Atomics.notify(words, state);
    }
  }
  process.exit(0);
};
`;
