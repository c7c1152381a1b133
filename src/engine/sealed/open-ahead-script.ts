/**
 * The program of a helper that opens sealed frames ahead of a replay (`open-ahead.ts`), as text: a string works from
 * source, bundled, compiled into an executable, and inside another Worker. It imports nothing but the runtime's own modules: its
 * ciphers are those of the system's libcrypto, if the thread that starts it has one, or else the one of `node:crypto`.
 *
 * Of the pieces that nobody has taken it takes the one that is furthest ahead: the replay takes the nearest, so that
 * neither waits for the other. It goes from frame to frame as their lengths say. What opens is written over the sealed
 * text in its place, and its offset noted; at anything else the piece ends for it.
 *
 * It touches nothing but the shared block, and nothing outside of the piece and its own scratch. Whoever reads what it
 * wrote takes it only for a frame whose header, counter and tag are those of the one at hand.
 */

import type { LibcryptoName, libcryptoCalls } from "../../ffi/libcrypto.ts";
import type { AheadLayout, FrameLayout } from "./ahead-block.ts";

/** A library that has the cipher, for a thread that opens it by itself; plain data. */
export interface AheadLibrary {
  readonly path: string;
  readonly cipher: LibcryptoName;
  readonly calls: typeof libcryptoCalls;
}

/** What a helper is told first; plain data. */
export interface AheadOrders {
  readonly buffer: SharedArrayBuffer;
  readonly layout: AheadLayout;
  readonly frame: FrameLayout;
  /** Which of the helpers it is, from 0 on. */
  readonly helper: number;
  /** Undefined: AES-256-GCM of `node:crypto` is the cipher. */
  readonly library: AheadLibrary | undefined;
}

export const OPEN_AHEAD_SCRIPT = `
import { dlopen, ptr, toArrayBuffer } from "bun:ffi";

// What decrypts: each takes the key of a piece first, and then writes the text of a frame over its sealed text, if that is as it was sealed.

function runtimeCipher({ u8, scratch, frame }) {
  // Loading it takes some milliseconds.
  const { createDecipheriv } = process.getBuiltinModule("node:crypto");
  const tag = new Uint8Array(frame.tagBytes);
  // Records of one length are many, and making a view is a twentieth of what opening one costs.
  let view = new Uint8Array(u8.buffer, scratch, 0);
  let key;
  let associated;
  return {
    begin: (keyView, associatedView) => {
      key = keyView;
      associated = associatedView;
    },
    open: (nonce, textAt, bytes) => {
      for (let index = 0; index < frame.tagBytes; index++) tag[index] = u8[textAt + bytes + index];
      u8.copyWithin(scratch, textAt, textAt + bytes);
      if (view.length !== bytes) view = new Uint8Array(u8.buffer, scratch, bytes);
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
    },
    end: () => undefined,
  };
}

// The calls are those of src/ffi/libcrypto.ts; 17 sets the tag.
function libraryCipher({ u8, scratch, frame }, { path, cipher, calls }) {
  const evp = dlopen(path, calls).symbols;
  const method = evp.EVP_CIPHER_fetch(0, Buffer.from(cipher + "\\0"), 0);
  const context = method === null ? null : evp.EVP_CIPHER_CTX_new();
  if (context === null) throw new Error("no cipher");
  const base = ptr(u8);
  const written = new Int32Array(new ArrayBuffer(4096));
  const noNonce = new Uint8Array(frame.nonceBytes);
  let associatedAt = 0;
  let isSet = false;
  return {
    // Has the context freed when this thread ends, however it does.
    owner: toArrayBuffer(context, 0, 1, 1, Number(evp.EVP_CIPHER_CTX_free.ptr)),
    begin: (keyView, associatedView) => {
      associatedAt = base + associatedView.byteOffset;
      isSet = evp.EVP_CipherInit_ex(context, method, 0, base + keyView.byteOffset, noNonce, 0) === 1;
    },
    open: (nonce, textAt, bytes) => {
      const text = base + textAt;
      const isOpen =
        isSet &&
        evp.EVP_CipherInit_ex(context, 0, 0, 0, nonce, 0) === 1 &&
        evp.EVP_CipherUpdate(context, 0, written, associatedAt, frame.associatedBytes) === 1 &&
        evp.EVP_CIPHER_CTX_ctrl(context, 17, frame.tagBytes, text + bytes) === 1 &&
        (bytes === 0 || evp.EVP_CipherUpdate(context, base + scratch, written, text, bytes) === 1) &&
        evp.EVP_CipherFinal_ex(context, base + scratch, written) === 1;
      if (isOpen) u8.copyWithin(textAt, scratch, scratch + bytes);
      else u8.fill(0, scratch, scratch + bytes);
      return isOpen;
    },
    end: () => evp.EVP_CIPHER_CTX_reset(context),
  };
}

function cipherOf(memory, library) {
  if (library === undefined) return runtimeCipher(memory);
  try {
    return libraryCipher(memory, library);
  } catch {
    return library.cipher === "AES-256-GCM" ? runtimeCipher(memory) : undefined;
  }
}

function makeOpener({ buffer, layout, frame }, { u8, cipher }, isOver) {
  const u32 = new Uint32Array(buffer);
  const f64 = new Float64Array(buffer);
  const nonce = new Uint8Array(frame.nonceBytes);
  const nonceWords = new Uint32Array(nonce.buffer);
  const counterWord = nonceWords.length - 1;

  const openOne = (at, sealedBytes, piece) => {
    const bytes = sealedBytes - frame.counterBytes - frame.tagBytes;
    if (bytes < 0) return false;
    const sealedAt = at + frame.headerBytes;
    nonceWords[counterWord] = u32[sealedAt / 4];
    const clear = (piece.associatedAt + frame.associatedClearAt) / 4;
    const from = (at + frame.clearAt) / 4;
    for (let word = 0; word < frame.clearBytes / 4; word++) u32[clear + word] = u32[from + word];
    const lsn = piece.lsn + at - piece.from;
    const place = (piece.associatedAt + frame.associatedLsnAt) / 4;
    u32[place] = lsn % 4294967296;
    u32[place + 1] = lsn / 4294967296;
    return cipher.open(nonce, sealedAt + frame.counterBytes, bytes);
  };

  return (slot) => {
    const head = layout.slotsAt + slot * layout.slotBytes;
    const from = head + layout.dataAt;
    const end = from + Math.min(u32[head / 4 + layout.wordBytes], layout.pieceBytes);
    const piece = {
      from,
      lsn: f64[(head + layout.lsnAt) / 8],
      associatedAt: head + layout.associatedAt,
    };
    const key = new Uint8Array(buffer, head + layout.keyAt, layout.keyBytes);
    cipher.begin(key, new Uint8Array(buffer, piece.associatedAt, frame.associatedBytes));
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
  const { buffer, layout, frame, helper, library } = orders;
  const words = new Int32Array(buffer);
  const places = new Float64Array(buffer);
  const isOver = () => Atomics.load(words, layout.wordOver) !== 0;
  postMessage("ready");
  const u8 = new Uint8Array(buffer);
  const scratch = layout.scratchAt + helper * layout.pieceBytes;
  const cipher = isOver() ? undefined : cipherOf({ u8, scratch, frame }, library);
  if (cipher !== undefined) {
    const open = makeOpener(orders, { u8, cipher }, isOver);
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
    cipher.end();
  }
  process.exit(0);
};
`;
