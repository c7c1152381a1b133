/**
 * docs/format.md says what the code does: its dumps are the encoder's bytes, its tables the constants of `src`,
 * and the log that it takes apart is a database.
 */

import { describe, expect, test } from "bun:test";
import { createHmac, hkdfSync } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gcm } from "@noble/ciphers/aes.js";
import { Emdb } from "emdb";
import * as frame from "../../src/log/frame.ts";
import { XXH32_BODY_BYTES_MAX } from "../../src/log/checksum.ts";
import { FORMAT_VERSION, KEY_AREA_AT } from "../../src/log/header.ts";
import * as limits from "../../src/limits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { readFrame } from "./dump.ts";
import { dumps, logFrames, looseFrames, sampleFile } from "./format-samples.ts";
import { blocksOf, rowsUnder } from "./markdown.ts";

const text = readFileSync(join(import.meta.dir, "../../docs/format.md"), "utf8");
const shown = new Map(
  blocksOf(text)
    .filter((block) => block.language === "dump")
    .map((block) => [block.rest, block.text]),
);

describe("the dumps", () => {
  test("of the document are those of the encoder, one for each", () => {
    expect([...shown.keys()].sort()).toEqual([...dumps().keys()].sort());
  });
  for (const [name, dump] of dumps()) {
    test(`show the bytes of "${name}"`, () => expect(shown.get(name)).toBe(dump));
  }
  test("hold no frame that a second reader, with Bun's checksums, refuses", () => {
    for (const { name, bytes, lsn } of [...logFrames, ...looseFrames]) {
      expect({ name, isSound: readFrame(bytes, lsn).isSound }).toEqual({ name, isSound: true });
    }
  });
  test("would show one changed byte anywhere in a frame", () => {
    for (const { bytes, lsn } of logFrames.filter((one) => one.bytes.length < 100)) {
      for (let index = 0; index < bytes.length; index++) {
        const changed = bytes.slice();
        changed[index]! ^= 1;
        expect(readFrame(changed, lsn).isSound).toBe(false);
      }
      expect(readFrame(bytes, lsn + 8).isSound).toBe(false);
    }
  });
  test("hold a frame of every kind and place", () => {
    const readings = [...logFrames, ...looseFrames].map(({ bytes, lsn }) => readFrame(bytes, lsn));
    const named = (title: string): Set<string> => new Set(rowsUnder(text, title).map(([name = ""]) => name));
    expect(new Set(readings.map((one) => one.kind))).toEqual(named("kind"));
    expect(new Set(readings.map((one) => one.place))).toEqual(named("place"));
  });
});

describe("the log that the dumps make up", () => {
  test("opens, and holds what the document says", () => {
    using folder = temporaryFolder();
    const path = folder.file("sample.emdb");
    writeFileSync(path, sampleFile());
    using db = Emdb.open(path, { verifyReads: true });
    expect(db.recovery).toMatchObject({ tornBytes: 0, missingBytes: 0 });
    const held = new Map(
      [...db].map(([key, value]) => [new TextDecoder().decode(key), new TextDecoder().decode(value)]),
    );
    const expected = { apple: "yellow", a: "1", b: "2", c: "3", d: "4", long: "z".repeat(5000), "": "" };
    expect(Object.fromEntries(held)).toEqual(expected);
    expect(db.listNamespaces()).toEqual([]);
  });
  test("is left as it was by an open and a close without a write", () => {
    using folder = temporaryFolder();
    const path = folder.file("sample.emdb");
    writeFileSync(path, sampleFile());
    Emdb.open(path).closeSync();
    expect(Buffer.compare(readFileSync(path), sampleFile())).toBe(0);
  });
});

describe("the encrypted frames", () => {
  const named = (name: string): Uint8Array => looseFrames.find((one) => one.name === name)?.bytes ?? new Uint8Array(0);
  const u64 = (value: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return bytes;
  };
  /** A label and parts as the document writes them down. */
  const covered = (label: string, parts: readonly Uint8Array[]): Buffer =>
    Buffer.concat([Buffer.from(`${label}\0`), ...parts.flatMap((part) => [u64(part.length).subarray(0, 4), part])]);
  const dataKey = new Uint8Array(32).fill(1);
  const fileId = sampleFile().subarray(16, 32);
  const salt = named("session").subarray(24, 56);

  test("begin with a session whose MAC is the one that the document describes", () => {
    const key = hkdfSync("sha256", dataKey, "", covered("emdb 1 session record", []), 32);
    const parts = [fileId, u64(1), u64(4096), new Uint8Array(32), salt];
    const mac = createHmac("sha256", Buffer.from(key)).update(covered("emdb 1 session record", parts)).digest();
    expect(mac.equals(named("session").subarray(56, 88))).toBe(true);
  });
  test.each([
    ["sealed-put", 4184, "01 00 05 6170706c65 726564"],
    ["sealed-mark", 4240, "07 00 00"],
  ])("%s opens with a second implementation by what the document says", (name, lsn, record) => {
    const frame = named(name);
    const info = covered("emdb 1 session seal", [fileId, u64(1), u64(1)]);
    const key = new Uint8Array(hkdfSync("sha256", dataKey, salt, info, 32));
    const bytes = Buffer.from(frame).readUInt32LE(12);
    const nonce = Buffer.concat([Buffer.alloc(8), frame.subarray(24, 28)]);
    const place = [fileId, u64(1), u64(lsn), Buffer.from("09001000", "hex"), frame.subarray(8, 24)];
    const opened = gcm(key, nonce, Buffer.concat(place)).decrypt(frame.subarray(28, 24 + bytes));
    expect(opened.toHex()).toBe(record.replaceAll(" ", ""));
  });
});

describe("the tables", () => {
  const constants = frame as unknown as Readonly<Record<string, number>>;

  test("number the kinds as the code does", () => {
    const names: Readonly<Record<string, string>> = { create: "SPACE_CREATE", drop: "SPACE_DROP" };
    const rows = rowsUnder(text, "kind");
    expect(rows).toHaveLength(frame.KIND_MAX);
    for (const [kind = "", number] of rows) {
      expect(Number(number)).toBe(constants[`KIND_${names[kind] ?? kind.toUpperCase()}`] ?? Number.NaN);
    }
  });
  test("number the places as the code does", () => {
    for (const [place = "", number] of rowsUnder(text, "place")) {
      expect(Number(number)).toBe(constants[`PLACE_${place.toUpperCase()}`] ?? Number.NaN);
    }
  });
  test("name the bits of the shape as the code does", () => {
    const bits = new Map(rowsUnder(text, "bits").map(([bit = "", meaning = ""]) => [meaning, bit]));
    expect(2 ** Number(bits.get("has an expiry"))).toBe(frame.SHAPE_EXPIRY);
    expect(2 ** Number(bits.get("has a wide namespace id"))).toBe(frame.SHAPE_WIDE_SPACE);
    expect(2 ** Number(bits.get("has a wide prev"))).toBe(frame.SHAPE_WIDE_PREV);
    expect(2 ** Number(bits.get("on a mark: the database was closed in good order here"))).toBe(frame.SHAPE_CLEAN);
  });
  test("give the limits that the code has", () => {
    const known = limits as unknown as Readonly<Record<string, number>>;
    const rows = rowsUnder(text, "limit");
    expect(rows.length).toBeGreaterThan(0);
    for (const [name = "", value] of rows) expect(Number(value)).toBe(known[name.replaceAll("`", "")] ?? Number.NaN);
  });
  test("lay the header page out without a gap, to its end", () => {
    let end = 0;
    for (const [offset, bytes] of rowsUnder(text, "offset")) {
      expect(Number(offset)).toBe(end);
      end += Number(bytes);
    }
    expect(end).toBe(limits.HEADER_PAGE_BYTES);
    expect(rowsUnder(text, "offset").at(-1)?.[0]).toBe(String(KEY_AREA_AT));
  });
  test("and the text name the version, the header's length and the border of the two checksums", () => {
    expect(text).toStartWith(`# The file format, version ${FORMAT_VERSION}\n`);
    expect(text).toContain(`XXH32 up to ${XXH32_BODY_BYTES_MAX} bytes`);
    expect(text).toContain(`A frame is ${frame.FRAME_HEADER_BYTES} bytes and at most 7 of padding`);
  });
});

test("the lock file holds the members that the document shows, in one line", () => {
  using folder = temporaryFolder();
  const path = folder.file("locked.emdb");
  const json = blocksOf(text).find((block) => block.language === "json")?.text ?? "";
  Emdb.open(path).closeSync();
  const written = readFileSync(`${path}.lock`, "utf8");
  expect(Object.keys(JSON.parse(written) as object)).toEqual(Object.keys(JSON.parse(json) as object));
  expect(written).toBe(`${JSON.stringify(JSON.parse(written))}\n`);
  expect(json).toBe(JSON.stringify(JSON.parse(json)));
});
