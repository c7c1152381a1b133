/** A backup and a compacted log know where they end: a copy of one that was cut short or has rotted at its end tells so, without a checkpoint. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  rmdirSync,
  truncateSync,
  writeFileSync,
  statSync,
} from "node:fs";
import { SESSION_RECORD_BYTES } from "../../src/crypto/session.ts";
import { FRAME_HEADER_BYTES } from "../../src/log/frame.ts";
import { SEALED_MARK_BYTES } from "../../src/engine/sealed/sealed-encoder.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { Emdb, type EmdbError, type EncryptionInput, type OpenOptions } from "../../src/index.ts";
import { decodeHeader } from "../../src/log/header.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(240_000);
const STRIDE = emulator === undefined ? 1 : 13;
const SESSION_FRAME_BYTES = FRAME_HEADER_BYTES + SESSION_RECORD_BYTES;
const KEY = new Uint8Array(32).fill(5);

const ways: readonly (readonly [string, OpenOptions])[] = [
  ["plain", {}],
  ["encrypted", { encryption: { key: KEY } }],
];

const fresh = (options: OpenOptions): OpenOptions =>
  options.encryption === undefined ? options : { ...options, encryption: { key: KEY.slice() } };

function madeEndOf(bytes: Uint8Array): number {
  const verdict = decodeHeader(bytes.subarray(0, HEADER_PAGE_BYTES));
  if (verdict.kind !== "sound") throw new Error(verdict.kind);
  return verdict.header.madeEnd;
}

function fill(db: Emdb): void {
  db.insertMany([
    ["a", "first"],
    ["b", "second"],
  ]);
  db.namespace("more").insert("c", "third");
  db.insert("a", "again");
}

/** The bytes of a backup and of a compacted log that hold the same. */
async function copiesOf(folder: TemporaryFolder, options: OpenOptions): Promise<Map<string, Buffer>> {
  const path = folder.file("data.emdb");
  const db = Emdb.open(path, fresh(options));
  fill(db);
  await db.backupTo(folder.file("backup.emdb"));
  await db.compact();
  db.closeSync();
  rmSync(`${path}.hint`);
  return new Map([
    ["a backup", readFileSync(folder.file("backup.emdb"))],
    ["a compacted log", readFileSync(path)],
  ]);
}

const codeOf = (open: () => Emdb): string => {
  try {
    open().closeSync();
  } catch (error) {
    return (error as EmdbError).code;
  }
  return "fine";
};

describe.each(ways)("%s", (_, options) => {
  test("cut at any byte, it says how much is missing; without its mark alone it is whole", async () => {
    using folder = temporaryFolder();
    const cut = folder.file("cut.emdb");
    for (const [what, whole] of await copiesOf(folder, options)) {
      const end = madeEndOf(whole);
      expect(end).toBeLessThan(whole.length);
      for (let bytes = HEADER_PAGE_BYTES; bytes <= whole.length; bytes += STRIDE) {
        writeFileSync(cut, whole.subarray(0, bytes));
        using db = Emdb.open(cut, { ...fresh(options), readOnly: true });
        const { missingBytes, tornBytes } = db.recovery;
        if (bytes >= end && missingBytes !== 0) throw new Error(`${what}: ${missingBytes} are missing at ${bytes}`);
        if (
          bytes < end &&
          (missingBytes < end - bytes || missingBytes > end - HEADER_PAGE_BYTES || tornBytes >= missingBytes)
        )
          throw new Error(`${what}: ${missingBytes} are missing at ${bytes} of ${end}`);
        if (bytes >= end) expect(db.len()).toBe(2);
        if (bytes % 64 === 0) expect((await db.verify()).problems.length).toBe(bytes < end ? 1 : 0);
      }
    }
  });

  test("any bit flipped in it is damage, also in the last record and without its mark", async () => {
    using folder = temporaryFolder();
    const spoilt = folder.file("spoilt.emdb");
    for (const [what, whole] of await copiesOf(folder, options)) {
      const end = madeEndOf(whole);
      for (let byte = HEADER_PAGE_BYTES; byte < end; byte += STRIDE) {
        whole[byte]! ^= 1 << (byte & 7);
        writeFileSync(spoilt, byte & 1 ? whole : whole.subarray(0, end));
        whole[byte]! ^= 1 << (byte & 7);
        const code = codeOf(() => Emdb.open(spoilt, fresh(options)));
        // The session's record stands there twice, for the case that one rots.
        const isSpare = options.encryption !== undefined && byte < HEADER_PAGE_BYTES + 2 * SESSION_FRAME_BYTES;
        if (code !== "EMDB_CORRUPTED" && !(isSpare && code === "fine"))
          throw new Error(`${what}, byte ${byte}: ${code}`);
      }
    }
  });

  test("zeros in the place of its end are missing bytes", async () => {
    using folder = temporaryFolder();
    const holed = folder.file("holed.emdb");
    for (const [, whole] of await copiesOf(folder, options)) {
      const end = madeEndOf(whole);
      writeFileSync(holed, Buffer.from(whole).fill(0, HEADER_PAGE_BYTES));
      using db = Emdb.open(holed, { ...fresh(options), readOnly: true });
      expect(db.recovery.missingBytes).toBe(end - HEADER_PAGE_BYTES);
    }
  });

  test("it is sound for verify, and written on, compacted again and copied again it knows its new end", async () => {
    using folder = temporaryFolder();
    const path = folder.file("copy.emdb");
    for (const [, whole] of await copiesOf(folder, options)) {
      writeFileSync(path, whole);
      const db = Emdb.open(path, fresh(options));
      expect((await db.verify()).problems).toEqual([]);
      db.insert("d", "x".repeat(1000));
      db.closeSync();
      rmSync(`${path}.hint`);
      expect(madeEndOf(readFileSync(path))).toBe(madeEndOf(whole));
      const again = Emdb.open(path, fresh(options));
      expect(again.recovery.missingBytes).toBe(0);
      await again.compact();
      expect(madeEndOf(readFileSync(path))).toBeGreaterThan(madeEndOf(whole) + 900);
      expect((await again.verify()).problems).toEqual([]);
      again.closeSync();
    }
  });
});

test("a database that was made empty knows no end, whatever is written to it", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path);
  fill(db);
  db.flushSync();
  expect(madeEndOf(readFileSync(path))).toBe(0);
});

/** A copy of a database that is open, with its checkpoint, as a crash leaves it that has torn what was written last. */
function crash(
  db: Emdb,
  path: string,
  { crashed, bytesMin }: { readonly crashed: string; readonly bytesMin: number },
): void {
  const bytes = readFileSync(path);
  // What is sealed may end with zeros.
  const written = Math.max(db.stats().logicalSizeBytes, bytes.findLastIndex((byte) => byte !== 0) + 1);
  const end = Math.ceil(written / 8) * 8;
  writeFileSync(
    crashed,
    Buffer.concat([bytes.subarray(0, end), Buffer.from("torn, torn, torn"), Buffer.alloc(bytesMin)]),
  );
  if (existsSync(`${path}.hint`)) copyFileSync(`${path}.hint`, `${crashed}.hint`);
}

describe.each(ways)("cut, opened and written on, %s", (_, options) => {
  test("it opens after a crash with all that was flushed, and what is missing is told once", async () => {
    using folder = temporaryFolder();
    const crashed = folder.file("crashed.emdb");
    for (const [what, whole] of await copiesOf(folder, options)) {
      const end = madeEndOf(whole);
      for (const cut of [HEADER_PAGE_BYTES, HEADER_PAGE_BYTES + 2 * SESSION_FRAME_BYTES, end - 1]) {
        const path = folder.file(`${what} ${cut}.emdb`);
        writeFileSync(path, whole.subarray(0, Math.min(cut, end - 1)));
        const before = Emdb.open(path, { ...fresh(options), readOnly: true });
        const { missingBytes } = before.recovery;
        before.closeSync();
        using db = Emdb.open(path, fresh(options));
        expect(db.recovery.missingBytes).toBe(missingBytes);
        expect(missingBytes).toBeGreaterThan(0);
        db.insert("n", "1");
        db.flushSync();
        crash(db, path, { crashed, bytesMin: end });
        const image = statSync(`${crashed}.hint`).ino;
        using after = Emdb.open(crashed, fresh(options));
        expect(after.getText("n")).toBe("1");
        // The one that was found says how long the log is: no other one is made for that.
        expect(statSync(`${crashed}.hint`).ino).toBe(image);
        expect(after.recovery).toMatchObject({ missingBytes: 0, usedCheckpoint: true });
        expect(after.recovery.tornBytes).toBeGreaterThan(0);
        after.closeSync();
      }
    }
  });

  test("of which nothing was left, it is told once as well, and its encryption can be changed", async () => {
    using folder = temporaryFolder();
    const path = folder.file("cut.emdb");
    for (const [, whole] of await copiesOf(folder, options)) {
      writeFileSync(path, whole.subarray(0, HEADER_PAGE_BYTES));
      Emdb.open(path, fresh(options)).closeSync();
      const again = Emdb.open(path, fresh(options));
      expect(again.recovery.missingBytes).toBe(0);
      again.closeSync();
      if (options.encryption === undefined) await Emdb.enableEncryption(path, { key: KEY.slice() });
      else await Emdb.disableEncryption(path, { key: KEY.slice() });
    }
  });
});

test("what is missing is told by each open that only reads, and where no checkpoint can be made by each other one", async () => {
  using folder = temporaryFolder();
  const whole = (await copiesOf(folder, {})).get("a backup")!;
  const path = folder.file("cut.emdb");
  writeFileSync(path, whole.subarray(0, madeEndOf(whole) - 1));
  const told = (options: OpenOptions): number => {
    using db = Emdb.open(path, options);
    return db.recovery.missingBytes;
  };
  const missingBytes = told({ readOnly: true });
  expect(missingBytes).toBeGreaterThan(0);
  // A folder in which there is something is no checkpoint, and nobody's to remove.
  mkdirSync(`${path}.hint`);
  writeFileSync(`${path}.hint/file`, "");
  expect([told({}), told({}), told({ readOnly: true })]).toEqual([missingBytes, missingBytes, missingBytes]);
  rmSync(`${path}.hint/file`);
  rmdirSync(`${path}.hint`);
  expect([told({}), told({}), told({ readOnly: true })]).toEqual([missingBytes, 0, 0]);
});

test("beside the checkpoint of another log that was compacted from the same one, what is missing is told by the header", async () => {
  using folder = temporaryFolder();
  const [path, other] = [folder.file("data.emdb"), folder.file("other.emdb")];
  const first = Emdb.open(path);
  fill(first);
  first.closeSync();
  copyFileSync(path, other);
  for (const [way, count] of [
    [path, 10],
    [other, 100],
  ] as const) {
    const db = Emdb.open(way);
    for (let index = 0; index < count; index++) db.insert(`${count} ${index}`, "value");
    await db.compact();
    db.closeSync();
  }
  const whole = readFileSync(other);
  writeFileSync(path, whole.subarray(0, madeEndOf(whole) - 8));
  using db = Emdb.open(path);
  expect(db.recovery).toMatchObject({ usedCheckpoint: false, missingBytes: db.recovery.tornBytes + 8 });
});

test("salvage of a copy that was cut short names what is missing as lost, in one stretch with the record at the cut", async () => {
  using folder = temporaryFolder();
  const whole = (await copiesOf(folder, {})).get("a backup")!;
  const end = madeEndOf(whole);
  const path = folder.file("cut.emdb");
  for (const bytes of [end - 8, HEADER_PAGE_BYTES, end]) {
    writeFileSync(path, whole.subarray(0, bytes));
    const target = folder.file(`salvaged ${bytes}.emdb`);
    const { lostRanges } = await Emdb.salvage(path, target);
    using db = Emdb.open(path, { readOnly: true });
    const { missingBytes } = db.recovery;
    expect(lostRanges).toEqual(missingBytes === 0 ? [] : [{ offset: end - missingBytes, bytes: missingBytes }]);
  }
});

test("salvage of a copy that was written on and has rotted from before its first end on names all of that as lost", async () => {
  using folder = temporaryFolder();
  const whole = (await copiesOf(folder, {})).get("a backup")!;
  const path = folder.file("rotten.emdb");
  writeFileSync(path, whole);
  const db = Emdb.open(path);
  db.insert("d", "x".repeat(1000));
  db.closeSync();
  const sound = readFileSync(path);
  // In the value of the last frame before that end, and in its header.
  for (const before of [8, 30]) {
    const rotten = Buffer.from(sound).fill(0x5a, madeEndOf(whole) - before);
    writeFileSync(path, rotten);
    const { lostRanges } = await Emdb.salvage(path, folder.file(`salvaged ${before}.emdb`));
    expect(lostRanges).toEqual([{ offset: madeEndOf(whole) - 32, bytes: rotten.length - madeEndOf(whole) + 32 }]);
  }
});

test("a change of encryption refuses a copy that was cut short, until it was opened", async () => {
  using folder = temporaryFolder();
  const whole = (await copiesOf(folder, {})).get("a backup")!;
  const path = folder.file("cut.emdb");
  writeFileSync(path, whole.subarray(0, madeEndOf(whole) - 8));
  const encrypt = async (): Promise<void> => Emdb.enableEncryption(path, { key: KEY.slice() });
  expect(encrypt()).rejects.toThrow("bytes that were durable are missing from the end");
  Emdb.open(path).closeSync();
  await encrypt();
  using db = Emdb.open(path, { encryption: { key: KEY.slice() } });
  expect(db.get("b")).toEqual(new Uint8Array(Buffer.from("second")));
});

test("what a change of encryption or a salvage makes knows its end as well, an empty one too", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const encryption = (): EncryptionInput => ({ key: KEY.slice() });
  for (const isFilled of [false, true]) {
    using db = Emdb.open(path);
    if (isFilled) fill(db);
    db.closeSync();
    await Emdb.salvage(path, folder.file(`salvaged ${isFilled}.emdb`));
    const salvaged = readFileSync(folder.file(`salvaged ${isFilled}.emdb`));
    await Emdb.enableEncryption(path, encryption());
    const encrypted = readFileSync(path);
    using opened = Emdb.open(path, { encryption: encryption() });
    expect((await opened.verify()).problems).toEqual([]);
    expect(opened.recovery.missingBytes).toBe(0);
    opened.closeSync();
    await Emdb.disableEncryption(path, encryption());
    const plain = readFileSync(path);
    for (const [whole, markBytes] of [
      [salvaged, FRAME_HEADER_BYTES],
      [encrypted, SEALED_MARK_BYTES],
      [plain, FRAME_HEADER_BYTES],
    ] as const)
      expect(madeEndOf(whole)).toBe(isFilled ? whole.length - markBytes : HEADER_PAGE_BYTES);
    writeFileSync(path, plain);
    truncateSync(path, Math.max(HEADER_PAGE_BYTES, madeEndOf(plain) - 1));
    using cut = Emdb.open(path);
    expect(cut.recovery.missingBytes > 0).toBe(isFilled);
    cut.closeSync();
  }
});
