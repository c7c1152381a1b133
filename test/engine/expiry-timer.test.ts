/** The background sweep, on timers that a test fires. */

import { expect, test } from "bun:test";
import { EmdbError } from "../../src/errors.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { STATE, STATE_POISONED } from "../../src/engine/threads/control.ts";
import { SPACES_PER_LOOK, SWEEP_RECORDS_PER_SLICE, SWEEP_SLICE_PAUSE_MS } from "../../src/limits.ts";
import { Emdb } from "../../src/index.ts";
import { childCommand } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { ExpiryFixture } from "./expiry-fixture.ts";

/** Fires the only timer there is; returns its delay. */
function fire(fixture: ExpiryFixture): number {
  const [timer, ...others] = fixture.timers;
  if (timer === undefined || others.length > 0) throw new Error(`${fixture.timers.size} timers are waiting`);
  timer.fire();
  return timer.delayMs;
}

/** Fires timers until the next pass waits; returns how many slices the pass took. */
function pass(fixture: ExpiryFixture): number {
  expect(fire(fixture)).toBe(1000);
  let slices = 1;
  for (; [...fixture.timers][0]?.delayMs === SWEEP_SLICE_PAUSE_MS; slices += 1) fire(fixture);
  return slices;
}

test("without an interval there is no timer", () => {
  using fixture = new ExpiryFixture();
  expect(fixture.timers.size).toBe(0);
});

test("each pass removes what has expired from every key space, and nothing else", () => {
  using fixture = new ExpiryFixture(undefined, { sweepIntervalMs: 1000 });
  const { engine, clock } = fixture;
  const spaces = [fixture.space, engine.spaceNamed("one"), engine.spaceNamed("two")];
  for (const space of spaces) {
    for (let index = 0; index < 10; index += 1) fixture.put(`${index}`, index + 1, space);
    fixture.put("ever", undefined, space);
  }
  expect(pass(fixture)).toBe(1);
  expect(spaces.map((space) => engine.count(space))).toEqual([11, 11, 11]);
  clock.nowMs += 4;
  pass(fixture);
  expect(spaces.map((space) => engine.count(space))).toEqual([7, 7, 7]);
  engine.dropSpace("one");
  clock.nowMs += 100;
  pass(fixture);
  expect(engine.count(fixture.space)).toBe(1);
  expect(engine.count(engine.spaceNamed("two"))).toBe(1);
});

test("a backlog is swept in slices, each of its own turn", () => {
  using fixture = new ExpiryFixture(undefined, { sweepIntervalMs: 1000 });
  const { engine, clock, space } = fixture;
  for (let index = 0; index < 2 * SWEEP_RECORDS_PER_SLICE + 5; index += 1) fixture.put(`${index}`, 1);
  clock.nowMs += 1;
  fire(fixture);
  expect(engine.count(space)).toBe(SWEEP_RECORDS_PER_SLICE + 5);
  expect(fire(fixture)).toBe(SWEEP_SLICE_PAUSE_MS);
  expect(engine.count(space)).toBe(5);
  fire(fixture);
  expect(engine.count(space)).toBe(0);
});

test("a pass over very many key spaces asks some thousand of them at a time, and each once", () => {
  using fixture = new ExpiryFixture(undefined, { sweepIntervalMs: 1000 });
  const { engine, clock } = fixture;
  for (let index = 0; index < 2 * SPACES_PER_LOOK + 10; index += 1) engine.spaceNamed(`${index}`);
  const spaces = ["0", `${SPACES_PER_LOOK}`, `${2 * SPACES_PER_LOOK + 9}`].map((name) => engine.spaceNamed(name));
  for (const space of spaces) fixture.put("key", 1, space);
  const { expiry, mutex } = engine.core;
  const mayBeDue = expiry.mayBeDue.bind(expiry);
  let all = 0;
  let asked = 0;
  let most = 0;
  expiry.mayBeDue = (...question) => {
    all += 1;
    asked += 1;
    return mayBeDue(...question);
  };
  const tryLock = mutex.tryLock.bind(mutex);
  mutex.tryLock = () => {
    most = Math.max(most, asked);
    asked = 0;
    return tryLock();
  };
  expect(pass(fixture)).toBe(3);
  expect([all, Math.max(most, asked)]).toEqual([2 * SPACES_PER_LOOK + 11, SPACES_PER_LOOK]);
  clock.nowMs += 1;
  pass(fixture);
  expect(spaces.map((space) => engine.count(space))).toEqual([0, 0, 0]);
});

test("a close leaves no timer behind, in the middle of a pass neither", () => {
  const fixture = new ExpiryFixture(undefined, { sweepIntervalMs: 1000 });
  for (let index = 0; index < 2 * SWEEP_RECORDS_PER_SLICE; index += 1) fixture.put(`${index}`, 1);
  fixture.clock.nowMs += 1;
  const [first] = fixture.timers;
  fire(fixture);
  expect(fixture.timers.size).toBe(1);
  fixture.close();
  expect(fixture.timers.size).toBe(0);
  first?.fire();
  expect(fixture.timers.size).toBe(0);
});

test("a thread that attaches sweeps nothing in the background, nor does one that reads only", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using fixture = new ExpiryFixture(path, { sweepIntervalMs: 1000 });
  fixture.engine.core.becomeShared();
  const attached = attachTo(fixture.environment(), fixture.opened.base);
  expect(fixture.timers.size).toBe(1);
  using reader = new ExpiryFixture(path, { sweepIntervalMs: 1000, readOnly: true, createIfMissing: false });
  expect(reader.timers.size).toBe(0);
  attached.leave();
  expect(fixture.timers.size).toBe(1);
});

test("while another thread writes, a slice is put off and not waited for", () => {
  using fixture = new ExpiryFixture(undefined, { sweepIntervalMs: 1000 });
  const { engine, clock, space } = fixture;
  fixture.put("old", 1);
  clock.nowMs += 1;
  engine.core.mutex.tryLock = () => false;
  fire(fixture);
  expect(fire(fixture)).toBe(SWEEP_SLICE_PAUSE_MS);
  expect(engine.count(space)).toBe(1);
  Reflect.deleteProperty(engine.core.mutex, "tryLock");
  fire(fixture);
  expect(engine.count(space)).toBe(0);
});

test("what fails in the background throws nothing there, keeps every record, and meets the next explicit call", () => {
  using fixture = new ExpiryFixture(undefined, { sweepIntervalMs: 1000 });
  const { engine, clock, space } = fixture;
  fixture.put("old", 1);
  clock.nowMs += 1;
  const { tail } = engine.core;
  let thrown: Error = new EmdbError("EMDB_FULL", "no space left on device");
  tail.place = () => {
    throw thrown;
  };
  pass(fixture);
  expect(engine.count(space)).toBe(1);
  expect(() => engine.sweepExpired(space)).toThrow(expect.objectContaining({ code: "EMDB_FULL" }));
  // A bug of ours is not lost either.
  thrown = new TypeError("a bug");
  pass(fixture);
  Reflect.deleteProperty(tail, "place");
  expect(() => engine.sweepExpired(space)).toThrow("a bug");
  expect(engine.sweepExpired(space)).toBe(1);
});

test("a poisoned database is not swept", () => {
  using fixture = new ExpiryFixture(undefined, { sweepIntervalMs: 1000 });
  const { engine, clock, space } = fixture;
  fixture.put("old", 1);
  clock.nowMs += 1;
  Atomics.or(engine.core.control.flags, STATE, STATE_POISONED);
  expect(pass(fixture)).toBe(1);
  expect(engine.count(space)).toBe(1);
  Atomics.and(engine.core.control.flags, STATE, ~STATE_POISONED);
});

test("two handles of one thread must ask for the same interval, and share one sweep", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path, { sweepIntervalMs: 60_000 });
  using second = Emdb.open(path, { sweepIntervalMs: 60_000 });
  expect(second.isOpen && db.isOpen).toBe(true);
  expect(() => Emdb.open(path)).toThrow(expect.objectContaining({ code: "EMDB_INVALID_CONFIG" }));
});

test("a process that leaves a database with a background sweep open comes to its end", () => {
  const script = `
    import { Emdb } from ${JSON.stringify(`${import.meta.dir}/../../src/index.ts`)};
    Emdb.openInMemory({ sweepIntervalMs: 1 }).insert("key", "value", { ttlMs: 0 });
  `;
  const { exitCode, signalCode } = Bun.spawnSync([...childCommand(), "-e", script], { timeout: 20_000 });
  expect([exitCode, signalCode]).toEqual([0, undefined]);
});
