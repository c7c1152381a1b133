import { expect, test } from "bun:test";
import type { BytesLike } from "../../src/api/types.ts";
import { KEY_BYTES_MAX } from "../../src/limits.ts";
import { bytesOf, expectCode, type OnFresh, places, sortedPairs, textOf } from "./fixture.ts";

/** insertMany, getMany, removeMany. */
export function batchCases(on: OnFresh): void {
  for (const place of places) {
    test(
      `${place.name} takes a batch from an array, a Map and a generator`,
      on(async (bench) => {
        const space = place.of(bench.db);
        expect(space.insertMany([["a", "1"]])).toBe(1);
        expect(space.insertMany(new Map<BytesLike, BytesLike>([["b", "2"]]))).toBe(1);
        expect(space.insertMany(numbered(3))).toBe(3);
        expect(space.insertMany([])).toBe(0);
        const after = place.of(await bench.settle());
        expect(sortedPairs(after.iter())).toEqual(["0=0", "1=1", "2=2", "a=1", "b=2"]);
      }),
    );
    test(
      `${place.name} keeps the last of a repeated key, and counts each entry`,
      on(async (bench) => {
        const entries: [string, string][] = [
          ["key", "first"],
          ["other", "x"],
          ["key", "last"],
        ];
        expect(place.of(bench.db).insertMany(entries)).toBe(3);
        const after = place.of(await bench.settle());
        expect(after.getText("key")).toBe("last");
        expect(after.len()).toBe(2);
      }),
    );
    test(
      `${place.name} gets many in the order asked, repeated and absent ones included`,
      on(({ db }) => {
        const space = place.of(db);
        space.insertMany([
          ["a", "1"],
          ["b", "2"],
        ]);
        const asked = ["b", "none", "a", "b"];
        expect(space.getMany(asked).map(textOf)).toEqual(["2", undefined, "1", "2"]);
        expect(space.getMany(new Set(asked)).map(textOf)).toEqual(["2", undefined, "1"]);
        expect(space.getMany(asked.map(bytesOf).values()).map(textOf)).toEqual(["2", undefined, "1", "2"]);
        expect(space.getMany([])).toEqual([]);
        expect(space.getMany(["", "a", ""]).map(textOf)).toEqual([undefined, "1", undefined]);
      }),
    );
    test(
      `${place.name} removes many and counts those that were present, each once`,
      on(async (bench) => {
        const space = place.of(bench.db);
        space.insertMany(numbered(5));
        expect(space.removeMany(["0", "none", "3", "0"])).toBe(2);
        expect(space.removeMany([])).toBe(0);
        expect(sortedPairs(place.of(await bench.settle()).iter())).toEqual(["1=1", "2=2", "4=4"]);
      }),
    );
  }

  test(
    "a generator may fill one buffer again for each entry",
    on(({ db }) => {
      const buffer = new Uint8Array(1);
      function* reused(): Generator<[Uint8Array, Uint8Array]> {
        for (let byte = 97; byte < 100; byte += 1) {
          buffer[0] = byte;
          yield [buffer, buffer];
        }
      }
      function* keys(): Generator<Uint8Array> {
        for (const [key] of reused()) yield key;
      }
      expect(db.insertMany(reused())).toBe(3);
      expect(sortedPairs(db.iter())).toEqual(["a=a", "b=b", "c=c"]);
      expect(db.getMany(keys()).map(textOf)).toEqual(["a", "b", "c"]);
      expect(db.removeMany(keys())).toBe(3);
    }),
  );
  test(
    "a wrong entry, anywhere, writes nothing of the batch",
    on(async (bench) => {
      bench.db.insert("kept", "1");
      const wrong: readonly unknown[] = [
        ["key", undefined],
        [5, "value"],
        "kv",
        undefined,
        [new Uint8Array(KEY_BYTES_MAX + 1), "value"],
      ];
      for (const entry of wrong) {
        const entries = [["a", "1"], entry, ["b", "2"]] as [string, string][];
        expect(() => bench.db.insertMany(entries)).toThrow();
      }
      expectCode("EMDB_INVALID_ARGUMENT", () => bench.db.removeMany(["kept", 5 as never]));
      expectCode("EMDB_INVALID_ARGUMENT", () => bench.db.insertMany([["a", "1"]], { ttlMs: Number.NaN }));
      const db = await bench.settle();
      expect(sortedPairs(db.iter())).toEqual(["kept=1"]);
    }),
  );
  test(
    "an iterable that throws writes nothing, and its error comes through unchanged",
    on(({ db }) => {
      const failure = new Error("from the source");
      function* failing(): Generator<[string, string]> {
        yield ["a", "1"];
        throw failure;
      }
      expect(() => db.insertMany(failing())).toThrow(failure);
      expect(db.len()).toBe(0);
    }),
  );
  test(
    "a batch larger than any buffer comes back whole",
    on(async (bench) => {
      const value = new Uint8Array(3000).fill(120);
      const entries = Array.from({ length: 2000 }, (_, index): [string, Uint8Array] => [`key ${index}`, value]);
      expect(bench.db.insertMany(entries)).toBe(2000);
      const db = await bench.settle();
      expect(db.len()).toBe(2000);
      const values = db.getMany(entries.map(([key]) => key));
      expect(values.every((found) => found !== undefined && Buffer.compare(found, value) === 0)).toBe(true);
    }),
  );
  test(
    "a batch may read what it is about to replace",
    on(({ db }) => {
      db.insertMany(numbered(3));
      const doubled = db.iter().map(([key, value]): [Uint8Array, string] => [key, `${textOf(value)}${textOf(value)}`]);
      expect(db.insertMany(doubled)).toBe(3);
      expect(sortedPairs(db)).toEqual(["0=00", "1=11", "2=22"]);
    }),
  );
}

function* numbered(count: number): Generator<[string, string]> {
  for (let index = 0; index < count; index += 1) yield [String(index), String(index)];
}
