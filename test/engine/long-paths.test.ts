/**
 * Databases whose whole paths leave too little room for those of the files beside them, by short names in deep folders: none
 * is made, and one that is there is used as far as it goes.
 */

import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, renameSync, symlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb, type EmdbError } from "../../src/index.ts";
import { SIDECAR_ENDING_BYTES_MAX } from "../../src/limits.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";
import { removeTree, temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";

const KEY = { key: new Uint8Array(32).fill(7) };
const SYSTEM_MAX = hostSystem().pathBytesMax;
const MAX = SYSTEM_MAX - SIDECAR_ENDING_BYTES_MAX;

/** No other system's limit is met by paths that can be made there: that of Windows is beyond what Wine and most programs take. */
const onPosix = test.skipIf(process.platform === "win32");

/** A path of exactly that length, in a folder that is made. */
function pathOf(folder: TemporaryFolder, length: number): string {
  let parent = folder.path;
  for (let left = length - parent.length; left > 100; left = length - parent.length)
    parent = join(parent, "d".repeat(Math.min(200, left - 50)));
  mkdirSync(parent, { recursive: true });
  const path = join(parent, "n".repeat(length - parent.length - 1));
  expect(path).toHaveLength(length);
  return path;
}

/** A database with one record there, made under a shorter path. */
function madeEarlier(folder: TemporaryFolder, length: number): string {
  const short = folder.file(`short-${length}.emdb`);
  {
    using db = Emdb.open(short);
    db.insert("one", "1");
  }
  const path = pathOf(folder, length);
  renameSync(short, path);
  return path;
}

function expectRemedy({ message }: EmdbError, length: number): void {
  expect(message).toContain(`has ${length} bytes`);
  expect(message).toContain(`up to ${MAX} bytes`);
  expect(message).toContain("move the file");
}

onPosix("no database is made at a path that leaves no room for those beside it, by whichever call", async () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"));
  db.flushSync();
  for (const length of [MAX + 1, SYSTEM_MAX - 6, SYSTEM_MAX]) {
    const tooLong = pathOf(folder, length);
    const errors = [
      expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.open(tooLong)),
      await expectRejects("EMDB_INVALID_ARGUMENT", db.backupTo(tooLong)),
      await expectRejects("EMDB_INVALID_ARGUMENT", Emdb.salvage(folder.file("data.emdb"), tooLong)),
    ];
    for (const { message } of errors) {
      expect(message).toContain(`has ${length} bytes`);
      expect(message).toContain(`the limit is ${MAX}`);
    }
    expectCode("EMDB_NOT_FOUND", () => Emdb.open(tooLong, { createIfMissing: false }));
    expect(readdirSync(dirname(tooLong)).filter((name) => name.startsWith("n"))).toEqual([]);
  }
});

onPosix("at the longest path everything is done", async () => {
  using folder = temporaryFolder();
  const path = pathOf(folder, MAX);
  {
    using db = Emdb.open(path);
    for (let round = 0; round < 100; round++) db.insert("one", `${round}`);
    await db.compact();
    await db.checkpoint();
    await db.backupTo(`${path.slice(0, -1)}b`);
  }
  await Emdb.enableEncryption(path, KEY);
  await Emdb.salvage(path, `${path.slice(0, -1)}s`, { encryption: KEY });
  await Emdb.disableEncryption(path, KEY);
  using db = Emdb.open(path);
  expect(db.getText("one")).toBe("99");
});

onPosix("a path that no system takes is refused with its length and the limit", () => {
  using folder = temporaryFolder();
  const path = join(pathOf(folder, SYSTEM_MAX - 20), "n".repeat(30));
  const error = expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.open(path));
  expect(error.message).toContain(`has ${path.length} bytes`);
  expect(error.message).toContain(String(MAX));
});

/** The names of folders below one, of which the last has a path of that length. */
function namesBelow(start: string, length: number): string[] {
  const names: string[] = [];
  for (let left = length - start.length; left > 0;) {
    const name = "e".repeat(left > 250 ? 150 : left - 1);
    names.push(name);
    left -= name.length + 1;
  }
  return names;
}

onPosix("a path that is short by a link and too long without it is refused as well", () => {
  using folder = temporaryFolder();
  const [link, half] = [folder.file("link"), dirname(pathOf(folder, Math.floor(SYSTEM_MAX / 2)))];
  symlinkSync(half, link);
  // Once the folder's real path is too long itself.
  for (const length of [SYSTEM_MAX - 4, SYSTEM_MAX + 100]) {
    const names = namesBelow(half, length);
    mkdirSync(join(link, ...names), { recursive: true });
    try {
      for (const createIfMissing of [true, false]) {
        const open = (): Emdb => Emdb.open(join(link, ...names, "data.emdb"), { createIfMissing });
        expect(expectCode("EMDB_INVALID_ARGUMENT", open).message).toContain(String(MAX));
      }
    } finally {
      // By its real path nobody can remove it.
      removeTree(join(link, names[0]!));
    }
  }
});

onPosix("a database that is there is used as far as its path goes, to the byte", async () => {
  using folder = temporaryFolder();
  const isDone = async (work: Promise<void>): Promise<EmdbError | undefined> =>
    work.then(
      () => undefined,
      (error: unknown) => error as EmdbError,
    );
  for (const [ending, compacts, makesDraft] of [
    [36, true, true],
    [35, false, true],
    [26, false, true],
    [25, false, false],
    [5, false, false],
  ] as const) {
    const length = SYSTEM_MAX - ending;
    const path = madeEarlier(folder, length);
    {
      using db = Emdb.open(path);
      db.insert("two", "2");
      const errors = { compact: await isDone(db.compact()), checkpoint: await isDone(db.checkpoint()) };
      for (const error of Object.values(errors)) if (error !== undefined) expectRemedy(error, length);
      const codes = [errors.compact?.code, errors.checkpoint?.code].map((code) => code ?? "done");
      expect([ending, ...codes]).toEqual([
        ending,
        ...[compacts, makesDraft].map((done) => (done ? "done" : "EMDB_INVALID_CONFIG")),
      ]);
      expect(Emdb.lockHolder(path)?.isHeld).toBe(true);
    }
    const error = await isDone(Emdb.enableEncryption(path, KEY));
    expect([ending, error?.code ?? "done"]).toEqual([ending, makesDraft ? "done" : "EMDB_INVALID_CONFIG"]);
    if (error !== undefined) expectRemedy(error, length);
    using db = Emdb.open(path, { readOnly: true, ...(makesDraft ? { encryption: KEY } : {}) });
    expect([db.getText("one"), db.getText("two"), db.len()]).toEqual(["1", "2", 2]);
    expect(readdirSync(dirname(path)).filter((name) => name.startsWith(`${basename(path)}.emdb-`))).toEqual([]);
  }
});

onPosix("one beside which there is no room for its lock is only read, backed up and salvaged", async () => {
  using folder = temporaryFolder();
  for (const length of [SYSTEM_MAX - 4, SYSTEM_MAX]) {
    const path = madeEarlier(folder, length);
    const error = expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path));
    expectRemedy(error, length);
    expect(error.message).toContain("readOnly");
    expect(Emdb.lockHolder(path)).toBeUndefined();
    Emdb.breakLock(path);
    Emdb.breakLock(path, { force: true });
    expect(await Emdb.salvage(path, folder.file(`saved-${length}.emdb`))).toEqual({
      recoveredRecords: 1,
      lostRanges: [],
    });
    using db = Emdb.open(path, { readOnly: true });
    expect(db.getText("one")).toBe("1");
    await db.backupTo(folder.file(`backup-${length}.emdb`));
  }
});
