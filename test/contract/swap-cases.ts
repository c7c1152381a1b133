import { expect, test } from "bun:test";
import { codec } from "../../src/codec/codec.ts";
import { expectCode, type OnFresh, places, textOf } from "./fixture.ts";

/** compareAndSwap and update. */
export function swapCases(on: OnFresh): void {
  for (const place of places) {
    test(
      `${place.name} swaps exactly when the current value is the expected one`,
      on(async (bench) => {
        const space = place.of(bench.db);
        expect(space.compareAndSwap("key", "something", "1")).toBe(false);
        expect(space.compareAndSwap("key", undefined, "1")).toBe(true);
        expect(space.compareAndSwap("key", undefined, "2")).toBe(false);
        expect(space.compareAndSwap("key", "11", "2")).toBe(false);
        expect(space.compareAndSwap("key", "", "2")).toBe(false);
        expect(space.getText("key")).toBe("1");
        expect(space.compareAndSwap("key", new TextEncoder().encode("1"), "2", { ttlMs: 50 })).toBe(true);
        expect(place.of(await bench.settle()).getText("key")).toBe("2");
        expect(place.of(bench.db).ttl("key")).toBe(50);
      }),
    );
    test(
      `${place.name} removes by a swap to undefined`,
      on(({ db }) => {
        const space = place.of(db);
        space.insert("key", "1");
        expect(space.compareAndSwap("key", "2", undefined)).toBe(false);
        expect(space.compareAndSwap("key", "1", undefined)).toBe(true);
        expect(space.containsKey("key")).toBe(false);
        expect(space.compareAndSwap("key", undefined, undefined)).toBe(true);
        expect(space.len()).toBe(0);
      }),
    );
    test(
      `${place.name} updates: absent, present, and away again`,
      on(async (bench) => {
        const add = (current: Uint8Array | undefined): string => `${textOf(current) ?? ""}+`;
        expect(textOf(place.of(bench.db).update("key", add))).toBe("+");
        expect(textOf(place.of(bench.db).update("key", add, { ttlMs: 9 }))).toBe("++");
        const space = place.of(await bench.settle());
        expect(space.getText("key")).toBe("++");
        expect(space.ttl("key")).toBe(9);
        expect(space.update("key", () => undefined)).toBeUndefined();
        expect(space.update("key", () => undefined)).toBeUndefined();
        expect(space.len()).toBe(0);
      }),
    );
  }

  test(
    "an expired value is absent to a swap and to an update",
    on(({ db, clock }) => {
      db.insert("key", "old", { ttlMs: 1 });
      clock.nowMs += 1;
      let seen: Uint8Array | undefined = new Uint8Array(1);
      db.update("key", (current) => {
        seen = current;
        return undefined;
      });
      expect(seen).toBeUndefined();
      db.insert("key", "old", { ttlMs: 1 });
      clock.nowMs += 1;
      expect(db.compareAndSwap("key", undefined, "new")).toBe(true);
    }),
  );
  test(
    "a time to live begins when update writes, however long its function took",
    on(({ db, clock }) => {
      const slowly = (): string => {
        clock.nowMs += 50;
        return "value";
      };
      expect(textOf(db.update("key", slowly, { ttlMs: 20 }))).toBe("value");
      expect(db.ttl("key")).toBe(20);
    }),
  );
  test(
    "what update throws comes through unchanged and nothing is written",
    on(({ db }) => {
      const failure = new Error("from the change");
      db.insert("key", "1");
      const failing = (): never => {
        throw failure;
      };
      expect(() => db.update("key", failing)).toThrow(failure);
      expect(db.getText("key")).toBe("1");
      db.insert("key", "2");
      expect(db.getText("key")).toBe("2");
    }),
  );
  test(
    "an update may not write to the database, and may read from it",
    on(({ db }) => {
      db.insert("other", "5");
      expect(textOf(db.update("key", () => db.getText("other") ?? ""))).toBe("5");
      const writes: readonly (() => unknown)[] = [
        () => db.insert("x", "1"),
        () => db.remove("other"),
        () => db.insertMany([["x", "1"]]),
        () => db.removeMany(["other"]),
        () => db.clear(),
        () => db.update("x", () => "1"),
        () => db.compareAndSwap("x", undefined, "1"),
        () => db.persist("other"),
        () => db.sweepExpired(),
        () => db.transaction(() => 1),
        () => db.namespace("new"),
        () => db.dropNamespace("new"),
        () => db.deleteGroup("other"),
        () => db.typed({ value: codec.text }).remove("other"),
        () => db.closeSync(),
      ];
      for (const write of writes) {
        db.update("key", (current) => {
          expectCode("EMDB_INVALID_ARGUMENT", write);
          return current;
        });
      }
      expect(db.len()).toBe(2);
      expect(db.listNamespaces()).toEqual([]);
      expect(db.isOpen).toBe(true);
    }),
  );
  test(
    "an update whose function returns a promise is EMDB_TRANSACTION_ASYNC and writes nothing",
    on(({ db }) => {
      const typed = db.typed({ value: codec.json() });
      expectCode("EMDB_TRANSACTION_ASYNC", () => typed.update("key", () => Promise.reject(new Error("late"))));
      expectCode("EMDB_TRANSACTION_ASYNC", () => db.update("key", (async () => "x") as never));
      expect(db.len()).toBe(0);
    }),
  );
  test(
    "wrong arguments of both write nothing",
    on(({ db }) => {
      db.insert("key", "1");
      expectCode("EMDB_INVALID_ARGUMENT", () => db.compareAndSwap("key", "1", 5 as never));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.compareAndSwap("key", 5 as never, "2"));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.compareAndSwap("key", "1", "2", { ttlMs: -1 }));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.update("key", "2" as never));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.update("key", () => 5 as never));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.update("key", () => "2", { ttlMs: -1 }));
      expect(db.getText("key")).toBe("1");
    }),
  );
  test(
    "a thousand updates count to a thousand",
    on(async (bench) => {
      const counter = bench.db.typed({ value: codec.uint32 });
      for (let round = 0; round < 1000; round += 1) counter.update("count", (current = 0) => current + 1);
      expect((await bench.settle()).typed({ value: codec.uint32 }).get("count")).toBe(1000);
    }),
  );
}
