import { expect, test } from "bun:test";
import type { Transaction } from "../../src/api/types.ts";
import { expectCode, type OnFresh, sortedPairs, textOf } from "./fixture.ts";

/** Transactions: all or nothing, over any key spaces, reading their own writes. */
export function transactionCases(on: OnFresh): void {
  test(
    "writes to several key spaces happen together, and the result is returned",
    on(async (bench) => {
      bench.db.insertMany([
        ["gone", "x"],
        ["kept", "x"],
      ]);
      const result = bench.db.transaction((tx) => {
        tx.insert("a", "1");
        tx.namespace("orders").insert("b", "2");
        tx.namespace("orders").insert("c", "3");
        expect(textOf(tx.remove("gone"))).toBe("x");
        return "result";
      });
      expect(result).toBe("result");
      const db = await bench.settle();
      expect(sortedPairs(db)).toEqual(["a=1", "kept=x"]);
      expect(sortedPairs(db.namespace("orders"))).toEqual(["b=2", "c=3"]);
    }),
  );
  test(
    "a throw writes nothing, creates nothing, and comes through unchanged",
    on(async (bench) => {
      bench.db.insert("key", "before");
      for (const failure of [new Error("mine"), "a string", undefined]) {
        let thrown: unknown = "nothing";
        try {
          bench.db.transaction((tx) => {
            tx.insert("key", "after");
            tx.insert("new", "x");
            tx.namespace("new").insert("key", "x");
            throw failure;
          });
        } catch (error) {
          thrown = error;
        }
        expect(thrown).toBe(failure);
      }
      const db = await bench.settle();
      expect(sortedPairs(db)).toEqual(["key=before"]);
      expect(db.listNamespaces()).toEqual([]);
    }),
  );
  test(
    "reads inside see its own writes, reads outside the committed state",
    on(({ db }) => {
      db.insert("key", "before");
      db.transaction((tx) => {
        expect(textOf(tx.get("key"))).toBe("before");
        tx.insert("key", "after");
        expect(textOf(tx.get("key"))).toBe("after");
        expect(db.getText("key")).toBe("before");
        expect(textOf(tx.remove("key"))).toBe("after");
        expect(tx.get("key")).toBeUndefined();
        expect(tx.containsKey("key")).toBe(false);
        expect(tx.remove("key")).toBeUndefined();
        expect(db.containsKey("key")).toBe(true);
        tx.insert("key", "again");
        expect(tx.containsKey("key")).toBe(true);
        expect(db.len()).toBe(1);
      });
      expect(db.getText("key")).toBe("again");
    }),
  );
  test(
    "a string and its bytes are one key inside as outside",
    on(({ db }) => {
      db.transaction((tx) => {
        for (const key of ["plain", "\u00e9", "", "\u00ff\u0100"]) {
          const bytes = new TextEncoder().encode(key);
          tx.insert(key, "1");
          expect(textOf(tx.get(bytes))).toBe("1");
          tx.insert(bytes, "2");
          expect(textOf(tx.get(key))).toBe("2");
        }
        // Characters as bytes would make these one key.
        tx.insert(new Uint8Array([0xe9]), "3");
        expect(textOf(tx.get("\u00e9"))).toBe("2");
      });
      expect(db.len()).toBe(5);
    }),
  );
  test(
    "arrays given to it may be changed before the commit, and those it gives are the caller's own",
    on(({ db }) => {
      const key = new TextEncoder().encode("key");
      const value = new TextEncoder().encode("value");
      db.transaction((tx) => {
        tx.insert(key, value);
        key.fill(0);
        value.fill(0);
        tx.get("key")?.fill(1);
      });
      expect(db.getText("key")).toBe("value");
    }),
  );
  test(
    "TTL counts inside: expired is absent, and the deadline is committed",
    on(({ db, clock }) => {
      db.insert("old", "x", { ttlMs: 5 });
      clock.nowMs += 5;
      db.transaction((tx) => {
        expect(tx.get("old")).toBeUndefined();
        tx.insert("at once", "x", { ttlMs: 0 });
        expect(tx.get("at once")).toBeUndefined();
        expect(tx.containsKey("at once")).toBe(false);
        tx.insert("later", "x", { ttlMs: 10 });
        tx.insert("kept", "x", { ttlMs: 100 });
      });
      clock.nowMs += 10;
      expect(db.ttl("kept")).toBe(90);
      expect(db.get("later")).toBeUndefined();
      expect(db.get("at once")).toBeUndefined();
    }),
  );
  test(
    "time stands still inside: what is there at the start does not expire between two reads of it",
    on(({ db, clock }) => {
      db.insert("key", "x", { ttlMs: 5 });
      db.namespace("other").insert("key", "y", { ttlMs: 5 });
      db.transaction((tx) => {
        clock.nowMs += 4;
        expect(textOf(tx.get("key"))).toBe("x");
        clock.nowMs += 100;
        expect(textOf(tx.get("key"))).toBe("x");
        expect(tx.containsKey("key")).toBe(true);
        expect(textOf(tx.namespace("other").get("key"))).toBe("y");
        expect(db.ttl("key")).toBe(5);
        tx.insert("new", "x", { ttlMs: 104 });
        expect(tx.containsKey("new")).toBe(true);
      });
      expect(db.get("key")).toBeUndefined();
      // A time to live is counted from the insert.
      expect(db.ttl("new")).toBe(104);
      clock.nowMs += 104;
      expect(db.get("new")).toBeUndefined();
      expect(() =>
        db.transaction(() => {
          clock.nowMs += 1;
          throw new Error("rolled back");
        }),
      ).toThrow("rolled back");
      db.insert("after", "x", { ttlMs: 1 });
      clock.nowMs += 1;
      expect(db.get("after")).toBeUndefined();
    }),
  );
  test(
    "a namespace that does not exist is empty inside, and created only by a write that commits",
    on(({ db }) => {
      db.transaction((tx) => {
        const space = tx.namespace("new");
        expect(space.get("key")).toBeUndefined();
        expect(space.containsKey("key")).toBe(false);
        expect(space.remove("key")).toBeUndefined();
      });
      expect(db.listNamespaces()).toEqual([]);
      db.transaction((tx) => {
        const unwritten = tx.namespace("new");
        unwritten.insert("key", "x");
        unwritten.remove("key");
        unwritten.remove("no such key");
      });
      expect(db.listNamespaces()).toEqual([]);
      db.transaction((tx) => tx.namespace("new").insert("key", "x"));
      expect(db.listNamespaces()).toEqual(["new"]);
      expectCode("EMDB_INVALID_ARGUMENT", () => db.transaction((tx) => tx.namespace("")));
    }),
  );
  test(
    "a body that returns a promise is EMDB_TRANSACTION_ASYNC, rolls back, and its rejection ends nothing",
    on(async ({ db }) => {
      expectCode("EMDB_TRANSACTION_ASYNC", () =>
        db.transaction(async (tx) => {
          tx.insert("key", "x");
          await Promise.resolve();
          // The transaction has ended by now: this rejects the promise, which nobody waits for.
          tx.insert("late", "x");
        }),
      );
      expectCode("EMDB_TRANSACTION_ASYNC", () => db.transaction(() => Promise.reject(new Error("unseen"))));
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
      expect(db.len()).toBe(0);
    }),
  );
  test(
    "a generator, of which a call runs nothing, is EMDB_INVALID_ARGUMENT",
    on(({ db }) => {
      const bodies = [
        function* (tx: { insert(key: string, value: string): void }) {
          tx.insert("key", "x");
          yield;
        },
        async function* (tx: { insert(key: string, value: string): void }) {
          tx.insert("key", "x");
          yield;
        },
      ];
      for (const body of bodies) expectCode("EMDB_INVALID_ARGUMENT", () => db.transaction<unknown>(body));
    }),
  );
  test(
    "its object is EMDB_INVALID_ARGUMENT after the end, also after a throw",
    on(({ db }) => {
      const kept: Transaction[] = [];
      db.transaction((tx) => kept.push(tx));
      expect(() =>
        db.transaction((tx) => {
          kept.push(tx);
          throw new Error("over");
        }),
      ).toThrow("over");
      const spaces = kept.flatMap((tx) => [
        () => tx.insert("key", "x"),
        () => tx.get("key"),
        () => tx.containsKey("key"),
        () => tx.remove("key"),
        () => tx.namespace("name"),
      ]);
      expect(spaces).toHaveLength(10);
      for (const call of spaces) expectCode("EMDB_INVALID_ARGUMENT", call);
      expect(db.len()).toBe(0);
    }),
  );
  test(
    "nothing nests: another transaction, an update and every direct write inside are refused",
    on(({ db }) => {
      const space = db.namespace("there");
      const writes: readonly (() => unknown)[] = [
        () => db.transaction(() => 1),
        () => db.update("key", () => "x"),
        () => db.insert("key", "x"),
        () => space.insert("key", "x"),
        () => space.clear(),
        () => db.namespace("new"),
        () => db.dropNamespace("there"),
        () => db.deleteGroup("key"),
        () => db.focus("key").set("x", "x"),
        () => db.closeSync(),
      ];
      for (const write of writes) {
        db.transaction((tx) => {
          expectCode("EMDB_INVALID_ARGUMENT", write);
          tx.insert("mine", "x");
        });
      }
      expect(db.transaction(() => db.namespace("there").len())).toBe(0);
      expect(sortedPairs(db)).toEqual(["mine=x"]);
      expect(db.listNamespaces()).toEqual(["there"]);
      db.insert("after", "x");
    }),
  );
  test(
    "a wrong argument inside is thrown there, and caught there leaves the rest to commit",
    on(({ db }) => {
      db.transaction((tx) => {
        tx.insert("good", "x");
        expectCode("EMDB_INVALID_ARGUMENT", () => tx.insert("bad", 5 as never));
        expectCode("EMDB_INVALID_ARGUMENT", () => tx.insert(5 as never, "x"));
        expectCode("EMDB_INVALID_ARGUMENT", () => tx.insert("bad", "x", { ttlMs: -1 }));
      });
      expect(sortedPairs(db)).toEqual(["good=x"]);
      expectCode("EMDB_INVALID_ARGUMENT", () => db.transaction(5 as never));
    }),
  );
}
