/** The system gives no memory at one moment or another: counts stay exact, and what is done is told as done. */

import { describe, expect, test } from "bun:test";
import type { RecordSource } from "../../src/engine/contract.ts";
import type { SpaceState } from "../../src/engine/spaces.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { RECLAIM_ATTACHED } from "../../src/ffi/reclaim.ts";
import { orderingFaults } from "../support/ordering-faults.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";

const LATER_MS = 4e12;
const keyOf = (index: number): string => `key ${String((index * 7919) % 100_003).padStart(6, "0")}`;

interface Plan {
  /** Refuses the memory that is asked for from here, where it says so. */
  refuses: (() => boolean) | undefined;
  refusals: number;
}

/** An engine with an ordered index, for which memory is short when the plan says so. */
function scarce(path: string): { readonly fixture: EngineFixture; readonly plan: Plan; readonly space: SpaceState } {
  const plan: Plan = { refuses: undefined, refusals: 0 };
  const system = faulty(hostSystem(), (call) => {
    if (call !== "commit" || plan.refuses?.() !== true) return undefined;
    plan.refusals += 1;
    return -Errno.ENOMEM;
  });
  const fixture = new EngineFixture(path, system, { rangeScans: true });
  return { fixture, plan, space: fixture.engine.defaultSpace };
}

/** As if another Worker had come that reads nothing: what is retired is kept, nodes are written anew. */
function shareIndex({ engine }: EngineFixture): void {
  engine.core.becomeShared();
  Atomics.add(engine.core.control.reclaim, RECLAIM_ATTACHED, 1);
}

function unshareIndex({ engine }: EngineFixture): void {
  Atomics.sub(engine.core.control.reclaim, RECLAIM_ATTACHED, 1);
}

/** Throws, or finds a fault, where counts, queue or indexes disagree. */
function checkAll(fixture: EngineFixture): void {
  const { core, spaces, defaultSpace } = fixture.engine;
  fixture.state();
  fixture.checkLiveBytes();
  expect(orderingFaults(core, spaces)).toEqual([]);
  const withDeadline = [...fixture.engine.snapshot(defaultSpace)].filter(({ expiresAtMs }) => expiresAtMs !== 0);
  expect(core.expiry.facts(defaultSpace.address).live).toBe(withDeadline.length);
}

describe("a write that finds no memory", () => {
  test.each([false, true])("leaves the counts as they were, whichever memory that is (shared: %p)", (isShared) => {
    using folder = temporaryFolder();
    const { fixture, plan, space } = scarce(folder.file("data.emdb"));
    using _ = fixture;
    const { engine } = fixture;
    if (isShared) shareIndex(fixture);
    let told = 0;
    const attempt = (write: () => void): void => {
      try {
        write();
      } catch (error) {
        expect(error).toMatchObject({ code: "EMDB_IO", errno: "ENOMEM" });
        told += 1;
      }
    };
    for (let index = 0; index < 6000; index += 1) {
      plan.refuses = index % 3 === 0 ? undefined : (): boolean => true;
      const key = keyOf(index % 2500);
      if (index % 7 < 5) attempt(() => engine.insert(space, key, `${index}`, index % 2 === 0 ? LATER_MS : 0));
      else attempt(() => engine.remove(space, key));
      if (index % 500 === 0) checkAll(fixture);
    }
    plan.refuses = undefined;
    checkAll(fixture);
    expect(told).toBeGreaterThan(2);
    if (isShared) unshareIndex(fixture);
  });
});

const noMemory = (): never => {
  throw new EmdbError("EMDB_IO", "no memory");
};

describe("what gives memory back finds none, and what was done is told as done", () => {
  test("a removal whose shard cannot be laid out anew is made", () => {
    using folder = temporaryFolder();
    const { fixture, space } = scarce(folder.file("data.emdb"));
    using _ = fixture;
    const { engine } = fixture;
    engine.insert(space, "key", "value", LATER_MS);
    engine.core.keydir.shrink = noMemory;
    expect(Buffer.from(engine.remove(space, "key")!).toString()).toBe("value");
    expect(engine.has(space, "key")).toBe(false);
    checkAll(fixture);
  });

  test("a write that cannot tidy the ordered index behind it is made, and a later one tidies", () => {
    using folder = temporaryFolder();
    const { fixture, space } = scarce(folder.file("data.emdb"));
    using _ = fixture;
    const { engine } = fixture;
    for (let index = 0; index < 500; index += 1) engine.insert(space, keyOf(index), "value", 0);
    using walk = held(engine.snapshot(space));
    const { index: tree } = engine.core.ordering!;
    let looks = 0;
    const tidy = tree.tidy.bind(tree);
    tree.tidy = (): never => {
      looks += 1;
      return noMemory();
    };
    for (let index = 0; index < 500; index += 1) expect(engine.remove(space, keyOf(index))).toBeDefined();
    expect([looks > 0, engine.count(space)]).toEqual([true, 0]);
    tree.tidy = tidy;
    walk.end();
    engine.insert(space, "after", "it", 0);
    checkAll(fixture);
  });

  test("a clear and a drop that cannot empty the grave are made", () => {
    using folder = temporaryFolder();
    const { fixture, space } = scarce(folder.file("data.emdb"));
    using _ = fixture;
    const { engine } = fixture;
    engine.insert(space, "key", "value", 0);
    engine.insert(engine.spaceNamed("named"), "key", "value", 0);
    const { emptyGraves } = engine.spaces;
    engine.spaces.emptyGraves = noMemory;
    engine.clear(space);
    expect(engine.dropSpace("named")).toBe(true);
    expect([engine.count(space), engine.findSpace("named")]).toEqual([0, undefined]);
    engine.spaces.emptyGraves = emptyGraves;
    engine.insert(space, "key", "again", 0);
    checkAll(fixture);
  });

  test("a walk that ends then ends, and lets go of the writer's lock", () => {
    using folder = temporaryFolder();
    const { fixture, plan, space } = scarce(folder.file("data.emdb"));
    using _ = fixture;
    const { engine } = fixture;
    engine.core.becomeShared();
    for (const emptyAllGraves of [noMemory, engine.spaces.emptyAllGraves.bind(engine.spaces)]) {
      for (let index = 0; index < 300; index += 1) engine.insert(space, keyOf(index), "value", LATER_MS);
      using walk = held(engine.snapshot(space));
      engine.clear(space);
      engine.spaces.emptyAllGraves = emptyAllGraves;
      plan.refuses = (): boolean => true;
      walk.end();
      plan.refuses = undefined;
      expect(engine.core.mutex.isHeld).toBe(false);
      checkAll(fixture);
    }
  });
});

/** A walk that has begun, and ends with the test. */
function held(walk: RecordSource): Disposable & { readonly end: () => void } {
  walk.next();
  const end = (): void => void walk.return();
  return { end, [Symbol.dispose]: end };
}

test("a change of the ordered index that finds no memory at its end retires each block once", () => {
  using folder = temporaryFolder();
  const { fixture, plan, space } = scarce(folder.file("data.emdb"));
  using _ = fixture;
  const { engine } = fixture;
  const { reclaim, heap } = engine.core;
  shareIndex(fixture);
  const retired = new Set<number>();
  const again: number[] = [];
  const [retireBlock, takeBlock] = [reclaim.retireBlock.bind(reclaim), heap.takeBlock.bind(heap)];
  let isDue = false;
  reclaim.retireBlock = (block): void => {
    if (retired.has(block)) again.push(block);
    retired.add(block);
    retireBlock(block);
    if (isDue) noMemory();
  };
  heap.takeBlock = (): number => {
    const block = takeBlock();
    retired.delete(block);
    return block;
  };
  let told = 0;
  for (let index = 0; index < 1500; index += 1) {
    isDue = index % 5 === 0;
    try {
      engine.insert(space, keyOf(index), "value", 0);
    } catch (error) {
      expect(error).toMatchObject({ code: "EMDB_IO" });
      told += 1;
    }
  }
  isDue = false;
  expect([told > 10, again]).toEqual([true, []]);
  expect(plan.refusals).toBe(0);
  checkAll(fixture);
  unshareIndex(fixture);
});
