import { expect, test } from "bun:test";
import { expectCode, type OnFresh, places, sortedPairs, sortedTexts, textOf } from "./fixture.ts";

/** iter, keys, values, stream: point-in-time walks in no promised order. */
export function walkCases(on: OnFresh): void {
  for (const place of places) {
    test(
      `${place.name} walks every record once, as pairs, keys and values`,
      on(async (bench) => {
        place.of(bench.db).insertMany(letters());
        const space = place.of(await bench.settle());
        expect(sortedPairs(space.iter())).toEqual(["a=1", "b=2", "c=3"]);
        expect(sortedPairs(space)).toEqual(["a=1", "b=2", "c=3"]);
        expect(sortedTexts(space.keys())).toEqual(["a", "b", "c"]);
        expect(sortedTexts(space.values())).toEqual(["1", "2", "3"]);
      }),
    );
    test(
      `${place.name} shows a walk nothing of what happens after its start`,
      on(({ db }) => {
        const space = place.of(db);
        space.insertMany(letters());
        const walk = space.iter();
        const untouched = space.values();
        const first = walk.next();
        space.insert("a", "changed");
        space.remove("b");
        space.insert("new", "new");
        space.clear();
        space.insert("c", "after clear");
        const seen = first.done === true ? [] : [first.value, ...walk];
        expect(sortedPairs(seen)).toEqual(["a=1", "b=2", "c=3"]);
        expect(sortedTexts(untouched)).toEqual(["1", "2", "3"]);
        expect(sortedPairs(space)).toEqual(["c=after clear"]);
      }),
    );
    test(
      `${place.name} streams the same records`,
      on(async (bench) => {
        place.of(bench.db).insertMany(letters());
        const seen: [Uint8Array, Uint8Array][] = [];
        for await (const pair of place.of(await bench.settle()).stream()) seen.push(pair);
        expect(sortedPairs(seen)).toEqual(["a=1", "b=2", "c=3"]);
      }),
    );
  }

  test(
    "an iterator has the helpers of Iterator and ends for good",
    on(({ db }) => {
      db.insertMany(letters());
      const notB = db.keys().filter((key) => textOf(key) !== "b");
      expect(sortedTexts(notB)).toEqual(["a", "c"]);
      expect(db.iter().take(2).toArray()).toHaveLength(2);
      const walk = db.iter();
      expect(walk).toBeInstanceOf(Iterator);
      expect(walk[Symbol.iterator]()).toBe(walk);
      for (const _ of walk) break;
      expect(walk.next()).toEqual({ done: true, value: undefined });
      expect(walk.return?.()).toEqual({ done: true, value: undefined });
    }),
  );
  test(
    "a walk outlives a compaction",
    on(async (bench) => {
      const { db } = bench;
      db.insertMany(letters());
      const walk = db.iter();
      walk.next();
      db.insert("a", "changed");
      await bench.compact();
      expect([...walk]).toHaveLength(2);
    }),
  );
  test(
    "what a walk yields is the caller's own",
    on(({ db }) => {
      db.insert("key", "value");
      for (const [key, value] of db) {
        key.fill(0);
        value.fill(0);
      }
      expect(db.getText("key")).toBe("value");
    }),
  );
  test(
    "a walk goes on after close as EMDB_CLOSED, not as an end",
    on(({ db }) => {
      db.insertMany(letters());
      const walk = db.iter();
      walk.next();
      db.closeSync();
      expectCode("EMDB_CLOSED", () => walk.next());
    }),
  );
  test(
    "a stream can be cancelled, reads nothing ahead and lets the event loop turn",
    on(async ({ db }) => {
      const entries = Array.from({ length: 1000 }, (_, index): [string, string] => [`key ${index}`, "x"]);
      db.insertMany(entries);
      const reader = db.stream().getReader();
      expect((await reader.read()).done).toBe(false);
      await reader.cancel();
      expect((await reader.read()).done).toBe(true);

      let isTurned = false;
      setImmediate(() => {
        isTurned = true;
      });
      let seenCount = 0;
      let seenBeforeTurn = 0;
      for await (const _ of db.stream()) {
        seenCount += 1;
        if (!isTurned) seenBeforeTurn = seenCount;
      }
      expect(seenCount).toBe(1000);
      expect(seenBeforeTurn).toBeLessThan(1000);
    }),
  );
  test(
    "a stream shows its start, whatever is written while it is read",
    on(async ({ db }) => {
      db.insertMany(letters());
      const stream = db.stream();
      db.clear();
      const seen: [Uint8Array, Uint8Array][] = [];
      for await (const pair of stream) seen.push(pair);
      expect(sortedPairs(seen)).toEqual(["a=1", "b=2", "c=3"]);
    }),
  );
  test(
    "a stream whose database closes ends in EMDB_CLOSED",
    on(async ({ db }) => {
      db.insertMany(letters());
      const reader = db.stream().getReader();
      await reader.read();
      db.closeSync();
      const error: unknown = await reader.read().then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).toMatchObject({ code: "EMDB_CLOSED" });
    }),
  );
}

function letters(): [string, string][] {
  return [
    ["a", "1"],
    ["b", "2"],
    ["c", "3"],
  ];
}
