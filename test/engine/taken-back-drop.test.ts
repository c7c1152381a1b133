/** A namespace whose drop is taken back is found by its name again, in every thread that looked for it meanwhile. */

import { expect, spyOn, test } from "bun:test";
import { attachTo } from "../../src/engine/open/open.ts";
import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";

const ENVIRONMENT = { system: hostSystem(), defer: () => undefined, hasWorkers: false };

for (const hasLearned of [true, false]) {
  test(`a thread that looks while a drop fails, and had ${hasLearned ? "" : "not "}seen the namespace before`, () => {
    using folder = temporaryFolder();
    using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
    const { engine, opened } = fixture;
    engine.core.becomeShared();
    const other = attachTo(ENVIRONMENT, opened.base).engine;
    engine.insert(engine.spaceNamed("users"), "1", "Ada", 0);
    if (hasLearned) expect(other.findSpace("users")).toBeDefined();
    const spy = spyOn(engine.spaces, "bury").mockImplementation(() => {
      expect(other.findSpace("users")).toBeUndefined();
      throw new EmdbError("EMDB_FULL", "the disk is full");
    });
    expect(() => engine.dropSpace("users")).toThrow("the disk is full");
    spy.mockRestore();
    for (const each of [other, engine]) {
      expect(each.spaceNames()).toEqual(["users"]);
      expect(each.count(each.spaceNamed("users"))).toBe(1);
      expect(each.spaceNames()).toEqual(["users"]);
    }
    expect(other.dropSpace("users")).toBe(true);
    for (const each of [other, engine]) expect([each.spaceNames(), each.findSpace("users")]).toEqual([[], undefined]);
    expect(engine.count(engine.spaceNamed("users"))).toBe(0);
    expect(other.spaceNamed("users").id).toBe(engine.spaceNamed("users").id);
  });
}
