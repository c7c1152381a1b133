/** Compaction and backup of encrypted databases: they stay encrypted, and open with the same secret and no other. */

import { expect, spyOn, test } from "bun:test";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { attachTo } from "../../src/engine/open/open.ts";
import { SessionBook } from "../../src/engine/sealed/session-book.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { SEGMENT_COUNT_MAX } from "../../src/log/segments.ts";
import { EngineFixture } from "../engine/engine-fixture.ts";
import { stateOf } from "../engine/fixture.ts";
import { turn } from "../support/turns.ts";
import { expectCode } from "../contract/fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { framesOf, repair } from "./attack-fixture.ts";
import { KEY, make, openWith, OTHER, TELLTALES, visibleState } from "./rekey-fixture.ts";

const SECRET = { key: KEY };

function expectNoTelltale(file: Uint8Array): void {
  for (const text of TELLTALES) expect(Buffer.from(file).includes(text)).toBe(false);
}

test.each(["aes-256-gcm", "chacha20-poly1305"] as const)(
  "a database encrypted with %s compacts again and again, is written to in between, and opens with its secret",
  async (cipher) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    let state: string;
    {
      await using db = Emdb.open(path, { encryption: SECRET, cipher, rangeScans: true });
      for (let index = 0; index < 600; index++) db.insert(`key ${index % 200}`, `telltale value ${index}`);
      const walk = db.iter();
      const first = walk.next().value?.[0];
      await db.compact();
      expect([first, ...walk.map(([key]) => key)].length).toBe(200);
      db.insert("behind it", "telltale value");
      expect(db.getText("key 199")).toBe("telltale value 599");
      await db.compact();
      for (let index = 0; index < 50; index++) db.remove(`key ${index}`);
      await db.compact();
      expect(db.stats().deadBytes).toBe(0);
      expect([...db.range({ prefix: "key 19" })].length).toBe(10);
      expect((await db.verify()).problems).toEqual([]);
      state = stateOf(db);
    }
    expectNoTelltale(readFileSync(path));
    expect(readdirSync(folder.path).sort()).toEqual(["data.emdb", "data.emdb.hint", "data.emdb.lock"]);
    expectCode("EMDB_KEY_MISMATCH", () => openWith(path, { key: OTHER }));
    {
      using db = openWith(path, SECRET);
      expect(db.recovery.usedCheckpoint).toBe(true);
      expect(stateOf(db)).toBe(state);
    }
    // Without the image every frame is opened on the way.
    writeFileSync(`${path}.hint`, "");
    using again = openWith(path, SECRET);
    expect(stateOf(again)).toBe(state);
  },
);

test("a backup is one encrypted file that opens with the same secret, also after that was changed in the source", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("backup.emdb")];
  const state = make(path, SECRET);
  {
    using db = openWith(path, SECRET);
    await db.backupTo(target);
  }
  await Emdb.rotateEncryptionKey(path, SECRET, { key: OTHER });
  expectNoTelltale(readFileSync(target));
  expectCode("EMDB_INVALID_CONFIG", () => openWith(target));
  expectCode("EMDB_KEY_MISMATCH", () => openWith(target, { key: OTHER }));
  using copy = openWith(target, SECRET);
  expect(visibleState(copy)).toBe(state);
  expect((await copy.verify()).problems).toEqual([]);
  copy.insert("of its own", "value");
});

test("a frame of the generation before, or of a backup, put in its old place is EMDB_CORRUPTED there", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("backup.emdb")];
  const write = (db: Emdb): void => {
    for (let index = 0; index < 8; index++) db.insert(`key ${index}`, "telltale value");
  };
  {
    using db = openWith(path, SECRET);
    write(db);
  }
  const before = readFileSync(path);
  {
    using db = openWith(path, SECRET);
    await db.backupTo(target);
    await db.compact();
  }
  const after = readFileSync(path);
  for (const other of [before, readFileSync(target)]) {
    let tried = 0;
    for (const { lsn, bytes } of framesOf(after).slice(0, 9)) {
      const there = framesOf(other).find((frame) => frame.lsn === lsn && frame.bytes === bytes);
      if (there === undefined) continue;
      tried += 1;
      const forged = new Uint8Array(after);
      forged.set(other.subarray(lsn, lsn + bytes), lsn);
      repair(forged, lsn);
      writeFileSync(path, forged);
      writeFileSync(`${path}.hint`, "");
      expect(expectCode("EMDB_CORRUPTED", () => openWith(path, SECRET)).offset).toBe(lsn);
    }
    expect(tried).toBeGreaterThan(5);
  }
});

test("the keys of a file are wiped in each thread once compactions have replaced it and nobody reads it any more", async () => {
  using folder = temporaryFolder();
  using asked = spyOn(SessionBook.prototype, "sealerAt");
  using wiped = spyOn(SessionBook.prototype, "wipe");
  /** Files whose keys some thread has. */
  const known = (): number => new Set(asked.mock.contexts).difference(new Set(wiped.mock.contexts)).size;
  const encryption = { key: new Uint8Array(KEY) };
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), { encryption });
  fixture.engine.core.becomeShared();
  const defer = (work: () => void): void => void setImmediate(work);
  const other = attachTo({ system: hostSystem(), defer, hasWorkers: false }, fixture.opened.base);
  const threads = [fixture.engine, other.engine];
  const compactOften = async (first: number, count: number): Promise<number> => {
    let most = 0;
    for (let round = first; round < first + count; round++) {
      for (const { defaultSpace } of threads) fixture.engine.insert(defaultSpace, `key ${round % 8}`, `in ${round}`, 0);
      fixture.opened.compaction.runSync();
      for (const engine of threads)
        expect(engine.get(engine.defaultSpace, `key ${round % 8}`)).toEqual(Buffer.from(`in ${round}`));
      // Another thread is seen past a file when its event loop has turned.
      await turn();
      most = Math.max(most, known());
    }
    return most;
  };
  // That of the file in service, and that of the one before until the next compaction.
  expect(await compactOften(0, 16)).toBeLessThanOrEqual(2 * threads.length);
  const walks = threads.map((engine) => engine.snapshot(engine.defaultSpace));
  const before = Array.from({ length: 8 }, (_, index) => `in ${index + 8}`).sort();
  expect(await compactOften(16, SEGMENT_COUNT_MAX - 1)).toBeLessThanOrEqual(SEGMENT_COUNT_MAX * threads.length);
  for (const walk of walks) expect([...walk].map(({ value }) => Buffer.from(value).toString()).sort()).toEqual(before);
  expect(await compactOften(32, 8)).toBeLessThanOrEqual(2 * threads.length);
  other.leave();
  fixture.close();
  expect(known()).toBe(0);
});
