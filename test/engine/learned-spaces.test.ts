/** A thread knows every namespace that there is, whichever of them it has made itself and when. */

import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { Emdb } from "emdb";
import type { Engine } from "../../src/engine/engine.ts";
import { EmdbError } from "../../src/errors.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { RECLAIM_LAYOUT } from "../../src/ffi/reclaim.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";
import type { Config } from "./open-engine.ts";

const ENVIRONMENT = { system: hostSystem(), defer: () => undefined, hasWorkers: false };

/** One batch that makes namespaces, each with a record, without a look at those that there are. */
function makeBlindly(engine: Engine, names: readonly string[]): void {
  engine.writeBatch(names.map((name) => ({ space: { newName: name }, key: "key", value: name, expiresAtMs: 0 })));
}

function valueIn(engine: Engine, name: string): string | undefined {
  const space = engine.findSpace(name);
  const value = space && engine.get(space, "key");
  return value && Buffer.from(value).toString();
}

test.each([-1, 0, 2 ** 31 - 1])(
  "a thread that comes when so many layouts have been counted finds what is there (%d)",
  (layout) => {
    using folder = temporaryFolder();
    using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
    const { engine, opened } = fixture;
    engine.core.becomeShared();
    makeBlindly(engine, ["one"]);
    engine.core.control.reclaim[RECLAIM_LAYOUT] = layout;
    const other = attachTo(ENVIRONMENT, opened.base);
    expect(valueIn(other.engine, "one")).toBe("one");
    other.leave();
  },
);

test("a thread that makes a namespace before it has heard of another one's learns of that all the same", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine, opened } = fixture;
  engine.core.becomeShared();
  const other = attachTo(ENVIRONMENT, opened.base);
  makeBlindly(engine, ["one", "two"]);
  makeBlindly(other.engine, ["three", "four"]);
  makeBlindly(engine, ["five"]);
  const names = ["one", "two", "three", "four", "five"];
  for (const each of [engine, other.engine]) {
    expect(each.spaceNames()).toEqual(names);
    expect(names.map((name) => valueIn(each, name))).toEqual(names);
    for (const name of names) expect(each.spaceNamed(name).id).toBe(names.indexOf(name) + 1);
  }
  expect(other.engine.dropSpace("two")).toBe(true);
  for (const each of [engine, other.engine]) expect(each.findSpace("two")).toBeUndefined();
  other.leave();
});

const KEY = new Uint8Array(32).fill(1);
const WAYS: [string, Config["encryption"]][] = [
  ["plain", undefined],
  ["encrypted", { key: KEY }],
];

/** Makes namespaces and drops them; they take up ids. */
function makeAndDrop(engine: Engine, count: number): void {
  for (let index = 0; index < count; index++) engine.dropSpace(engine.spaceNamed(`gone ${index}`).name);
}

test.each(WAYS)(
  "the ids of dropped namespaces are free when a compacted log is opened again, %s",
  async (_, encryption) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    {
      using fixture = new EngineFixture(path, hostSystem(), { encryption });
      const { engine, opened } = fixture;
      engine.insert(engine.spaceNamed("stays"), "key", "value", 0);
      makeAndDrop(engine, 20);
      await opened.compaction.run({});
      // Whoever has a dropped one in hand must not find it to be another.
      expect(engine.spaceNamed("last").id).toBe(22);
      engine.dropSpace("last");
      await opened.compaction.run({});
    }
    for (const id of [2, 3, 0, 4]) {
      using fixture = new EngineFixture(path, hostSystem(), { encryption });
      const { engine, opened } = fixture;
      expect(opened.base.recovery.usedCheckpoint).toBe(true);
      engine.insert(engine.defaultSpace, "key", `${id}`, 0);
      if (id === 0) continue;
      expect(engine.spaceNamed(`new ${id}`).id).toBe(id);
      // Not compacted, the log names it.
      engine.dropSpace(`new ${id}`);
    }
    rmSync(`${path}.hint`);
    using fixture = new EngineFixture(path, hostSystem(), { encryption });
    expect(fixture.engine.spaceNamed("behind").id).toBe(5);
    expect(valueIn(fixture.engine, "stays")).toBe("value");
  },
);

/** A batch that has reached the file, with the namespace that it makes, when it is taken back. */
function makeInVain(engine: Engine): void {
  const { keydir } = engine.core;
  const add = keydir.add.bind(keydir);
  let count = 0;
  keydir.add = (...args) => {
    if (count++ === 50) throw new EmdbError("EMDB_FULL", "planted");
    add(...args);
  };
  const writes = Array.from({ length: 60 }, (_, index) => ({
    space: { newName: "in vain" },
    key: `key ${index}`,
    value: "v".repeat(100_000),
    expiresAtMs: 0,
  }));
  expect(() => engine.writeBatch(writes)).toThrow("planted");
  keydir.add = add;
}

test.each([
  ["dropped, plain", makeAndDrop, undefined],
  ["dropped, encrypted", makeAndDrop, { key: KEY }],
  ["taken back, plain", makeInVain, undefined],
  ["taken back, encrypted", makeInVain, { key: KEY }],
] as const)("what is created while a compaction copies keeps its id: %s", (_, make, encryption) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using fixture = new EngineFixture(path, hostSystem(), { encryption });
    const { engine, opened } = fixture;
    engine.insert(engine.spaceNamed("stays"), "key", "value", 0);
    makeAndDrop(engine, 20);
    const { compaction, work } = opened;
    expect(work.tryTake()).toBe(true);
    let isDue = true;
    for (const done of compaction.copySteps()) {
      // Something has been copied, and more is to come.
      if (isDue && done > 0) make(engine, 1);
      if (done > 0) isDue = false;
    }
    expect(isDue).toBe(false);
    for (const _ of compaction.relocationSteps());
    work.give();
  }
  for (const hasImage of [true, false]) {
    if (!hasImage) rmSync(`${path}.hint`);
    using fixture = new EngineFixture(path, hostSystem(), { encryption });
    const { engine, opened } = fixture;
    expect(opened.base.recovery.usedCheckpoint).toBe(hasImage);
    engine.spaceNamed(`made ${hasImage}`);
    expect(engine.spaceNames()).toEqual(hasImage ? ["stays", "made true"] : ["stays", "made true", "made false"]);
    expect(valueIn(engine, "stays")).toBe("value");
  }
});

test.each(WAYS)("a salvage numbers namespaces anew, also one with a late id, %s", async (_, encryption) => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("salvaged.emdb")];
  {
    using fixture = new EngineFixture(path, hostSystem(), { encryption });
    const { engine, opened } = fixture;
    makeAndDrop(engine, 20);
    engine.insert(engine.spaceNamed("stays"), "key", "value", 0);
    await opened.compaction.run({});
    expect(engine.spaceNamed("stays").id).toBe(21);
  }
  await Emdb.salvage(path, target, encryption === undefined ? {} : { encryption: { key: KEY } });
  using fixture = new EngineFixture(target, hostSystem(), { encryption });
  expect(fixture.engine.spaceNamed("stays").id).toBe(1);
  expect(valueIn(fixture.engine, "stays")).toBe("value");
});

test("an id whose creation is in the log, of a batch that ended before anybody entered it, is not given out again", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const fixture = new EngineFixture(path, hostSystem());
  const { engine, sync } = fixture;
  const { spaces } = engine;
  const create = spaces.create.bind(spaces);
  spaces.create = (space, lsn) => {
    if (space.id < 2) return create(space, lsn);
    // What has come so far is in the file: it is ended there, and not taken out of the ring.
    engine.core.tail.spill();
    throw new Error("the writer ends here");
  };
  expect(() => makeBlindly(engine, ["one", "two"])).toThrow("the writer ends here");
  spaces.create = create;
  makeBlindly(engine, ["three"]);
  expect(engine.spaceNamed("three").id).toBe(3);
  sync.flush();
  fixture[Symbol.dispose]();
  rmSync(`${path}.hint`, { force: true });
  using db = Emdb.open(path);
  expect(db.listNamespaces()).toEqual(["three"]);
});
