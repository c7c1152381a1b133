/** A thread knows every namespace that there is, whichever of them it has made itself and when. */

import { expect, test } from "bun:test";
import type { Engine } from "../../src/engine/engine.ts";
import { attachTo } from "../../src/engine/open.ts";
import { RECLAIM_LAYOUT } from "../../src/ffi/reclaim.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";

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
