import { expect, test } from "bun:test";
import { expectCode, type Features, type OnFresh, pairs, sortedPairs, textOf } from "./fixture.ts";

/** focus, group, deleteGroup: dotted prefixes, with the ordered index and without. */
export function focusCases(on: OnFresh, features: Features): void {
  const hasRanges = features.lacks?.includes("range") !== true;
  for (const options of hasRanges ? [{}, { rangeScans: true }] : [{}]) {
    const how = "rangeScans" in options ? "with the ordered index" : "without an ordered index";
    test(
      `a focus is exactly its prefix and a dot, ${how}`,
      on(async (bench) => {
        const near = ["user", "user.", "user.1", "user.1.name", "users.1", "user-1", "user/1", "xuser.1"];
        bench.db.insertMany(near.map((key): [string, string] => [key, "x"]));
        const db = await bench.settle();
        expect(sortedPairs(db.focus("user").iter())).toEqual(["user.1.name=x", "user.1=x", "user.=x"]);
        expect(sortedPairs(db.group("user.1"))).toEqual(["user.1.name=x"]);
        expect(sortedPairs(db.group("none"))).toEqual([]);
        expect(sortedPairs(db.group("user."))).toEqual([]);
      }, options),
    );
    test(
      `deleteGroup and deleteAll remove their records and no others, ${how}`,
      on(async (bench) => {
        const keys = ["a.1", "a.2", "a", "ab.1", "b.1", "b.2.c", "b.2.d"];
        bench.db.insertMany(keys.map((key): [string, string] => [key, "x"]));
        bench.db.insert("a.old", "x", { ttlMs: 1 });
        bench.clock.nowMs += 1;
        expect(bench.db.deleteGroup("a")).toBe(2);
        expect(bench.db.deleteGroup("a")).toBe(0);
        expect(bench.db.focus("b").focus("2").deleteAll()).toBe(2);
        expect(sortedPairs(await bench.settle())).toEqual(["a=x", "ab.1=x", "b.1=x"]);
      }, options),
    );
  }

  test(
    "set, get, containsKey and remove work on the whole key",
    on(async (bench) => {
      bench.db.focus("user").focus("1").set("name", "Ada", { ttlMs: 50 });
      const db = await bench.settle();
      const user = db.focus("user").focus("1");
      expect(user.prefix).toBe("user.1");
      expect(db.getText("user.1.name")).toBe("Ada");
      expect(db.ttl("user.1.name")).toBe(50);
      expect(textOf(user.get("name"))).toBe("Ada");
      expect(user.containsKey("name")).toBe(true);
      expect(textOf(user.remove("name"))).toBe("Ada");
      expect(user.containsKey("name")).toBe(false);
      expect(user.remove("name")).toBeUndefined();
    }),
  );
  test(
    "empty parts and parts with dots are joined as they are",
    on(({ db }) => {
      db.focus("").set("", "1");
      db.focus("a.b").set("c.d", "2");
      expect(sortedPairs(db)).toEqual([".=1", "a.b.c.d=2"]);
      const inner = db.focus("a").focus("b").focus("c");
      expect(textOf(inner.get("d"))).toBe("2");
      expect(Reflect.set(inner, "prefix", "")).toBe(false);
      expect(inner.prefix).toBe("a.b.c");
    }),
  );
  test(
    "wrong parts are EMDB_INVALID_ARGUMENT and write nothing",
    on(({ db }) => {
      for (const part of [5, undefined, "\ud800", new Uint8Array(1)]) {
        expectCode("EMDB_INVALID_ARGUMENT", () => db.focus(part as string));
        expectCode("EMDB_INVALID_ARGUMENT", () => db.focus("a").focus(part as string));
        expectCode("EMDB_INVALID_ARGUMENT", () => db.focus("a").set(part as string, "x"));
        expectCode("EMDB_INVALID_ARGUMENT", () => db.deleteGroup(part as string));
      }
      expectCode("EMDB_INVALID_ARGUMENT", () => db.focus("a").set("key", 5 as never));
      expectCode("EMDB_TOO_LARGE", () => db.focus("a").set("x".repeat(65_535), "x"));
      expect(db.len()).toBe(0);
    }),
  );
  if (!hasRanges) return;
  test(
    "a group is in key order when there is an ordered index",
    on(
      ({ db }) => {
        for (const key of ["g.b", "g.a", "g.c", "h"]) db.insert(key, "x");
        expect(pairs(db.group("g"))).toEqual(["g.a=x", "g.b=x", "g.c=x"]);
      },
      { rangeScans: true },
    ),
  );
}
