/** An image of an encrypted log knows the newest session: where the log does not hold that, it is an image of another. */

import { expect, spyOn, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { SecretKey } from "../../src/crypto/secret.ts";
import type { PlacedSession } from "../../src/crypto/session-table.ts";
import { NO_SESSION_MAC, encodeSession, makeSession } from "../../src/crypto/session.ts";
import { LogFile } from "../../src/engine/core.ts";
import { WITNESS_BYTES_MAX, witnessBefore } from "../../src/engine/hint/hint-format.ts";
import { openHint, type Hint } from "../../src/engine/hint/hint-reader.ts";
import { HintSeal, NO_SESSION, SEALED_CHUNKS_AT, encodeSealedHeader } from "../../src/engine/hint/hint-seal.ts";
import { witnessChecks } from "../../src/engine/hint/hint-witness.ts";
import { pinned } from "../../src/ffi/memory.ts";
import type { System } from "../../src/ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { FrameEncoder } from "../../src/log/encoder.ts";
import { FRAME_HEADER_BYTES, KIND_SESSION, SESSION_BYTES, SESSION_TWIN_BYTES } from "../../src/log/frame.ts";
import { saltsOf } from "../../src/log/header.ts";
import { LOG_FILE, LOG_NUMBERS } from "../../src/log/log-words.ts";
import { Emdb } from "../../src/index.ts";
import { systemWith } from "../engine/verify-frames.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const IDENTITY = { fileId: new Uint8Array(16).fill(7), generation: 3 };
const [LOG, IMAGE] = [1001, 1002];
const words = { numbers: new Float64Array(LOG_NUMBERS), flags: new Int32Array(4) };
words.numbers[LOG_FILE] = LOG;
const file = new LogFile(words, "log");

/** A log of zeros in which one frame stands behind the header page, and the image beside it. */
function systemOf(frame: { readonly lsn: number; readonly bytes: Uint8Array }, image: Uint8Array): System {
  return systemWith({
    open: () => IMAGE,
    close: () => 0,
    size: (handle) => (handle === IMAGE ? image.length : Infinity),
    read(handle, into, { position, bytes }) {
      const [from, held] = handle === IMAGE ? [0, image] : [frame.lsn, frame.bytes];
      into.fill(0, 0, bytes);
      if (handle === LOG) into.fill(1, 0, Math.min(bytes, Math.max(0, HEADER_PAGE_BYTES - position)));
      for (let at = Math.max(from, position); at < Math.min(from + held.length, position + bytes); at++)
        into[at - position] = held[at - from]!;
      return bytes;
    },
  });
}

interface Place {
  readonly lsn: number;
  readonly prev: number;
  readonly hasSession?: boolean;
  /** Whether the other record of the session stands before it. */
  readonly hasTwin?: boolean;
}

/** What is thought of an image that knows a session at a position, beside a log that holds it, or what `change` makes of that record. */
function kinshipOf(
  { lsn, prev, hasSession = true, hasTwin = false }: Place,
  change: (frame: Uint8Array) => void = () => undefined,
): { readonly kinship: Hint["kinship"] | undefined; readonly frameBytes: number } {
  using dataKey = new SecretKey(new Uint8Array(32).fill(1));
  const keys = { cipher: "aes-256-gcm", dataKey } as const;
  const salt = new Uint8Array(32).fill(2);
  const sessionAt = (at: number): PlacedSession => ({
    lsn: at,
    ...makeSession(dataKey, { ...IDENTITY, lsn: at, previousMac: NO_SESSION_MAC, salt }),
  });
  const frameOf = (placed: PlacedSession): Uint8Array => {
    const encoder = new FrameEncoder(saltsOf(IDENTITY));
    encoder.kind = KIND_SESSION;
    encoder.prev = prev;
    encoder.durable = HEADER_PAGE_BYTES;
    encoder.loadValue(encodeSession(placed));
    const bytes = encoder.measure(0, placed.lsn);
    encoder.encode(pinned(0), 0, placed.lsn);
    return encoder.stage.u8.slice(0, bytes);
  };
  const session = sessionAt(lsn);
  const second = frameOf(session);
  const frameBytes = second.length;
  change(second);
  // As far before it as it is long itself.
  const first = hasTwin ? SESSION_TWIN_BYTES.map((back) => frameOf(sessionAt(lsn - back))) : [];
  const twin = first.find((bytes, index) => bytes.length === SESSION_TWIN_BYTES[index]) ?? new Uint8Array(0);
  const frame = { lsn: lsn - twin.length, bytes: Uint8Array.from([...twin, ...second]) };
  // The stretch by which the log is known otherwise stands behind the session.
  const end = lsn + frameBytes + WITNESS_BYTES_MAX;
  const image = new Uint8Array(SEALED_CHUNKS_AT);
  const system = systemOf(frame, image);
  const seal = HintSeal.fresh(keys, IDENTITY, system);
  const header = {
    identity: IDENTITY,
    seed: new Uint8Array(16),
    start: end,
    end,
    bytes: image.length,
    pages: 0,
    spaces: 1,
    chunks: 0,
    salt: 0,
    isOrdered: false,
    witness: witnessBefore(end),
    witnessChecks: witnessChecks(system, file, end),
  };
  image.set(encodeSealedHeader(seal, header, hasSession ? { session, prev } : NO_SESSION));
  const hint = openHint(system, { file, identity: IDENTITY, bytes: end, wasEmptied: false }, keys);
  hint?.sealed?.seal.wipe();
  seal.wipe();
  return { kinship: hint?.kinship, frameBytes };
}

const FIRST = HEADER_PAGE_BYTES;
const PLACES = [
  { name: "the first", lsn: FIRST, prev: 0, extensionBytes: 0 },
  { name: "one near the one before it", lsn: FIRST + 2 ** 35 - 8, prev: FIRST, extensionBytes: 0 },
  { name: "one 32 GiB behind the one before it", lsn: FIRST + 2 ** 35, prev: FIRST, extensionBytes: 8 },
] as const;

test.each(PLACES)("where the newest session is $name, the log that holds it is known", (place) => {
  const extension = FRAME_HEADER_BYTES + place.extensionBytes;
  expect(kinshipOf(place)).toEqual({ kinship: "same", frameBytes: extension + SESSION_BYTES });
  for (let at = 0; at < SESSION_BYTES; at++) {
    const flip = (frame: Uint8Array): void => void (frame[extension + at]! ^= 1);
    expect([at, kinshipOf(place, flip).kinship]).toEqual([at, "other"]);
  }
});

test.each([
  { name: "the first", lsn: FIRST + 88, prev: 0 },
  { name: "one whose second record is 32 GiB behind the one before it", lsn: FIRST + 2 ** 35, prev: FIRST },
  { name: "one whose first record is, too", lsn: FIRST + 2 ** 35 + 96, prev: FIRST },
])("where the second record of the newest session has rotted, $name, the log is known by the first", (place) => {
  const rot = (frame: Uint8Array): void => void frame.fill(9);
  expect(kinshipOf(place, rot).kinship).toBe("other");
  expect(kinshipOf({ ...place, hasTwin: true }, rot).kinship).toBe("same");
});

test("an image that knows no session is one of any log that ends as the image says", () => {
  const place = { lsn: FIRST, prev: 0, hasSession: false };
  expect(kinshipOf(place).kinship).toBe("same");
  expect(kinshipOf(place, (frame) => frame.fill(9)).kinship).toBe("same");
});

test("an open wipes the key of the image that it finds, be it used or not", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const options = { encryption: { key: new Uint8Array(32).fill(3) } };
  const wipe = spyOn(HintSeal.prototype, "wipe");
  try {
    for (const isUsed of [undefined, true, false]) {
      if (isUsed === false) {
        const image = readFileSync(`${path}.hint`);
        image[image.length - 1]! ^= 1;
        writeFileSync(`${path}.hint`, image);
      }
      wipe.mockClear();
      const db = Emdb.open(path, options);
      expect([db.recovery.usedCheckpoint, wipe.mock.calls.length]).toEqual([
        isUsed === true,
        isUsed === undefined ? 0 : 1,
      ]);
      db.insert("key", "value");
      db.closeSync();
    }
  } finally {
    wipe.mockRestore();
  }
});
