/** Refusals that nobody meets on a good day: limits that are far away, tokens of others, files that are half of one. */

import { expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { openMemory } from "../../src/engine/open/open.ts";
import { claimRow } from "../../src/engine/threads/rows.ts";
import { Control, SPACE_COUNT } from "../../src/engine/threads/control.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { hostPlatform } from "../../src/ffi/library-names.ts";
import { openLibrary } from "../../src/ffi/library.ts";
import { pinned } from "../../src/ffi/memory.ts";
import { Emdb, type EmdbShare } from "../../src/index.ts";
import { ATTACHED_MAX, HEADER_PAGE_BYTES, LOG_BYTES_MAX, SPACE_COUNT_MAX } from "../../src/limits.ts";
import { xxh32 } from "../../src/log/checksum.ts";
import { addMap, listMaps, LOG_TAIL } from "../../src/log/log-words.ts";
import { FileTail, MemoryTail, ensureMapped } from "../../src/log/tail.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import { expectCode, place } from "./fixture.ts";

const KEY = new Uint8Array(32).fill(7);

/** The code that a promise is rejected with. */
async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => "no error",
    (error: unknown) => (error as { code?: string }).code,
  );
}

test("a token that is none, or of another process, attaches to nothing", () => {
  using db = Emdb.openInMemory();
  const share = db.share() as EmdbShare & { readonly pid: number };
  for (const other of [undefined, null, 5, {}, { kind: "emdb-share" }])
    expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.attach(other as never));
  expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.attach({ ...share, pid: share.pid + 1 } as never));
});

test("options of breakLock that are no object are an invalid argument", () => {
  for (const options of [null, true, "force"])
    expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.breakLock("/nowhere/data.emdb", options as never));
});

test("the Worker that is one too many is EMDB_FULL", () => {
  const control = Control.create();
  for (let row = 0; row < ATTACHED_MAX; row += 1) expect(claimRow(control, hostSystem())).toBe(row);
  expectCode("EMDB_FULL", () => claimRow(control, hostSystem()));
});

test("the namespace that is one too many in a file is EMDB_FULL", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { numbers } = fixture.engine.core.control;
  const before = numbers[SPACE_COUNT]!;
  numbers[SPACE_COUNT] = SPACE_COUNT_MAX;
  expectCode("EMDB_FULL", () => fixture.engine.spaces.refuseBeyondMax());
  numbers[SPACE_COUNT] = before;
  expect(fixture.engine.spaceNamed("one more").name).toBe("one more");
});

test("a range without an ordered index is refused below the door too", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine } = fixture;
  expectCode("EMDB_INVALID_CONFIG", () => engine.range(engine.defaultSpace, {} as never));
});

test.skipIf(!hostSystem().canMapPastEnd)("a log that outgrows its map gets a longer one, and both are good", () => {
  const mapped: number[] = [];
  const system = faulty(hostSystem(), (call, args) => {
    if (call === "map") mapped.push(args[1] as number);
    return call === "map" ? 65_536 * mapped.length : undefined;
  });
  const { log } = Control.create();
  const file = { handle: -1, path: "/long" };
  const ends = [4096, 2 ** 34, 2 ** 34 + 8, 2 ** 35 + 8, 2 ** 36, 2 ** 38, 2 ** 39];
  for (const end of ends) ensureMapped(system, file, log, end);
  expect(mapped).toEqual([2 ** 34, 2 ** 36, 2 ** 39]);
  expect(listMaps(log).map(({ bytes }) => bytes)).toEqual(mapped);
});

test("a log at its limit is EMDB_FULL, in a file and in memory, with nothing reserved", () => {
  const refused = faulty(hostSystem(), (call) => {
    if (call === "allocate" || call === "commit") throw new Error(`${call} is called`);
    return undefined;
  });
  const inFile = Control.create().log;
  inFile.numbers[LOG_TAIL] = LOG_BYTES_MAX;
  const tail = new FileTail(refused, { handle: -1, path: "/full" }, inFile, {
    look: () => undefined,
    isWriteThrough: false,
    isSyncedOften: true,
  });
  expect(expectCode("EMDB_FULL", () => tail.place(64)).path).toBe("/full");
  const inMemory = Control.create().log;
  addMap(inMemory, { address: 65_536, bytes: 65_536 });
  inMemory.numbers[LOG_TAIL] = 65_536;
  expectCode("EMDB_FULL", () => new MemoryTail(refused, inMemory).place(64));
  expectCode("EMDB_FULL", () => {
    for (;;) addMap(inMemory, { address: 65_536, bytes: 65_536 });
  });
});

test("a database in memory that finds no address space is EMDB_IO, and holds nothing", () => {
  let reserved = 0;
  const system = faulty(hostSystem(), (call) => {
    if (call !== "reserve") return undefined;
    reserved += 1;
    return reserved > 1 ? -Errno.ENOMEM : undefined;
  });
  const config = {
    defaultTtlMs: 0,
    rangeScans: false,
    flushPlan: { kind: "on-each-flush" },
    encryption: undefined,
    cipher: undefined,
    verifyReads: false,
  } as const;
  const environment = { system, defer: () => undefined, hasWorkers: false };
  expect(expectCode("EMDB_IO", () => openMemory(environment, config)).errno).toBe("ENOMEM");
});

test("what a robbed handle has not written does not keep others from looking at the file", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.insert("a", "flushed");
  db.flushSync();
  db.insert("b", "pending");
  Emdb.breakLock(path, { force: true });
  const reader = Emdb.open(path, { readOnly: true });
  expect([...reader.keys()].map((key) => Buffer.from(key).toString())).toEqual(["a"]);
  reader.closeSync();
  expect((await db.verify()).problems).toEqual([]);
  expectCode("EMDB_LOCKED", () => db.closeSync());
});

test("a folder is not salvaged, nor is an encrypted file whose header is gone", async () => {
  using folder = temporaryFolder();
  const target = folder.file("target.emdb");
  expect(await codeOf(Emdb.salvage(folder.path, target))).toBe("EMDB_NOT_A_DATABASE");
  const path = folder.file("data.emdb");
  const db = Emdb.open(path, { encryption: { key: KEY } });
  db.insert("a", "b");
  db.closeSync();
  const bytes = readFileSync(path);
  bytes.fill(0x55, 12, 508);
  place(path, bytes);
  expect(await codeOf(Emdb.salvage(path, target, { encryption: { key: KEY } }))).toBe("EMDB_CORRUPTED");
});

test("an encrypted file whose header is damaged where the frames prove the rest is not salvaged, and none is made", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("target.emdb")];
  const db = Emdb.open(path, { encryption: { key: KEY } });
  db.insert("a", "b");
  db.closeSync();
  const bytes = readFileSync(path);
  bytes.fill(0x55, 300, 310);
  place(path, bytes);
  expect(await codeOf(Emdb.salvage(path, target, { encryption: { key: KEY } }))).toBe("EMDB_CORRUPTED");
  expect(existsSync(target)).toBe(false);
});

/** Changes words of the header page and makes its check good again. */
function forgeHeader(path: string, change: (page: ReturnType<typeof pinned>) => void): void {
  const bytes = new Uint8Array(readFileSync(path));
  const page = pinned(HEADER_PAGE_BYTES);
  page.u8.set(bytes.subarray(0, HEADER_PAGE_BYTES));
  change(page);
  page.i32[508 >> 2] = xxh32(page, 0, 508, 0);
  bytes.set(page.u8.subarray(0, HEADER_PAGE_BYTES));
  place(path, bytes);
}

test("a cipher of a version to come is EMDB_VERSION, and a plain file with something in its key area is damaged", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.open(path, { encryption: { key: KEY } }).closeSync();
  forgeHeader(path, (page) => (page.u32[48 >> 2] = 9));
  expectCode("EMDB_VERSION", () => Emdb.open(path, { encryption: { key: KEY } }));
  const plain = folder.file("plain.emdb");
  Emdb.open(plain).closeSync();
  forgeHeader(plain, (page) => (page.u8[600] = 1));
  expectCode("EMDB_CORRUPTED", () => Emdb.open(plain));
});

test("the refusal of a damaged header page names the call that copies what is sound, and that copies it", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.insert("a", "b");
  db.closeSync();
  const sound = readFileSync(path);
  for (const offset of [20, 2000]) {
    const bytes = Uint8Array.from(sound);
    bytes[offset]! ^= 1;
    place(path, bytes);
    expect(expectCode("EMDB_CORRUPTED", () => Emdb.open(path)).message).toContain("Emdb.salvage");
    expect((await Emdb.salvage(path, folder.file(`of-${offset}.emdb`))).recoveredRecords).toBe(1);
  }
});

test("a log whose end is spoilt, where the image knows it was durable, is damage; one that was cut is not rewritten", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  for (let index = 0; index < 50; index += 1) db.insert(`key ${index}`, "value".repeat(10));
  db.closeSync();
  const whole = new Uint8Array(readFileSync(path));
  const spoilt = whole.slice();
  spoilt.fill(0xa5, whole.length - 300);
  writeFileSync(path, spoilt);
  expectCode("EMDB_CORRUPTED", () => Emdb.open(path));
  writeFileSync(path, whole.subarray(0, whole.length - 1000));
  expect(await codeOf(Emdb.enableEncryption(path, { key: KEY }))).toBe("EMDB_CORRUPTED");
  const again = Emdb.open(path);
  expect(again.recovery.missingBytes).toBeGreaterThan(0);
  again.closeSync();
});

test("a library that is not there, and a platform that nobody knows, are EMDB_UNSUPPORTED", () => {
  const error = expectCode("EMDB_UNSUPPORTED", () => openLibrary(["no-such-library.so.9"], {}));
  expect(error.message).toContain("no-such-library.so.9");
  const own = process.arch;
  Object.defineProperty(process, "arch", { value: "mips", configurable: true });
  try {
    expectCode("EMDB_UNSUPPORTED", () => hostPlatform());
  } finally {
    Object.defineProperty(process, "arch", { value: own, configurable: true });
  }
});
