import { expect, test } from "bun:test";
import { codec } from "../../src/codec/codec.ts";
import { expectCode, expectRejects, type OnFresh, textOf } from "./fixture.ts";

/** Opening's result, the operations on a whole database, and closing. */
export function lifeCases(on: OnFresh): void {
  test(
    "an open handle tells its state, and flush, checkpoint and verify succeed",
    on(async (bench) => {
      const { db } = bench;
      expect(db.isOpen).toBe(true);
      db.insert("key", "value");
      db.namespace("name").insert("key", "value");
      await db.flush();
      db.flushSync();
      if (bench.has("checkpoint")) await db.checkpoint();
      expect(db.stats()).toMatchObject({ liveRecords: 2, namespaceCount: 1 });
      if (bench.has("verify")) expect((await db.verify()).problems).toEqual([]);
      expect(db.recovery).toMatchObject({ tornBytes: 0, missingBytes: 0 });
      const after = await bench.settle();
      expect(after.stats()).toMatchObject({ liveRecords: 2, namespaceCount: 1 });
    }),
  );
  test(
    "what the open had to do is told as it was, whatever a caller tries to do to it",
    on(({ db }) => {
      const { recovery } = db;
      const before = { ...recovery };
      expect(Object.isFrozen(recovery)).toBe(true);
      // Plain numbers and claims: frozen itself, it is so all the way down.
      for (const value of Object.values(recovery)) expect(typeof value).not.toBe("object");
      expect(() => Object.assign(recovery, { tornBytes: 5 })).toThrow(TypeError);
      expect(db.recovery).toBe(recovery);
      expect(db.recovery).toEqual(before);
    }),
  );
  test(
    "after close every call is EMDB_CLOSED, and closing again is nothing",
    on(async ({ db }) => {
      db.insert("key", "value");
      const view = db.getZeroCopy("key");
      const space = db.namespace("name");
      const typed = db.typed({ value: codec.text });
      const focus = db.focus("a");
      await db.close();
      expect(db.isOpen).toBe(false);
      const calls: readonly (() => unknown)[] = [
        () => db.get("key"),
        () => db.getMany(["key"]),
        () => db.getText("key"),
        () => db.getZeroCopy("key"),
        () => db.containsKey("key"),
        () => db.insert("key", "x"),
        () => db.insertMany([["key", "x"]]),
        () => db.remove("key"),
        () => db.removeMany(["key"]),
        () => db.compareAndSwap("key", undefined, "x"),
        () => db.update("key", () => "x"),
        () => db.len(),
        () => db.isEmpty(),
        () => db.clear(),
        () => db.iter(),
        () => db.keys(),
        () => db.values(),
        () => db.range(),
        () => db.stream(),
        () => db.expiresAt("key"),
        () => db.ttl("key"),
        () => db.persist("key"),
        () => db.sweepExpired(),
        () => db.namespace("name"),
        () => db.listNamespaces(),
        () => db.dropNamespace("name"),
        () => db.transaction(() => 1),
        () => db.group("a"),
        () => db.deleteGroup("a"),
        () => db.stats(),
        () => db.share(),
        () => db.flushSync(),
        () => space.get("key"),
        () => space.insert("key", "x"),
        () => typed.get("key"),
        () => focus.get("key"),
        () => focus.deleteAll(),
        // What only makes a view answers as well: a handle that is gone is told of where it is used.
        () => db.typed({ value: codec.text }),
        () => space.typed({ value: codec.text }),
        () => typed.typed({ value: codec.bytes }),
        () => db.focus("a"),
        () => focus.focus("b"),
      ];
      for (const call of calls) expectCode("EMDB_CLOSED", call);
      await expectRejects("EMDB_CLOSED", db.flush());
      await expectRejects("EMDB_CLOSED", db.checkpoint());
      await expectRejects("EMDB_CLOSED", db.compact());
      await expectRejects("EMDB_CLOSED", db.verify());
      await expectRejects("EMDB_CLOSED", db.backupTo("copy.emdb"));
      await db.close();
      db.closeSync();
      expect(textOf(view)).toBe("value");
    }),
  );
  test(
    "closing twice at once and synchronously in between ends once",
    on(async ({ db }) => {
      const both = [db.close(), db.close()];
      expect(db.isOpen).toBe(false);
      db.closeSync();
      await Promise.all(both);
      expect(db.isOpen).toBe(false);
    }),
  );
  test(
    "using and await using close",
    on(async ({ db }) => {
      {
        using held = db;
        held.insert("key", "x");
      }
      expect(db.isOpen).toBe(false);
      await db[Symbol.asyncDispose]();
    }),
  );
  test(
    "an operation whose signal is aborted already is EMDB_ABORTED and changes nothing",
    on(async ({ db }) => {
      db.insert("key", "value");
      const signal = AbortSignal.abort(new Error("changed my mind"));
      await expectRejects("EMDB_ABORTED", db.compact({ signal }));
      await expectRejects("EMDB_ABORTED", db.verify({ signal }));
      expect(db.getText("key")).toBe("value");
    }),
  );
  test(
    "wrong options of a long operation reject with EMDB_INVALID_ARGUMENT",
    on(async ({ db }) => {
      for (const options of [null, 5, { signal: 5 }, { onProgress: "yes" }, { onprogress: () => 1 }]) {
        await expectRejects("EMDB_INVALID_ARGUMENT", db.compact(options as never));
        await expectRejects("EMDB_INVALID_ARGUMENT", db.verify(options as never));
      }
      for (const target of ["", 5, "a\0b", new URL("https://example.org/db"), "folder/"]) {
        await expectRejects("EMDB_INVALID_ARGUMENT", db.backupTo(target as string));
      }
    }),
  );
  test(
    "a handle shows its path and state in console.log and JSON, and nothing else",
    on(({ db }) => {
      const space = db.namespace("name");
      expect(Object.keys(JSON.parse(JSON.stringify(db)) as object).sort()).toEqual(
        db.path === undefined ? ["isOpen"] : ["isOpen", "path"],
      );
      expect(Bun.inspect(db)).toStartWith("Emdb {");
      expect(Bun.inspect(space)).toContain("name");
      expect(Bun.inspect(db.typed({ value: codec.text }))).toStartWith("Keyspace {");
      expect(Bun.inspect(db.focus("user").focus("1"))).toBe("Focus { prefix: 'user.1' }");
    }),
  );
}
