import { describe, expect, test } from "bun:test";
import { gcm } from "@noble/ciphers/aes.js";
import { CLEAR_BYTES_MAX, counterOf, FrameSealer, SEAL_BYTES } from "../../src/crypto/frame-sealer.ts";
import { bytesOf, CIPHERS, flipped, fromHex, keyOf, opened } from "./fixtures.ts";
import { chachaPolyTwin } from "./chacha-twin.ts";

describe.each(CIPHERS)("%s:", (cipher) => {
  const clear = bytesOf("clear", 16);
  const base = { cipher, fileId: bytesOf("file id", 16), generation: 2 ** 33 + 7, clearBytes: 16 };
  const sealerOf = (change: Partial<typeof base> = {}, key = "session"): FrameSealer => {
    const sealer = new FrameSealer({ ...base, key: keyOf(key), ...change });
    sealer.clear.set(clear.subarray(0, sealer.clear.length));
    return sealer;
  };
  const sealer = sealerOf();
  const body = bytesOf("body", 45);
  const place = { lsn: 2 ** 40 + 16, kind: 9 };
  const sealed = new Uint8Array(body.length + SEAL_BYTES);
  sealer.sealInto(body, { ...place, counter: 0xfedcba98 }, { into: sealed, at: 0 });

  test("a sealed body is byte for byte what the diagrams say, by another implementation", () => {
    const associatedData = fromHex(
      `${base.fileId.toHex()} 0700000002000000 1000000000010000 09 00 1000 ${clear.toHex()}`,
    );
    const nonce = fromHex("0000000000000000 fedcba98");
    const key = keyOf("session").bytes;
    const twin =
      cipher === "aes-256-gcm"
        ? gcm(key, nonce, associatedData).encrypt(body)
        : chachaPolyTwin(key, { nonce, associatedData, plaintext: body });
    expect(sealed.toHex()).toBe(`fedcba98${twin.toHex()}`);
    expect(counterOf(sealed, 0)).toBe(0xfedcba98);
  });
  test("opens in its place", () => expect(opened(sealer, sealed, place)?.toHex()).toBe(body.toHex()));
  test("does not open with any bit turned over, its counter included", () => {
    for (let bit = 0; bit < sealed.length * 8; bit++)
      expect(opened(sealer, flipped(sealed, bit), place)).toBeUndefined();
  });
  test("does not open at another position, as another kind, in another file, generation or session", () => {
    for (const lsn of [0, place.lsn - 8, place.lsn + 8, place.lsn % 2 ** 32]) {
      expect(opened(sealer, sealed, { ...place, lsn })).toBeUndefined();
    }
    for (let kind = 0; kind < 256; kind++) {
      expect(opened(sealer, sealed, { ...place, kind }) !== undefined).toBe(kind === place.kind);
    }
    expect(opened(sealerOf({ fileId: bytesOf("other", 16) }), sealed, place)).toBeUndefined();
    expect(opened(sealerOf({ generation: 7 }), sealed, place)).toBeUndefined();
    expect(opened(sealerOf({}, "other session"), sealed, place)).toBeUndefined();
  });
  test("does not open with any clear bit changed, nor with fewer clear bytes", () => {
    const other = sealerOf();
    for (let bit = 0; bit < 128; bit++) {
      other.clear.set(flipped(clear, bit));
      expect(opened(other, sealed, place)).toBeUndefined();
    }
    expect(opened(sealerOf({ clearBytes: 15 }), sealed, place)).toBeUndefined();
    expect(opened(sealerOf({ clearBytes: 0 }), sealed, place)).toBeUndefined();
  });
  test("seals an empty body, at the end of a buffer, and nothing beside it", () => {
    const into = new Uint8Array(30).fill(0xee);
    sealer.sealInto(new Uint8Array(0), { ...place, counter: 1 }, { into, at: 10 });
    expect(into.subarray(0, 10).every((byte) => byte === 0xee)).toBe(true);
    expect(opened(sealer, into.subarray(10), place)).toHaveLength(0);
  });
  test("opens from the middle of a buffer, and not one byte beside", () => {
    const source = new Uint8Array(sealed.length + 20).fill(0xee);
    source.set(sealed, 9);
    for (let at = 0; at < 20; at++) {
      const found = opened(sealer, source, place, { at, bytes: sealed.length });
      expect(found?.toHex()).toBe(at === 9 ? body.toHex() : undefined);
    }
    expect(opened(sealer, source, place, { at: 9, bytes: sealed.length - 1 })).toBeUndefined();
    expect(opened(sealer, source, place, { at: 9, bytes: sealed.length + 1 })).toBeUndefined();
    expect(() => opened(sealer, source, place, { at: 9, bytes: 200 })).toThrow("inside");
  });
  test("refuses what is shorter than a seal", () => {
    for (let bytes = 0; bytes < SEAL_BYTES; bytes++)
      expect(opened(sealer, sealed.slice(0, bytes), place)).toBeUndefined();
  });
  test("refuses a counter, kind or count of clear bytes out of bounds", () => {
    const into = new Uint8Array(100);
    for (const counter of [2 ** 32, -1]) {
      expect(() => sealer.sealInto(body, { ...place, counter }, { into, at: 0 })).toThrow("counter");
    }
    expect(() => opened(sealer, sealed, { ...place, kind: 256 })).toThrow("kind");
    expect(() => sealerOf({ clearBytes: CLEAR_BYTES_MAX + 1 })).toThrow("clear");
  });
  test("wiped, it neither seals nor opens, and its key is zeros", () => {
    const key = keyOf("session");
    const { bytes } = key;
    const dead = new FrameSealer({ ...base, key });
    dead.wipe();
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    expect(() => opened(dead, sealed, place)).toThrow("wiped");
  });
  test("no two seals of one body share a nonce or a ciphertext", () => {
    const outputs = new Set<string>();
    for (let counter = 0; counter < 500; counter++) {
      const into = new Uint8Array(sealed.length);
      sealer.sealInto(body, { ...place, counter }, { into, at: 0 });
      outputs.add(into.subarray(4).toHex());
    }
    expect(outputs.size).toBe(500);
  });
});
