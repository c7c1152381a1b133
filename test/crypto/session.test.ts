import { describe, expect, test } from "bun:test";
import { createHmac, hkdfSync } from "node:crypto";
import { cipherNumber } from "../../src/crypto/cipher.ts";
import type { FrameSealer } from "../../src/crypto/frame-sealer.ts";
import { SessionTable } from "../../src/crypto/session-table.ts";
import {
  decodeSession,
  deriveImageKey,
  deriveSessionKey,
  encodeSession,
  makeSession,
  NO_SESSION_MAC,
  SESSION_RECORD_BYTES,
  type SessionPlace,
} from "../../src/crypto/session.ts";
import { bytesOf, CIPHERS, flipped, keyOf, opened } from "./fixtures.ts";

const dataKey = keyOf("data key");
const fileId = bytesOf("file id", 16);
const place: SessionPlace = { fileId, generation: 3, lsn: 4096, previousMac: NO_SESSION_MAC };
const salt = bytesOf("salt", 32);
const session = makeSession(dataKey, { ...place, salt });
const record = encodeSession(session);

test("a session record is its salt, then the HMAC that the first block names", () => {
  const prefixed = (hex: string) => [Buffer.from(Uint32Array.of(hex.length / 2).buffer), Buffer.from(hex, "hex")];
  const parts = [fileId.toHex(), "0300000000000000", "0010000000000000", "00".repeat(32), salt.toHex()].flatMap(
    prefixed,
  );
  const label = "emdb 1 session record\0";
  const macKey = Buffer.from(hkdfSync("sha256", dataKey.bytes, new Uint8Array(0), label, 32));
  const mac = createHmac("sha256", macKey)
    .update(Buffer.concat([Buffer.from(label), ...parts]))
    .digest("hex");
  expect(record.toHex()).toBe(salt.toHex() + mac);
});

describe("a session record", () => {
  test("is read back where it was written", () => expect(decodeSession(record, dataKey, place)).toEqual(session));
  test("is refused with any bit turned over, or of another length", () => {
    for (let bit = 0; bit < SESSION_RECORD_BYTES * 8; bit++) {
      expect(decodeSession(flipped(record, bit), dataKey, place)).toBeUndefined();
    }
    for (const bytes of [0, 32, 63]) expect(decodeSession(record.slice(0, bytes), dataKey, place)).toBeUndefined();
    expect(decodeSession(new Uint8Array(65), dataKey, place)).toBeUndefined();
  });
  test("is refused in another place, file, generation, behind another session, under another data key", () => {
    for (const change of [
      { lsn: 4104 },
      { generation: 4 },
      { fileId: bytesOf("x", 16) },
      { previousMac: session.mac },
    ]) {
      expect(decodeSession(record, dataKey, { ...place, ...change })).toBeUndefined();
    }
    expect(decodeSession(record, keyOf("other"), place)).toBeUndefined();
  });
});

test("a session's key differs with salt, file, generation, cipher, data key, and from an image's", () => {
  const base = { fileId, generation: 3, cipher: "aes-256-gcm", salt } as const;
  const keys = [
    deriveSessionKey(dataKey, base),
    deriveSessionKey(dataKey, { ...base, salt: bytesOf("other salt", 32) }),
    deriveSessionKey(dataKey, { ...base, fileId: bytesOf("other id", 16) }),
    deriveSessionKey(dataKey, { ...base, generation: 4 }),
    deriveSessionKey(dataKey, { ...base, cipher: "chacha20-poly1305" }),
    deriveSessionKey(keyOf("other"), base),
    deriveImageKey(dataKey, base),
  ];
  expect(new Set(keys.map((key) => key.bytes.toHex())).size).toBe(keys.length);
  expect(cipherNumber("aes-256-gcm")).toBe(1);
  expect(cipherNumber("chacha20-poly1305")).toBe(2);
});

describe.each(CIPHERS)("a table of sessions, %s,", (cipher) => {
  const options = { dataKey, fileId, generation: 3, cipher, clearBytes: 0 };
  const starts = [4096, 5000, 5008, 90_000, 2 ** 40];
  const table = (): SessionTable => {
    const made = new SessionTable(options);
    for (const lsn of starts) {
      const salted = { ...place, lsn, previousMac: made.lastMac, salt: bytesOf(`salt ${lsn}`, 32) };
      made.add({ lsn, ...makeSession(dataKey, salted) });
    }
    return made;
  };

  test("finds the session at or before each position, as a walk does", () => {
    const sessions = table();
    const sealers = starts.map((lsn) => sessions.sealerAt(lsn));
    expect(new Set(sealers).size).toBe(starts.length);
    expect(sessions.sealerAt(4095)).toBeUndefined();
    for (const lsn of starts.flatMap((start) => [start, start + 1, start + 7])) {
      expect(sessions.sealerAt(lsn)).toBe(sealers[starts.filter((start) => start <= lsn).length - 1]);
    }
  });
  test("opens in another thread's table what was sealed in this one's, and nothing under another session", () => {
    const writer = table();
    const reader = new SessionTable(options);
    for (const entry of writer.sessions) reader.add(entry);
    const body = bytesOf("body", 50);
    const sealed = new Uint8Array(70);
    writer.sealerAt(5004)!.sealInto(body, { lsn: 5004, kind: 1, counter: 9 }, { into: sealed, at: 0 });
    expect(opened(reader.sealerAt(5004)!, sealed, { lsn: 5004, kind: 1 })?.toHex()).toBe(body.toHex());
    for (const lsn of [4096, 5008, 90_000]) {
      expect(opened(reader.sealerAt(lsn)!, sealed, { lsn: 5004, kind: 1 })).toBeUndefined();
    }
  });
  test("refuses sessions out of order, and forgets all when wiped", () => {
    const sessions = table();
    expect(() => sessions.add({ lsn: 4096, ...session })).toThrow("order");
    const sealer = sessions.sealerAt(4096) as FrameSealer;
    sessions.wipe();
    expect(sessions.sealerAt(4096)).toBeUndefined();
    expect(() => opened(sealer, new Uint8Array(20), { lsn: 4096, kind: 1 })).toThrow("wiped");
  });
});
