/** Calls at the end of the stack: of a recursion that went too deep, and that somebody catches further up. */

import { expect, test } from "bun:test";
import { LONG_WORK, SYNC_OWNER } from "../../src/engine/threads/control.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { requireStack } from "../../src/engine/stack-room.ts";
import { Emdb, type OpenOptions } from "../../src/index.ts";
import { stateOf } from "../engine/fixture.ts";
import { openFile } from "../engine/open-engine.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

/** Calls where the stack ends, then a call further up each time, until nothing is thrown; returns what was. */
function fromTheEnd(attempt: () => unknown): unknown[] {
  const thrown: unknown[] = [];
  let isDone = false;
  const descend = (): void => {
    try {
      descend();
    } catch {
      // There is the end, or it was too near to go on.
    }
    if (isDone) return;
    try {
      attempt();
      isDone = true;
    } catch (error) {
      thrown.push(error);
    }
  };
  descend();
  expect(isDone).toBe(true);
  return thrown;
}

/** There was no room for some, and that is all that was told. */
function expectRangeErrors(thrown: readonly unknown[]): void {
  expect(thrown.length).toBeGreaterThan(0);
  expect(new Set(thrown.map((error) => (error instanceof RangeError ? "RangeError" : String(error))))).toEqual(
    new Set(["RangeError"]),
  );
}

test("what the stack has no room for keeps neither the writer's lock nor the sync nor the place of long work", () => {
  using folder = temporaryFolder();
  const opened = openFile(hostSystem(), folder.file("data.emdb"), { flushPlan: { kind: "on-each-flush" } });
  const { engine, sync } = opened;
  const { core, defaultSpace } = engine;
  const calls: (() => unknown)[] = [
    () => engine.insert(defaultSpace, "a", "1", 0),
    () => engine.insertMany(defaultSpace, ["a", "b"], ["2", "2"], 0),
    () => sync!.flush(),
    () => engine.remove(defaultSpace, "a"),
    () => engine.exclusively(() => engine.insert(defaultSpace, "c", "3", 0)),
    () => engine.dropSpace(engine.spaceNamed("n").name),
    () => engine.sweepExpired(defaultSpace),
    () => sync!.flush(),
    () => engine.removeMany(defaultSpace, ["b", "c"]),
    () => engine.clear(defaultSpace),
    () => opened.work.tryTake() && opened.work.give(),
    () => opened.checkpoint!.runSync(),
  ];
  for (const call of calls) {
    expectRangeErrors(fromTheEnd(call));
    expect(core.mutex.isHeld).toBe(false);
    expect([core.control.flags[SYNC_OWNER], core.control.flags[LONG_WORK]]).toEqual([0, 0]);
  }
  expect(engine.snapshots.walk(defaultSpace, "pairs").batch()).toBeUndefined();
  opened.leave();
});

const WAYS: readonly (readonly [string, OpenOptions])[] = [
  ["plain", {}],
  ["ordered", { rangeScans: true, verifyReads: true }],
  ["encrypted", { rangeScans: true, encryption: { key: new Uint8Array(32).fill(7) } }],
  ["written through", { flushPolicy: "write-through" }],
];

test.each(WAYS)("what calls at the end of the stack leave is whole, %s", async (_, options) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const pairs = Array.from({ length: 100 }, (_, index): [string, string] => [`key ${index}`, "v".repeat(index * 3)]);
  const run = (db: Emdb, call: (db: Emdb) => unknown): void => expectRangeErrors(fromTheEnd(() => call(db)));
  const calls: ((db: Emdb) => unknown)[] = [
    (db) => db.insertMany(pairs),
    (db) => db.insert("key 7", "another"),
    (db) => db.insert("long", "l".repeat(100_000)),
    (db) => db.transaction((tx) => pairs.map(([key]) => tx.namespace("n").insert(key, "of n"))),
    (db) => db.update("key 8", () => "updated"),
    (db) => db.compareAndSwap("key 9", "v".repeat(27), "swapped"),
    (db) => db.removeMany(["key 10", "key 11", "absent"]),
    (db) => db.flushSync(),
    (db) => db.namespace("n").clear(),
    (db) => [...db.iter()].length,
    (db) => db.remove("key 12"),
  ];
  const expected = Emdb.openInMemory();
  for (const call of calls) call(expected);
  const state = stateOf(expected);
  {
    using db = Emdb.open(path, options);
    for (const call of calls) run(db, call);
    expect(stateOf(db)).toBe(state);
    expect((await db.verify()).problems).toEqual([]);
  }
  using db = Emdb.open(path, options);
  expect(stateOf(db)).toBe(state);
  expect((await db.verify()).problems).toEqual([]);
  expected.closeSync();
});

test.each(WAYS)("an open or a close that the stack has no room for leaves nobody's lock behind, %s", (_, options) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  for (let round = 0; round < 3; round += 1) {
    let db: Emdb | undefined;
    expectRangeErrors(fromTheEnd(() => (db = Emdb.open(path, options))));
    db!.insert(`round ${round}`, "kept");
    expectRangeErrors(fromTheEnd(() => db!.closeSync()));
    expect(db!.isOpen).toBe(false);
  }
  using db = Emdb.open(path, options);
  expect([0, 1, 2].map((round) => db.getText(`round ${round}`))).toEqual(["kept", "kept", "kept"]);
});

test("a close that the stack has no room for leaves the handle open, and the next one closes it", async () => {
  using folder = temporaryFolder();
  const db = Emdb.open(folder.file("data.emdb"));
  const closings: Promise<void>[] = [];
  fromTheEnd(() => {
    // For what is done with the promise here.
    requireStack();
    closings.push(db.close());
    if (db.isOpen) throw new Error("refused");
  });
  const outcomes = await Promise.allSettled(closings);
  expect(outcomes.pop()!.status).toBe("fulfilled");
  expectRangeErrors(outcomes.map((outcome) => (outcome.status === "rejected" ? outcome.reason : "closed")));
});
