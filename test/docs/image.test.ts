/** docs/format.md describes the checkpoint image: a reader that knows nothing but its tables finds every record. */

import { expect, test } from "bun:test";
import { hkdfSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gcm } from "@noble/ciphers/aes.js";
import { Emdb } from "emdb";
import { callerSecret } from "../../src/crypto/open-matrix.ts";
import { unlock } from "../../src/crypto/key-area.ts";
import { stretch } from "../../src/crypto/argon2.ts";
import { SEALED_CHUNKS_AT } from "../../src/engine/hint/hint-seal.ts";
import { CHUNK_FACTS_AT, CHUNK_HEAD_BYTES, HINT_HEADER_BYTES } from "../../src/engine/hint/hint-format.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { seedAt } from "./dump.ts";
import { rowsUnder } from "./markdown.ts";

const text = readFileSync(join(import.meta.dir, "../../docs/format.md"), "utf8");

/** Offsets by the first word of their field, out of one of the tables. */
function offsetsOf(title: string): ReadonlyMap<string, number> {
  return new Map(
    rowsUnder(text, title).map(([offset, , field = ""]) => [/^[\w' ]+/.exec(field)?.[0] ?? "", Number(offset)]),
  );
}

const header = offsetsOf("header offset");
const chunk = offsetsOf("chunk offset");

const at = (offsets: ReadonlyMap<string, number>, field: string): number => {
  const offset = offsets.get(field);
  if (offset === undefined) throw new Error(`the table has no field "${field}"`);
  return offset;
};

interface Chunk {
  readonly kind: number;
  readonly space: number;
  readonly body: Uint8Array;
  readonly isSound: boolean;
}

function chunksOf(image: Uint8Array): Chunk[] {
  const view = new DataView(image.buffer, image.byteOffset, image.length);
  const salt = view.getInt32(at(header, "salt of the chunks' checks"), true);
  const chunks: Chunk[] = [];
  for (let place = HINT_HEADER_BYTES; place < image.length;) {
    const bodyBytes = view.getUint32(place + at(chunk, "bytes of the body"), true);
    const bodyAt = place + at(chunk, "body");
    const end = bodyAt + Math.ceil(bodyBytes / 8) * 8;
    const check = Bun.hash.crc32(image.subarray(place + at(chunk, "kind"), end), seedAt(salt, place));
    chunks.push({
      kind: view.getUint32(place + at(chunk, "kind"), true),
      space: view.getUint32(place + at(chunk, "namespace id"), true),
      body: image.subarray(bodyAt, bodyAt + bodyBytes),
      isSound: check === view.getUint32(place + at(chunk, "check"), true),
    });
    place = end;
  }
  return chunks;
}

/** The positions of the live records in a shard's pages. */
function positionsIn(pages: Uint8Array): number[] {
  const view = new DataView(pages.buffer, pages.byteOffset, pages.length);
  const positions: number[] = [];
  for (let slot = 0; slot < pages.length; slot += 8) {
    const high = view.getUint32(slot + 4, true);
    const units = (high & 15) * 2 ** 32 + view.getUint32(slot, true);
    if (units !== 0 && (high & 16) === 0) positions.push(units * 8);
  }
  return positions;
}

test("the tables of the image leave no gap", () => {
  for (const [title, bytes] of [
    ["header offset", HINT_HEADER_BYTES],
    ["chunk offset", CHUNK_HEAD_BYTES],
  ] as const) {
    let end = 0;
    for (const [offset, length] of rowsUnder(text, title)) {
      expect(Number(offset)).toBe(end);
      end += Number(length);
    }
    expect(end).toBe(bytes);
  }
  expect(at(chunk, "facts")).toBe(CHUNK_FACTS_AT);
});

test("an image, read by the tables alone, is sound and names every live record and no other", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  await using db = Emdb.open(path);
  const users = db.namespace("users");
  for (let index = 0; index < 500; index++) (index % 2 === 0 ? db : users).insert(`key ${index}`, `value ${index}`);
  db.removeMany(Array.from({ length: 20 }, (_, index) => `key ${2 * index}`));
  const expiresAtMs = Date.UTC(2100, 0);
  for (let index = 101; index < 200; index += 2) users.insert(`key ${index}`, "for a while", { expiresAtMs });
  await db.checkpoint();
  const [log, image] = [readFileSync(path), readFileSync(`${path}.hint`)];
  const view = new DataView(image.buffer, image.byteOffset, image.length);
  const fields = at(header, "check");
  expect(image.subarray(0, 8).toString()).toBe("emdbhint");
  expect(view.getUint32(fields, true)).toBe(Bun.hash.crc32(image.subarray(0, fields), 0));
  expect(image.subarray(at(header, "file id of the log"), 40)).toEqual(log.subarray(16, 40));
  expect(Number(view.getBigUint64(at(header, "bytes of the image"), true))).toBe(image.length);
  expect(Number(view.getBigUint64(at(header, "end"), true))).toBe(db.stats().logicalSizeBytes);

  const chunks = chunksOf(image);
  expect(chunks).toHaveLength(view.getUint32(at(header, "chunks"), true));
  expect(chunks.every((one) => one.isSound)).toBe(true);
  expect(chunks.filter((one) => one.kind === 1).map((one) => new TextDecoder().decode(one.body))).toEqual([
    "",
    "users",
  ]);
  const keys = chunks
    .filter((one) => one.kind === 2)
    .flatMap((one) =>
      positionsIn(one.body).map((position) => {
        const keyBytes = log.readUInt16LE(position + 10);
        return `${one.space} ${log.subarray(position + 24, position + 24 + keyBytes).toString()}`;
      }),
    );
  const expected = Array.from({ length: 500 }, (_, index) => index).filter((index) => index % 2 === 1 || index >= 40);
  expect(keys.sort()).toEqual(expected.map((index) => `${index % 2} key ${index}`).sort());

  const deadlines = chunks
    .filter((one) => one.kind === 5 && one.space === 1)
    .flatMap(({ body }) =>
      Array.from({ length: body.length / 16 }, (_, index) => body.subarray(16 * index, 16 * index + 16)),
    )
    .map((entry) => {
      expect(new DataView(entry.buffer, entry.byteOffset).getFloat64(0, true)).toBe(expiresAtMs);
      const [position = 0] = positionsIn(entry.subarray(8));
      return log.subarray(position + 24, position + 24 + log.readUInt16LE(position + 10)).toString();
    });
  expect(deadlines.sort()).toEqual(Array.from({ length: 50 }, (_, index) => `key ${101 + 2 * index}`).sort());
});

/** The pieces of a sealed image, opened by what the document says. */
function openPieces(image: Buffer, log: Buffer, key: Uint8Array): Buffer[] {
  const secret = callerSecret({ key });
  const page = { sector: log.subarray(0, 512), keyArea: log.subarray(512, 4096), cipher: "aes-256-gcm" as const };
  const { dataKey } = unlock(page, secret, stretch);
  const u64 = (value: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return bytes;
  };
  const lengthOf = (part: Uint8Array): Buffer => u64(part.length).subarray(0, 4);
  const [fileId, generation] = [log.subarray(16, 32), log.subarray(32, 40)];
  const parts = [fileId, generation, u64(1)].flatMap((part) => [lengthOf(part), part]);
  const info = Buffer.concat([Buffer.from("emdb 1 image seal\0"), ...parts]);
  const imageKey = new Uint8Array(hkdfSync("sha256", dataKey.bytes, image.subarray(40, 72), info, 32));
  const pieces: Buffer[] = [];
  for (let at = HINT_HEADER_BYTES; at < image.length;) {
    const bytes = image.readUInt32LE(at);
    const nonce = Buffer.concat([Buffer.alloc(8), image.subarray(at + 4, at + 8)]);
    const context = Buffer.concat([fileId, generation, u64(pieces.length), Buffer.from("ff000000", "hex")]);
    pieces.push(Buffer.from(gcm(imageKey, nonce, context).decrypt(image.subarray(at + 8, at + 4 + bytes))));
    at += Math.ceil((4 + bytes) / 8) * 8;
  }
  return pieces;
}

test("a sealed image opens with a second implementation by what the document says, and shows nothing without the key", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const key = new Uint8Array(32).fill(9);
  await using db = Emdb.open(path, { encryption: { key } });
  const users = db.namespace("a namespace by name");
  for (let index = 0; index < 300; index++) users.insert(`key number ${index}`, `value ${index}`);
  await db.checkpoint();
  const [log, image] = [readFileSync(path), readFileSync(`${path}.hint`)];
  const [header, ...chunks] = openPieces(image, log, key);
  expect(header?.subarray(0, 8).toString()).toBe("emdbhint");
  expect(header?.length).toBe(200);
  expect(header?.subarray(16, 40)).toEqual(log.subarray(16, 40));
  // The second record of the session.
  expect(Number(header?.readBigUInt64LE(120))).toBe(4096 + 88);
  expect(header?.subarray(136)).toEqual(log.subarray(4096 + 88 + 24, 4096 + 88 + 88));
  const names = chunks.filter((chunk) => chunk.readUInt32LE(4) === 1 && chunk.readUInt32LE(8) === 1);
  expect(names.map((chunk) => chunk.subarray(56, 75).toString())).toEqual(["a namespace by name"]);
  expect(chunks.filter((chunk) => chunk.readUInt32LE(4) === 2).length).toBeGreaterThan(0);
  expect(image.subarray(72, 112).every((byte) => byte === 0)).toBe(true);
  const seed = header?.subarray(40, 56) ?? Buffer.alloc(0);
  for (const secret of [seed, "key number", "namespace"]) expect(image.includes(secret)).toBe(false);
  expect(SEALED_CHUNKS_AT).toBe(HINT_HEADER_BYTES + 224);
});
