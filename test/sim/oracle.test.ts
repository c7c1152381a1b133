/** The oracle: which states it takes after a crash, and under which property it refuses the others. */

import { describe, expect, test } from "bun:test";
import { Oracle } from "./oracle.ts";
import type { ModelChange } from "./model.ts";
import type { Progress } from "./oracle.ts";
import type { StoreRecord } from "./store.ts";

const NOW = 1000;

function record(key: string, value: string, expiresAtMs = 0): StoreRecord {
  return { space: "", key, value, expiresAtMs };
}

/** Inserts a=1, b=2, then the batch a=3 b=4, then clears. */
function four(): Oracle {
  const oracle = new Oracle();
  oracle.begin({ kind: "write", writes: [record("a", "1")] });
  oracle.begin({ kind: "write", writes: [record("b", "2")] });
  oracle.begin({ kind: "write", writes: [record("a", "3"), record("b", "4")] });
  oracle.begin({ kind: "clear", space: "" });
  return oracle;
}

const STATES = [
  [],
  [record("a", "1")],
  [record("a", "1"), record("b", "2")],
  [record("b", "4"), record("a", "3")],
] as const;

function property(
  oracle: Oracle,
  { shown, progress }: { readonly shown: readonly StoreRecord[]; readonly progress: Progress },
): number | undefined {
  return oracle.checkRecovered(shown, { progress, nowMs: NOW })?.property;
}

describe("after a crash", () => {
  test("every state from the acknowledged to the last begun is right, and no other", () => {
    const oracle = four();
    for (let acknowledged = 0; acknowledged <= 3; acknowledged += 1) {
      for (let issued = acknowledged; issued <= 3; issued += 1) {
        for (const [index, shown] of STATES.entries()) {
          const expected = index < acknowledged ? 2 : index > issued ? 3 : undefined;
          expect(property(oracle, { shown, progress: { acknowledged, issued } })).toBe(expected);
        }
      }
    }
  });

  test("a part of a batch is no state", () => {
    const progress = { acknowledged: 0, issued: 4 };
    for (const shown of [
      [record("a", "3"), record("b", "2")],
      [record("a", "1"), record("b", "4")],
    ]) {
      expect(property(four(), { shown, progress })).toBe(4);
    }
  });

  test("a hole in the order, a foreign value and a wrong deadline are no prefix", () => {
    const progress = { acknowledged: 0, issued: 4 };
    for (const shown of [
      [record("b", "2")],
      [record("a", "x")],
      [record("a", "1", 5000)],
      [{ ...record("a", "1"), space: "s" }],
    ]) {
      expect(property(four(), { shown, progress })).toBe(1);
    }
  });

  test("a key that comes twice is refused whatever its values", () => {
    expect(
      property(four(), { shown: [record("a", "1"), record("a", "1")], progress: { acknowledged: 0, issued: 4 } }),
    ).toBe(7);
  });

  test("what has expired has to be absent, and what has not, present", () => {
    const oracle = new Oracle();
    oracle.begin({ kind: "write", writes: [record("a", "1", NOW), record("b", "2", NOW + 1)] });
    const progress = { acknowledged: 1, issued: 1 };
    expect(property(oracle, { shown: [record("b", "2", NOW + 1)], progress })).toBeUndefined();
    expect(property(oracle, { shown: [record("a", "1", NOW), record("b", "2", NOW + 1)], progress })).toBeDefined();
    expect(property(oracle, { shown: [], progress })).toBe(2);
  });
});

describe("an operation that threw", () => {
  function threw(isRefused: boolean): Oracle {
    const oracle = new Oracle();
    oracle.begin({ kind: "write", writes: [record("a", "1")] });
    oracle.begin({ kind: "write", writes: [record("a", "2")] });
    oracle.fail({ isRefused });
    return oracle;
  }

  test("may show or not while the store was not looked at, and has not happened when it was refused", () => {
    const progress = { acknowledged: 1, issued: 2 };
    expect(property(threw(false), { shown: [record("a", "1")], progress })).toBeUndefined();
    expect(property(threw(false), { shown: [record("a", "2")], progress })).toBeUndefined();
    expect(property(threw(true), { shown: [record("a", "1")], progress })).toBeUndefined();
    expect(property(threw(true), { shown: [record("a", "2")], progress })).toBe(1);
  });

  test("is decided by what the running store shows, and may come out of a crash until that is acknowledged", () => {
    const oracle = threw(false);
    expect(oracle.observe([record("a", "1")], NOW)).toBeUndefined();
    expect(oracle.observe([record("a", "2")], NOW)?.property).toBe(7);
    expect(property(oracle, { shown: [record("a", "2")], progress: { acknowledged: 1, issued: 2 } })).toBeUndefined();
    expect(property(oracle, { shown: [record("a", "2")], progress: { acknowledged: 2, issued: 2 } })).toBe(2);
  });
});

describe("where each write is durable when it returns", () => {
  /** Inserts a=1, is refused a=2, and does one more step. */
  function behindRefused(change: ModelChange, hasWritten: boolean): Oracle {
    const oracle = new Oracle();
    oracle.begin({ kind: "write", writes: [record("a", "1")] });
    oracle.acknowledgeStep({ hasWritten: true });
    oracle.begin({ kind: "write", writes: [record("a", "2")] });
    oracle.fail({ isRefused: false });
    expect(oracle.observe([record("a", "1")], NOW)).toBeUndefined();
    oracle.begin(change);
    oracle.acknowledgeStep({ hasWritten });
    return oracle;
  }

  const nothing: ModelChange = { kind: "clear", space: "t" };
  const something: ModelChange = { kind: "write", writes: [record("b", "3")] };

  test("a step that changes nothing and writes nothing says nothing of what was refused before it", () => {
    const oracle = behindRefused(nothing, false);
    const { progress } = oracle;
    expect(property(oracle, { shown: [record("a", "1")], progress })).toBeUndefined();
    expect(property(oracle, { shown: [record("a", "2")], progress })).toBeUndefined();
    expect(property(oracle, { shown: [], progress })).toBe(2);
  });

  test("one that writes, or that had something to write, settles it", () => {
    const written = behindRefused(nothing, true);
    expect(property(written, { shown: [record("a", "2")], progress: written.progress })).toBe(2);
    for (const hasWritten of [true, false]) {
      const oracle = behindRefused(something, hasWritten);
      expect(property(oracle, { shown: [record("a", "2")], progress: oracle.progress })).toBe(2);
      expect(property(oracle, { shown: [record("a", "1")], progress: oracle.progress })).toBe(2);
    }
  });
});

test("a store that was opened again after a failed close goes on from what it shows", () => {
  const oracle = four();
  const sound = { nowMs: NOW, isVoid: false };
  expect(oracle.recover([record("b", "2")], sound)?.property).toBe(1);
  expect(oracle.recover(STATES[2], sound)).toBeUndefined();
  expect(oracle.observe(STATES[2], NOW)).toBeUndefined();
  expect(oracle.progress).toEqual({ acknowledged: 5, issued: 5 });
});

test("a store that was opened again shows what was acknowledged, unless the disk has lost that", () => {
  const oracle = four();
  oracle.acknowledge();
  expect(oracle.recover(STATES[2], { nowMs: NOW, isVoid: false })?.property).toBe(2);
  expect(oracle.recover([record("b", "2")], { nowMs: NOW, isVoid: true })?.property).toBe(1);
  expect(oracle.recover(STATES[2], { nowMs: NOW, isVoid: true })).toBeUndefined();
});
