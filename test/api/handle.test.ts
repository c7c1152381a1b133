/** Several handles on one engine, failures of the engine, and what the api lets go of. */

import { describe, expect, test } from "bun:test";
import { codec } from "../../src/codec/codec.ts";
import { Database } from "../../src/api/database.ts";
import type { Codec } from "../../src/api/types.ts";
import { EmdbError } from "../../src/errors.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";
import { memoryDatabase, memoryLife } from "../contract/memory-life.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { childCommand, childText } from "../support/platform.ts";

describe("two handles on one engine", () => {
  test("see one database, and close one by one", () => {
    const store = new MemoryStore();
    const one = memoryDatabase(store);
    const other = memoryDatabase(store);
    const space = one.namespace("name");
    one.insert("key", "value");
    one.closeSync();
    expectCode("EMDB_CLOSED", () => one.get("key"));
    expectCode("EMDB_CLOSED", () => space.len());
    expect(other.getText("key")).toBe("value");
    expect(store.isOpen).toBe(true);
    other.closeSync();
    expect(store.isOpen).toBe(false);
  });

  test("share the rule that nothing but the transaction writes inside it", () => {
    const store = new MemoryStore();
    const one = memoryDatabase(store);
    const other = memoryDatabase(store);
    one.transaction((tx) => {
      tx.insert("key", "x");
      expectCode("EMDB_INVALID_ARGUMENT", () => other.insert("key", "y"));
      expectCode("EMDB_INVALID_ARGUMENT", () => other.transaction(() => 1));
    });
    expect(other.getText("key")).toBe("x");
    other.insert("key", "y");
  });

  test("a call whose own arguments close its handle is EMDB_CLOSED and does nothing, though another one is open", () => {
    const closing = (db: Database): Codec<string> => ({
      encode: (text) => (db.closeSync(), text),
      decode: (bytes) => new TextDecoder().decode(bytes),
    });
    const keyed = (db: Database) => db.typed({ key: closing(db), value: codec.text });
    const valued = (db: Database) => db.typed({ value: closing(db) });
    const lifetime = (db: Database) => ({
      get ttlMs() {
        return (db.closeSync(), 5);
      },
    });
    function* items<T>(db: Database, item: T): Generator<T> {
      yield item;
      db.closeSync();
    }
    const calls: readonly ((db: Database) => unknown)[] = [
      (db) => keyed(db).get("key"),
      (db) => keyed(db).getText("key"),
      (db) => keyed(db).getZeroCopy("key"),
      (db) => keyed(db).containsKey("key"),
      (db) => keyed(db).expiresAt("key"),
      (db) => keyed(db).ttl("key"),
      (db) => keyed(db).persist("key"),
      (db) => keyed(db).remove("key"),
      (db) => [...keyed(db).range({ gte: "key" })],
      (db) => [
        ...db.range({
          get limit() {
            return (db.closeSync(), 0);
          },
        }),
      ],
      (db) => valued(db).insert("key", "new"),
      (db) => valued(db).compareAndSwap("key", "old", "new"),
      (db) => db.insert("key", "new", lifetime(db)),
      (db) => db.compareAndSwap("key", "old", "new", lifetime(db)),
      (db) => db.update("key", () => "new", lifetime(db)),
      (db) => db.insertMany(items(db, ["key", "new"] as const)),
      (db) => db.removeMany(items(db, "key")),
      (db) => db.getMany(items(db, "key")),
    ];
    for (const call of calls) {
      const store = new MemoryStore({ rangeScans: true });
      const other = memoryDatabase(store);
      other.insert("key", "old", { expiresAtMs: 8_000_000_000_000 });
      const db = memoryDatabase(store);
      expectCode("EMDB_CLOSED", () => call(db));
      expect([other.getText("key"), other.expiresAt("key")]).toEqual(["old", 8_000_000_000_000]);
    }
  });

  test("do not stand in the way of a transaction on another database", () => {
    const one = memoryDatabase(new MemoryStore());
    const other = memoryDatabase(new MemoryStore());
    one.transaction((tx) => {
      other.transaction((inner) => inner.insert("key", "x"));
      tx.insert("key", "x");
    });
    expect([one.len(), other.len()]).toEqual([1, 1]);
  });
});

describe("a failing engine", () => {
  test("a batch that it refuses leaves no namespace behind", () => {
    const store = new MemoryStore();
    const db = memoryDatabase(store);
    const full = new EmdbError("EMDB_FULL", "no space");
    const batch = store.writeBatch.bind(store);
    store.writeBatch = () => {
      throw full;
    };
    expect(() => db.transaction((tx) => tx.namespace("new").insert("key", "x"))).toThrow(full);
    store.writeBatch = batch;
    expect(db.listNamespaces()).toEqual([]);
    db.insert("after", "x");
  });

  test("its error leaves the gate open for the next write", () => {
    const store = new MemoryStore();
    const db = memoryDatabase(store);
    store.failure = new EmdbError("EMDB_IO", "broken");
    expectCode("EMDB_IO", () => db.update("key", () => "x"));
    db.insert("key", "x");
    expect(db.transaction((tx) => tx.containsKey("key"))).toBe(true);
  });

  test("a close that fails has closed all the same: who waits for it is told, and another one does nothing", async () => {
    const life = memoryLife(new MemoryStore());
    const broken = new EmdbError("EMDB_IO", "broken");
    let calls = 0;
    const close = (): Promise<void> => (calls++, Promise.reject(broken));
    const closeSync = (): void => (calls++, expect.unreachable("closed already"));
    const db = new Database({ ...life, close, closeSync });
    const beside = [db.close(), db.close(), db[Symbol.asyncDispose]()];
    for (const promise of beside) await expectRejects("EMDB_IO", promise);
    expect(db.isOpen).toBe(false);
    await db.close();
    db.closeSync();
    await db[Symbol.asyncDispose]();
    expect(calls).toBe(1);
  });

  test("a close that fails and that nobody awaits is an unhandled rejection", () => {
    const from = (path: string): string => `await import(${JSON.stringify(new URL(path, import.meta.url).href)})`;
    const program = `
      const { Database } = ${from("../../src/api/database.ts")};
      const { EmdbError } = ${from("../../src/errors.ts")};
      const { memoryLife } = ${from("../contract/memory-life.ts")};
      const { MemoryStore } = ${from("../support/memory-store.ts")};
      process.on("unhandledRejection", (error) => console.log("unhandled", error.code));
      const close = () => Promise.reject(new EmdbError("EMDB_IO", "broken"));
      void new Database({ ...memoryLife(new MemoryStore()), close }).close();`;
    const child = Bun.spawnSync([...childCommand(), "-e", program]);
    expect([childText(child.stdout).trim(), childText(child.stderr)]).toEqual(["unhandled EMDB_IO", ""]);
  });

  test("a closeSync that fails has closed all the same, and another close of either form does nothing", async () => {
    const life = memoryLife(new MemoryStore());
    const closeSync = (): void => {
      throw new EmdbError("EMDB_IO", "broken");
    };
    const db = new Database({ ...life, closeSync, close: () => expect.unreachable("closed already") });
    expectCode("EMDB_IO", () => db.closeSync());
    expect(db.isOpen).toBe(false);
    db.closeSync();
    await db.close();
  });

  test("a close refused inside a transaction can be tried again after it", async () => {
    const db = memoryDatabase(new MemoryStore());
    const refused = db.transaction(() => [db.close()]);
    for (const promise of refused) await expectRejects("EMDB_INVALID_ARGUMENT", promise);
    expect(db.isOpen).toBe(true);
    await db.close();
    expect(db.isOpen).toBe(false);
  });
});

describe("a read-only database", () => {
  test("reads, and answers EMDB_READ_ONLY to every write", () => {
    const store = new MemoryStore();
    const db = memoryDatabase(store);
    db.insert("key", "value", { ttlMs: 5 });
    store.isReadOnly = true;
    store.exclusively = () => {
      throw new EmdbError("EMDB_READ_ONLY", "there is no lock to hold");
    };
    expect(db.getText("key")).toBe("value");
    expect(db.transaction((tx) => tx.containsKey("key"))).toBe(true);
    const writes: readonly (() => unknown)[] = [
      () => db.insert("key", "x"),
      () => db.remove("key"),
      () => db.insertMany([["key", "x"]]),
      () => db.removeMany(["key"]),
      () => db.clear(),
      () => db.persist("key"),
      () => db.update("key", () => "x"),
      () => db.compareAndSwap("key", "value", "x"),
      () => db.sweepExpired(),
      () => db.namespace("new"),
      () => db.dropNamespace("new"),
      () => db.transaction((tx) => tx.insert("key", "x")),
      () => db.transaction((tx) => tx.remove("key")),
    ];
    for (const write of writes) expectCode("EMDB_READ_ONLY", write);
  });
});

describe("a snapshot is let go of", () => {
  const entries = Array.from({ length: 10 }, (_, index): [string, string] => [`${index}`, "x"]);

  test("at the end, at the limit, when left early, and on an error", async () => {
    const store = new MemoryStore({ rangeScans: true });
    const db = memoryDatabase(store);
    db.insertMany(entries);
    const broken: Codec<string> = {
      encode: (text) => text,
      decode: () => {
        throw new Error("cannot decode");
      },
    };
    const walks: readonly (() => unknown)[] = [
      () => [...db.iter()],
      () => db.range({ limit: 3 }).next() && [...db.range({ limit: 3 })],
      () => db.iter().take(2).toArray(),
      () => db.keys().find(() => true),
      () => db.range({ gt: "9", lt: "0" }),
      () => db.group("none").toArray(),
      () => db.deleteGroup("none"),
      () => expect(() => [...db.typed({ value: broken })]).toThrow("cannot decode"),
    ];
    for (const walk of walks.toSpliced(1, 1)) {
      walk();
      expect(store.snapshotCount).toBe(0);
    }
    for await (const _ of db.stream()) break;
    await db.stream().cancel();
    expect(store.snapshotCount).toBe(0);
  });

  test("at the record that reaches the limit, not one call later", () => {
    const store = new MemoryStore({ rangeScans: true });
    const db = memoryDatabase(store);
    db.insertMany(entries);
    const range = db.range({ limit: 1 });
    expect(store.snapshotCount).toBe(1);
    expect(range.next().done).toBe(false);
    expect(store.snapshotCount).toBe(0);
    expect(range.next().done).toBe(true);
  });
});

test("a database whose codec is broken on one record says so and goes on", () => {
  const db = memoryDatabase(new MemoryStore());
  db.insert("bad", "not json");
  db.insert("good", "1");
  const view = db.typed({ value: codec.json<number>() });
  expectCode("EMDB_INVALID_ARGUMENT", () => [...view.values()]);
  expect(view.get("good")).toBe(1);
});
