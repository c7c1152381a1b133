import { expect, test } from "bun:test";
import { codec } from "../../src/codec/codec.ts";
import { NAMESPACE_NAME_BYTES_MAX } from "../../src/limits.ts";
import { expectCode, type OnFresh, sortedPairs } from "./fixture.ts";

/** Named key spaces. */
export function namespaceCases(on: OnFresh): void {
  test(
    "one key in many key spaces is many records",
    on(async (bench) => {
      bench.db.insert("key", "default");
      for (const name of ["one", "two"]) bench.db.namespace(name).insert("key", name);
      const db = await bench.settle();
      expect(db.getText("key")).toBe("default");
      expect(db.namespace("one").getText("key")).toBe("one");
      expect(db.namespace("two").getText("key")).toBe("two");
      expect([db.len(), db.namespace("one").len(), db.stats().liveRecords]).toEqual([1, 1, 3]);
      db.namespace("one").clear();
      expect(db.namespace("one").isEmpty()).toBe(true);
      expect(db.namespace("two").getText("key")).toBe("two");
    }),
  );
  test(
    "they are listed in order of creation, empty ones included, the default one not",
    on(async (bench) => {
      for (const name of ["zebra", "apple", "mango"]) bench.db.namespace(name);
      bench.db.namespace("apple").insert("key", "x");
      expect((await bench.settle()).listNamespaces()).toEqual(["zebra", "apple", "mango"]);
      expect(bench.db.stats().namespaceCount).toBe(3);
      expect(bench.db.dropNamespace("zebra")).toBe(true);
      bench.db.namespace("zebra");
      expect((await bench.settle()).listNamespaces()).toEqual(["apple", "mango", "zebra"]);
    }),
  );
  test(
    "a dropped one is gone with its records, and its handles say so",
    on(async (bench) => {
      const { db } = bench;
      const dropped = db.namespace("name");
      const typed = dropped.typed({ value: codec.text });
      dropped.insert("key", "value");
      expect(db.dropNamespace("name")).toBe(true);
      expect(db.dropNamespace("name")).toBe(false);
      const calls: readonly (() => unknown)[] = [
        () => dropped.get("key"),
        () => dropped.getMany(["key"]),
        () => dropped.getZeroCopy("key"),
        () => dropped.containsKey("key"),
        () => dropped.insert("key", "x"),
        () => dropped.insertMany([["key", "x"]]),
        () => dropped.insertMany([]),
        () => dropped.removeMany([]),
        () => dropped.remove("key"),
        () => dropped.removeMany(["key"]),
        () => dropped.len(),
        () => dropped.clear(),
        () => dropped.iter(),
        () => dropped.expiresAt("key"),
        () => dropped.persist("key"),
        () => dropped.sweepExpired(),
        () => dropped.update("key", () => "x"),
        () => dropped.compareAndSwap("key", undefined, "x"),
        () => typed.get("key"),
        () => dropped.typed({ value: codec.text }),
        () => typed.typed({ value: codec.bytes }),
      ];
      for (const call of calls) expectCode("EMDB_NAMESPACE_DROPPED", call);
      const again = db.namespace("name");
      expect(again.len()).toBe(0);
      again.insert("new", "x");
      expectCode("EMDB_NAMESPACE_DROPPED", () => dropped.get("new"));
      const after = await bench.settle();
      expect(sortedPairs(after.namespace("name"))).toEqual(["new=x"]);
    }),
  );
  test(
    "any non-empty string is a name, up to its limit",
    on(async (bench) => {
      const names = [
        " ",
        "a/b",
        "..",
        "NUL",
        "\0",
        "\u00e9",
        "e\u0301",
        "\u{1f511}",
        // A byte-order mark is a character like any other.
        "\ufeff",
        "a",
        "\ufeffa",
        "x".repeat(NAMESPACE_NAME_BYTES_MAX),
      ];
      for (const name of names) bench.db.namespace(name).insert("key", name);
      const db = await bench.settle();
      expect(db.listNamespaces()).toEqual(names);
      for (const name of names) {
        expect(db.namespace(name).name).toBe(name);
        expect(db.namespace(name).getText("key")).toBe(name);
      }
      expect(db.listNamespaces()).toEqual(names);
    }),
  );
  test(
    "a wrong name is refused and creates nothing",
    on(({ db }) => {
      for (const name of ["", 5, undefined, null, "\ud800", new Uint8Array(2)]) {
        expectCode("EMDB_INVALID_ARGUMENT", () => db.namespace(name as string));
        expectCode("EMDB_INVALID_ARGUMENT", () => db.dropNamespace(name as string));
      }
      const error = expectCode("EMDB_TOO_LARGE", () => db.namespace("x".repeat(NAMESPACE_NAME_BYTES_MAX + 1)));
      expect(error.message).toContain(String(NAMESPACE_NAME_BYTES_MAX));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.namespace("name", {} as never));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.namespace("name", { value: codec.json } as never));
      expect(db.listNamespaces()).toEqual([]);
    }),
  );
  test(
    "a thousand namespaces hold one record each",
    on(async (bench) => {
      for (let index = 0; index < 1000; index += 1) bench.db.namespace(`n${index}`).insert("key", `${index}`);
      const db = await bench.settle();
      expect(db.stats().namespaceCount).toBe(1000);
      for (const index of [0, 1, 500, 999]) expect(db.namespace(`n${index}`).getText("key")).toBe(`${index}`);
    }),
  );
  test(
    "a walk that was taken before the drop goes on to its end",
    on(({ db }) => {
      const space = db.namespace("name");
      space.insertMany([
        ["a", "1"],
        ["b", "2"],
      ]);
      const walk = space.iter();
      walk.next();
      db.dropNamespace("name");
      expect([...walk]).toHaveLength(1);
    }),
  );
}
