/**
 * A log that went another way than the one that an image was made from: a copy that was written on, and put in the place of
 * the file it was made of. Its image of before costs time, and nothing else.
 */

import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { copyFileSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import type { OpenOptions } from "../../src/api/types.ts";
import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { sampleOf } from "../support/platform.ts";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";

setDefaultTimeout(60_000);

const PLAIN: OpenOptions = { rangeScans: true };
const SEALED: OpenOptions = { ...PLAIN, encryption: { key: new Uint8Array(32).fill(1) } };
const texts = (keys: Iterable<Uint8Array>): string[] => [...keys].map((key) => Buffer.from(key).toString());

interface Fork {
  /** The file at the path, before it is copied; whether it is copied while it is open. */
  readonly stem: (db: Emdb) => void;
  readonly isOpen: boolean;
  /** How the one goes on whose image stays, and the other, which takes its place. */
  readonly one: (db: Emdb) => void;
  readonly other: (db: Emdb) => void;
}

/** Opens the other way of a log beside the image of the one; what it holds must be what it holds without. */
async function expectImagePassedOver(folder: TemporaryFolder, options: OpenOptions, fork: Fork): Promise<void> {
  const [path, copy, alone] = ["db", "copy", "alone"].map((name) => folder.file(name)) as [string, string, string];
  {
    using db = Emdb.open(path, options);
    fork.stem(db);
    db.flushSync();
    if (fork.isOpen) {
      copyFileSync(path, copy);
      fork.one(db);
    }
  }
  if (!fork.isOpen) {
    copyFileSync(path, copy);
    using db = Emdb.open(path, options);
    fork.one(db);
  }
  {
    using db = Emdb.open(copy, options);
    fork.other(db);
  }
  copyFileSync(copy, alone);
  rmSync(`${copy}.hint`);
  renameSync(copy, path);
  using expected = Emdb.open(alone, options);
  {
    using db = Emdb.open(path, options);
    expect(db.recovery.usedCheckpoint).toBe(false);
    expect(texts(db.keys()).sort()).toEqual(texts(expected.keys()).sort());
    expect(texts([...db.range()].map(([key]) => key))).toEqual(texts([...expected.range()].map(([key]) => key)));
    for (const key of expected.keys()) expect(db.get(key)).toEqual(expected.get(key));
    expect(db.listNamespaces()).toEqual(expected.listNamespaces());
    expect((await db.verify()).problems).toEqual([]);
    db.insert("written on", "it");
  }
  using again = Emdb.open(path, options);
  expect(again.recovery.usedCheckpoint).toBe(true);
  expect(again.len()).toBe(expected.len() + 1);
}

const insert = (...keys: string[]) => {
  return (db: Emdb): void => keys.forEach((key) => db.insert(key, "1"));
};

for (const [name, options] of [
  ["plain", PLAIN],
  ["encrypted", SEALED],
] as const) {
  test(`a copy that ends as the file does and held something else before, ${name}`, async () => {
    for (const isOpen of [false, true]) {
      using folder = temporaryFolder();
      await expectImagePassedOver(folder, options, {
        stem: insert("base"),
        isOpen,
        one: insert("ann", "state"),
        other: insert("bob", "state"),
      });
    }
  });

  test(`a copy of a long file, ${name}`, async () => {
    const stem = (db: Emdb): void => {
      for (let number = 0; number < 400; number++) db.insert(`base ${number}`, "v".repeat(100 + number));
    };
    for (const [one, other] of [
      [insert("ann", "state"), insert("bob", "state")],
      [insert("a", "longer"), insert("another", "state", "and more")],
      [(db: Emdb) => db.clear(), insert("bob")],
    ] as const) {
      using folder = temporaryFolder();
      await expectImagePassedOver(folder, options, { stem, isOpen: false, one, other });
    }
  });

  test(`a rotten byte among the last ones before the end of an image costs its own record, ${name}`, () => {
    // Of two keys with one hash the get of one meets the other's record, which is not opened when it has rotted.
    using _ = spyOn(hostSystem(), "random").mockImplementation((into) => void into.fill(7));
    using folder = temporaryFolder();
    const path = folder.file("db");
    const lsns: number[] = [];
    {
      using db = Emdb.open(path, options);
      for (let number = 0; number < 40; number++) {
        lsns.push(db.stats().logicalSizeBytes);
        db.insert(`key ${number}`, "v".repeat(100));
      }
    }
    const sound = readFileSync(path);
    for (const rotten of sampleOf([3, 20, 39], 1)) {
      const file = Uint8Array.from(sound);
      file[lsns[rotten]! + 60]! ^= 1;
      writeFileSync(path, file);
      using db = Emdb.open(path, { ...options, readOnly: true });
      expect(db.recovery.usedCheckpoint).toBe(true);
      expect(db.len()).toBe(40);
      for (let number = 0; number < 40; number++) if (number !== rotten) expect(db.get(`key ${number}`)).toBeDefined();
    }
  });

  test(`a copy whose namespaces have ids that its log did not name, ${name}`, async () => {
    using folder = temporaryFolder();
    const [path, copy] = [folder.file("db"), folder.file("copy")];
    {
      const { rangeScans = false, encryption } = options;
      using fixture = new EngineFixture(path, hostSystem(), { rangeScans, encryption });
      const { engine } = fixture;
      engine.insert(engine.defaultSpace, "base", "1", 0);
      const { keydir } = engine.core;
      const add = keydir.add.bind(keydir);
      keydir.add = () => {
        throw new EmdbError("EMDB_FULL", "planted");
      };
      // They are given out, and taken back.
      const writes = ["gone", "gone too"].map((newName) => ({
        space: { newName },
        key: "key",
        value: "1",
        expiresAtMs: 0,
      }));
      expect(() => engine.writeBatch(writes)).toThrow("planted");
      keydir.add = add;
    }
    copyFileSync(path, copy);
    {
      // Without the image it begins anew with the first id.
      using db = Emdb.open(copy, options);
      db.namespace("made").insert("key", "1");
      db.transaction((tx) => tx.namespace("more").insert("key", "2"));
    }
    renameSync(copy, path);
    for (const readOnly of [true, false]) {
      using db = Emdb.open(path, { ...options, readOnly });
      expect(db.recovery.usedCheckpoint).toBe(true);
      expect(db.listNamespaces()).toEqual(["made", "more"]);
      expect(
        texts(
          db
            .namespace("more")
            .range()
            .map(([key]) => key),
        ),
      ).toEqual(["key"]);
      expect([db.getText("base"), db.namespace("made").getText("key")]).toEqual(["1", "1"]);
      expect((await db.verify()).problems).toEqual([]);
      if (!readOnly) db.namespace("last").insert("key", "3");
    }
    rmSync(`${path}.hint`);
    using db = Emdb.open(path, options);
    expect(db.listNamespaces()).toEqual(["made", "more", "last"]);
    expect(db.namespace("last").getText("key")).toBe("3");
  });

  test(`a copy of a file that was cleared, or given namespaces, since, ${name}`, async () => {
    const ways: ((db: Emdb) => void)[] = [
      (db) => db.clear(),
      (db) => ["n", "n1", "n2", "n3"].forEach((space) => void db.namespace(space)),
    ];
    for (const one of ways) {
      for (const isOpen of [false, true]) {
        for (const count of sampleOf([1, 2, 3, 5, 12], 1)) {
          using folder = temporaryFolder();
          const keys = Array.from({ length: count }, (_, number) => `bob ${number}`);
          await expectImagePassedOver(folder, options, { stem: insert("base"), isOpen, one, other: insert(...keys) });
        }
      }
    }
  });
}
