import { expect, test } from "bun:test";
import { codec } from "../../src/codec/codec.ts";
import type { RangeOptions } from "../../src/api/types.ts";
import { expectCode, type Features, type OnFresh, pairs, places, textOf } from "./fixture.ts";

const KEYS = ["", "a", "a\0", "aa", "ab", "b", "ba", "c"];
const ORDERED = { rangeScans: true };

/** range: records in key order within bounds. */
export function rangeCases(on: OnFresh, features: Features): void {
  for (const place of places) {
    test(
      `${place.name} gives every range of a small set exactly, both ways`,
      on(async (bench) => {
        place.of(bench.db).insertMany(KEYS.toReversed().map((key): [string, string] => [key, "x"]));
        const space = place.of(await bench.settle());
        for (const range of everyRange()) {
          const wanted = KEYS.filter((key) => isIn(key, range));
          expect([...space.range(range)].map(([key]) => textOf(key))).toEqual(wanted);
          const reversed = [...space.range({ ...range, reverse: true })].map(([key]) => textOf(key));
          expect(reversed).toEqual(wanted.toReversed());
          const two = [...space.range({ ...range, limit: 2 })].map(([key]) => textOf(key));
          expect(two).toEqual(wanted.slice(0, 2));
        }
      }, ORDERED),
    );
  }

  test(
    "of two bounds on one side both hold: every four of a small set, both ways",
    on(async (bench) => {
      bench.db.insertMany(KEYS.map((key): [string, string] => [key, "x"]));
      const db = await bench.settle();
      const points = [undefined, "", "a", "a\0", "b"];
      for (const [gt, gte] of pairsOf(points)) {
        for (const [lt, lte] of pairsOf(points)) {
          const range = { gt, gte, lt, lte } as RangeOptions<string>;
          const wanted = KEYS.filter((key) => isIn(key, range));
          const found = [...db.range(range)].map(([key]) => textOf(key));
          expect([range, found]).toEqual([range, wanted]);
          const reversed = [...db.range({ ...range, reverse: true })].map(([key]) => textOf(key));
          expect(reversed).toEqual(wanted.toReversed());
        }
      }
    }, ORDERED),
  );
  test(
    "a range without options is everything in unsigned byte order",
    on(async (bench) => {
      for (const byte of [255, 0, 128, 127, 1]) bench.db.insert(new Uint8Array([byte]), "x");
      const db = await bench.settle();
      expect([...db.range()].map(([key]) => key[0])).toEqual([0, 1, 127, 128, 255]);
    }, ORDERED),
  );
  test(
    "prefixes of 0xFF, of nothing and of a whole key find exactly theirs",
    on(({ db }) => {
      const keys = [[], [0xfe], [0xfe, 0xff], [0xff], [0xff, 0xff], [0xff, 0xff, 0]].map((key) => new Uint8Array(key));
      for (const key of keys) db.insert(key, "x");
      const found = (...prefix: number[]): string[] =>
        [...db.range({ prefix: new Uint8Array(prefix) })].map(([key]) => key.toHex());
      expect(found()).toEqual(["", "fe", "feff", "ff", "ffff", "ffff00"]);
      expect(found(0xfe)).toEqual(["fe", "feff"]);
      expect(found(0xfe, 0xff)).toEqual(["feff"]);
      expect(found(0xff)).toEqual(["ff", "ffff", "ffff00"]);
      expect(found(0xff, 0xff)).toEqual(["ffff", "ffff00"]);
      expect(found(0xff, 0xff, 0)).toEqual(["ffff00"]);
      expect(found(0xfd)).toEqual([]);
    }, ORDERED),
  );
  test(
    "a range shows its start: later writes and clear change nothing in it",
    on(({ db }) => {
      db.insertMany(KEYS.map((key): [string, string] => [key, "old"]));
      const range = db.range({ gte: "a", lt: "b" });
      range.next();
      db.insert("ab", "new");
      db.insert("aaa", "new");
      db.clear();
      expect(pairs(range)).toEqual(["a\0=old", "aa=old", "ab=old"]);
    }, ORDERED),
  );
  test(
    "a range is lazy and can be left early",
    on(({ db }) => {
      db.insertMany(Array.from({ length: 2000 }, (_, index): [string, string] => [`key ${index}`, "x"]));
      expect(db.range().take(3).toArray()).toHaveLength(3);
      const range = db.range();
      for (const _ of range) break;
      expect(range.next().done).toBe(true);
    }, ORDERED),
  );
  test(
    "a bound may be changed by the caller once range has returned",
    on(({ db }) => {
      db.insertMany([
        ["a", "1"],
        ["b", "2"],
      ]);
      const bound = new TextEncoder().encode("b");
      const range = db.range({ lt: bound });
      bound.fill(0xff);
      expect(pairs(range)).toEqual(["a=1"]);
    }, ORDERED),
  );
  test(
    "a stream of a range keeps its order and its limit",
    on(async ({ db }) => {
      db.insertMany(KEYS.map((key): [string, string] => [key, "x"]));
      const seen: (string | undefined)[] = [];
      for await (const [key] of db.stream({ gte: "a", reverse: true, limit: 3 })) seen.push(textOf(key));
      expect(seen).toEqual(["c", "ba", "b"]);
    }, ORDERED),
  );
  test(
    "typed bounds go through the key codec",
    on(({ db }) => {
      const numbers = db.namespace("numbers", { key: codec.uint32, value: codec.text });
      for (const key of [300, 2, 70_000, 1, 256]) numbers.insert(key, `n${key}`);
      expect([...numbers.range({ gt: 1, lte: 300 })]).toEqual([
        [2, "n2"],
        [256, "n256"],
        [300, "n300"],
      ]);
    }, ORDERED),
  );
  test(
    "expired records are left out of a range",
    on(({ db, clock }) => {
      db.insert("a", "1", { ttlMs: 10 });
      db.insert("b", "2");
      clock.nowMs += 10;
      expect(pairs(db.range())).toEqual(["b=2"]);
    }, ORDERED),
  );
  test(
    "bounds that cannot stand together are EMDB_INVALID_ARGUMENT",
    on(({ db }) => {
      const wrong: readonly unknown[] = [
        { prefix: "a", lt: "b" },
        { prefix: "a", gt: "a", gte: "a" },
        { gt: "a", gte: 5 },
        { lt: 5, lte: "a" },
        { limit: -1 },
        { limit: 1.5 },
        { limit: Number.NaN },
        { reverse: 1 },
        { from: "a" },
        { gt: 5 },
        null,
        "a",
      ];
      for (const range of wrong) expectCode("EMDB_INVALID_ARGUMENT", () => db.range(range as RangeOptions));
    }, ORDERED),
  );
  if (features.isAlwaysOrdered !== true) {
    test(
      "without rangeScans a range is EMDB_INVALID_CONFIG that says what to set",
      on(({ db }) => {
        expect(expectCode("EMDB_INVALID_CONFIG", () => db.range()).message).toContain("rangeScans: true");
        expectCode("EMDB_INVALID_CONFIG", () => db.stream({ gte: "a" }));
      }),
    );
  }
}

function pairsOf<T>(members: readonly T[]): [T, T][] {
  return members.flatMap((one) => members.map((other): [T, T] => [one, other]));
}

/** All pairs of a lower and an upper bound from the keys and from between them, crossing ones included. */
function* everyRange(): Generator<RangeOptions<string>> {
  const points = [...KEYS, "a\0\0", "az", "bb", "d"];
  const lowers = [{}, ...points.flatMap((key) => [{ gt: key }, { gte: key }])];
  const uppers = [{}, ...points.flatMap((key) => [{ lt: key }, { lte: key }])];
  for (const lower of lowers) for (const upper of uppers) yield { ...lower, ...upper };
}

/** JavaScript compares these strings as their bytes: all are ASCII. */
function isIn(key: string, { gt, gte, lt, lte }: RangeOptions<string>): boolean {
  return (
    (gt === undefined || key > gt) &&
    (gte === undefined || key >= gte) &&
    (lt === undefined || key < lt) &&
    (lte === undefined || key <= lte)
  );
}
