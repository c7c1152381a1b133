/** Deadlines of batches that are taken back: what they entered is nothing, and what they replaced is in the queue as before. */

import { expect, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { attachTo } from "../../src/engine/open/open.ts";
import { EmdbError } from "../../src/errors.ts";
import { Random } from "../sim/random.ts";
import { entriesOf, queueFaults } from "../support/queue-faults.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { ExpiryFixture, failAppends, healAppends } from "./expiry-fixture.ts";

test.each([
  ["a plain log", undefined],
  ["an encrypted log", { key: new Uint8Array(32).fill(3) }],
])(
  "a deadline of a batch that was taken back is nothing to what the same key has at the same place, in %s",
  (_, key) => {
    using folder = temporaryFolder();
    const encryption = key && { key: key.key.slice() };
    using fixture = new ExpiryFixture(folder.file("data.emdb"), { encryption });
    const { engine, clock, space } = fixture;
    const gone = engine.spaceNamed("gone");
    engine.dropSpace("gone");
    for (const ttlMs of [undefined, 1000]) {
      const place = engine.core.visible;
      const expiresAtMs = clock.nowMs + 50;
      expect(() =>
        engine.writeBatch([
          { space, key: "key", value: "v", expiresAtMs },
          { space: gone, key: "k", value: "v", expiresAtMs: 0 },
        ]),
      ).toThrow();
      expect(engine.core.visible).toBe(place);
      fixture.put("key", ttlMs);
      clock.nowMs += 60;
      expect(engine.sweepExpired(space)).toBe(0);
      expect(engine.has(space, "key")).toBe(true);
      expect(fixture.facts().entries).toBe(ttlMs === undefined ? 0 : 1);
      fixture.checkQueue();
    }
    clock.nowMs += 1000;
    expect(engine.sweepExpired(space)).toBe(1);
  },
);

test("batches that fail over and over leave no heap of entries behind, and no deadline is lost", () => {
  using fixture = new ExpiryFixture();
  const { engine, clock, space } = fixture;
  const random = new Random(325);
  for (let index = 0; index < 1000; index += 1) fixture.put(`${index}`, 1000 + index);
  for (let round = 0; round < 100; round += 1) {
    failAppends(fixture, 100);
    const expiresAtMs = clock.nowMs + 10;
    const writes = Array.from({ length: 100 }, () => ({
      space,
      key: `${random.below(1000)}`,
      value: "v",
      expiresAtMs,
    }));
    expect(() => engine.writeBatch(writes)).toThrow(EmdbError);
    healAppends(fixture);
    expect(fixture.facts().entries).toBeLessThan(2000);
  }
  expect(queueFaults(engine, space)).toEqual([]);
});

test("what another thread could not take back is taken back with its deadlines by who writes next", () => {
  using fixture = new ExpiryFixture();
  const { engine, space, clock } = fixture;
  const one = attachTo(fixture.environment(), fixture.opened.base);
  for (let index = 0; index < 1000; index += 1) fixture.put(`${index}`, 1000 + index);
  const expiresAtMs = clock.nowMs + 10;
  const writes = Array.from({ length: 1000 }, (_, index) => ({ space, key: `${index}`, value: "v", expiresAtMs }));
  const { tail, lookup } = one.engine.core;
  const place = tail.place.bind(tail);
  let left = 1000;
  tail.place = (bytes: number): number => {
    left -= 1;
    if (left > 0) return place(bytes);
    lookup.loadAnyAt = refuse;
    return refuse();
  };
  expect(() => one.engine.writeBatch(writes)).toThrow(EmdbError);
  Reflect.deleteProperty(lookup, "loadAnyAt");
  expect(one.engine.core.tail.end).toBeGreaterThan(engine.core.visible);
  fixture.put("after", 1000);
  expect(queueFaults(engine, space)).toEqual([]);
  expect(engine.sweepExpired(space)).toBe(0);
  expect(queueFaults(engine, space)).toEqual([]);
  expectOnce(fixture);
  one.leave();
});

test("what a log has of a batch that was taken back enters no deadline twice when it is opened", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using fixture = new ExpiryFixture(path);
  const { engine, space, clock } = fixture;
  const { tail } = engine.core;
  for (let index = 0; index < 1000; index += 1) fixture.put(`${index}`, 1000 + index);
  const expiresAtMs = clock.nowMs + 10;
  const writes = Array.from({ length: 100 }, (_, index) => ({ space, key: `${index}`, value: "v", expiresAtMs }));
  failAppends(fixture, 100);
  const fails = tail.place;
  let placed = 0;
  // Half of it is in the file by then.
  tail.place = (bytes: number): number => {
    placed += 1;
    if (placed === 50) tail.spill();
    return fails(bytes);
  };
  expect(() => engine.writeBatch(writes)).toThrow(EmdbError);
  healAppends(fixture);
  fixture.put("after", 1000);
  fixture.opened.sync!.flush();
  const copied = folder.file("copied.emdb");
  copyFileSync(path, copied);
  using again = new ExpiryFixture(copied);
  expect(again.opened.base.recovery).toMatchObject({ usedCheckpoint: false, tornBytes: 0 });
  expect(queueFaults(again.engine, again.space)).toEqual([]);
  expect(again.facts().live).toBe(1001);
  expectOnce(again);
});

/** Every entry is there once: one that is there twice would never look stale. */
function expectOnce({ engine, space }: ExpiryFixture): void {
  const entries = entriesOf(engine.core, space);
  expect(new Set(entries).size).toBe(entries.length);
}

test.each(["clear", "drop"])("a %s that is refused when all is buried leaves every deadline in the queue", (how) => {
  using folder = temporaryFolder();
  using fixture = new ExpiryFixture(folder.file("data.emdb"), { flushPlan: { kind: "write-through" } });
  const { engine } = fixture;
  const { tail } = engine.core;
  const space = engine.spaceNamed("full");
  for (let index = 0; index < 300; index += 1) fixture.put(`${index}`, 1000 + index, space);
  const facts = fixture.facts(space);
  tail.spill = refuse;
  expect(() => (how === "clear" ? engine.clear(space) : engine.dropSpace("full"))).toThrow("planted");
  Reflect.deleteProperty(tail, "spill");
  engine.settle();
  expect([fixture.facts(space), queueFaults(engine, space)]).toEqual([facts, []]);
});

function refuse(): never {
  throw new EmdbError("EMDB_FULL", "planted");
}
