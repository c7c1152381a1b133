import { expect, test } from "bun:test";
import { expectCode, type OnFresh, places, sortedPairs, textOf } from "./fixture.ts";

/** Deadlines: how they are given, how they show, and that an expired record is absent everywhere. */
export function ttlCases(on: OnFresh): void {
  for (const place of places) {
    test(
      `${place.name} hides an expired record from every call that returns values`,
      on(async (bench) => {
        const start = place.of(bench.db);
        start.insert("old", "1", { ttlMs: 100 });
        start.insert("young", "2", { ttlMs: 101 });
        start.insert("ever", "3");
        bench.clock.nowMs += 100;
        const space = place.of(await bench.settle());
        expect(space.get("old")).toBeUndefined();
        expect(space.getText("old")).toBeUndefined();
        expect(space.getZeroCopy("old")).toBeUndefined();
        expect(space.getMany(["old", "young"]).map(textOf)).toEqual([undefined, "2"]);
        expect(space.containsKey("old")).toBe(false);
        expect(space.expiresAt("old")).toBeUndefined();
        expect(space.ttl("old")).toBeUndefined();
        expect(space.persist("old")).toBe(false);
        expect(sortedPairs(space.iter())).toEqual(["ever=3", "young=2"]);
        expect(space.compareAndSwap("old", "1", "revived")).toBe(false);
        expect(space.remove("old")).toBeUndefined();
        expect(space.get("young")).toBeDefined();
      }),
    );
    test(
      `${place.name} takes an expired record for absent in calls that write, and lets go of it in those that remove`,
      on(async (bench) => {
        const gone = ["remove", "removeMany", "update", "swap", "swap out", "write", "persist"];
        const start = place.of(bench.db);
        for (const key of gone) start.insert(key, "old", { ttlMs: 100 });
        bench.clock.nowMs += 100;
        const space = place.of(await bench.settle());
        expect(space.len()).toBe(7);
        expect(space.remove("remove")).toBeUndefined();
        expect(space.len()).toBe(6);
        expect(space.removeMany(["removeMany"])).toBe(0);
        expect(space.len()).toBe(5);
        const seen: unknown[] = [];
        expect(space.update("update", (current) => void seen.push(current))).toBeUndefined();
        expect(space.len()).toBe(4);
        expect(space.compareAndSwap("swap", "old", "new")).toBe(false);
        expect(space.compareAndSwap("swap", undefined, "new")).toBe(true);
        expect(space.compareAndSwap("swap out", undefined, undefined)).toBe(true);
        expect(space.len()).toBe(3);
        expect(textOf(space.update("write", (current) => (seen.push(current), "new")))).toBe("new");
        expect(seen).toEqual([undefined, undefined]);
        expect(space.persist("persist")).toBe(false);
        expect(sortedPairs(place.of(await bench.settle()))).toEqual(["swap=new", "write=new"]);
        expect(place.of(bench.db).sweepExpired()).toBe(1);
        expect(place.of(bench.db).len()).toBe(2);
      }),
    );
    test(
      `${place.name} tells the deadline and the time left`,
      on(async (bench) => {
        const { clock } = bench;
        const space = place.of(bench.db);
        space.insert("ttl", "x", { ttlMs: 1000 });
        space.insert("at", "x", { expiresAtMs: clock.nowMs + 500 });
        space.insert("ever", "x");
        const after = place.of(await bench.settle());
        expect(after.expiresAt("ttl")).toBe(clock.nowMs + 1000);
        expect(after.expiresAt("at")).toBe(clock.nowMs + 500);
        expect(after.expiresAt("ever")).toBe(0);
        clock.nowMs += 400;
        expect(["ttl", "at", "ever", "none"].map((key) => after.ttl(key))).toEqual([600, 100, undefined, undefined]);
      }),
    );
    test(
      `${place.name} sweeps its expired records and no others, and counts them`,
      on(async (bench) => {
        const space = place.of(bench.db);
        bench.db.namespace("another").insert("old", "x", { ttlMs: 1 });
        for (let index = 0; index < 10; index += 1) space.insert(`${index}`, "x", { ttlMs: index + 1 });
        space.insert("ever", "x");
        bench.clock.nowMs += 5;
        expect(space.len()).toBe(11);
        expect(space.sweepExpired()).toBe(5);
        expect(space.sweepExpired()).toBe(0);
        expect(space.len()).toBe(6);
        expect(place.of(await bench.settle()).len()).toBe(6);
        expect(bench.db.namespace("another").len()).toBe(1);
      }),
    );
    test(
      `${place.name} persists a record: the value stays, the deadline goes`,
      on(async (bench) => {
        const space = place.of(bench.db);
        space.insert("key", "value", { ttlMs: 10 });
        expect(space.persist("key")).toBe(true);
        expect(space.persist("key")).toBe(false);
        expect(space.persist("none")).toBe(false);
        bench.clock.nowMs += 1000;
        const after = place.of(await bench.settle());
        expect(after.getText("key")).toBe("value");
        expect(after.expiresAt("key")).toBe(0);
      }),
    );
    test(
      `${place.name} counts a time to live from when the entries of a batch have been read, however long that took`,
      on(
        ({ db, clock }) => {
          const space = place.of(db);
          function* slow(...keys: string[]): Generator<[string, string]> {
            for (const key of keys) {
              clock.nowMs += 1000;
              yield [key, "x"];
            }
          }
          space.insertMany(slow("a", "b"), { ttlMs: 100 });
          expect(["a", "b"].map((key) => space.ttl(key))).toEqual([100, 100]);
          space.insertMany(slow("c"));
          expect(["a", "b", "c"].map((key) => space.ttl(key))).toEqual([undefined, undefined, 500]);
          space.insertMany(slow("d"), { expiresAtMs: clock.nowMs + 1001 });
          expect(space.ttl("d")).toBe(1);
        },
        { defaultTtlMs: 500 },
      ),
    );
  }

  test(
    "a time to live counts from when a slow codec has done its work",
    on(
      ({ db, clock }) => {
        const slow = {
          encode: (text: string): string => ((clock.nowMs += 1000), text),
          decode: (bytes: Uint8Array): string => textOf(bytes)!,
        };
        const view = db.typed({ key: slow, value: slow });
        view.insert("insert", "x", { ttlMs: 100 });
        expect(db.ttl("insert")).toBe(100);
        view.insert("default", "x");
        expect(db.ttl("default")).toBe(500);
        view.insertMany([["many", "x"]], { ttlMs: 100 });
        expect(db.ttl("many")).toBe(100);
        expect(view.compareAndSwap("swap", undefined, "x", { ttlMs: 100 })).toBe(true);
        expect(db.ttl("swap")).toBe(100);
        db.insert("ever", "x", { ttlMs: Infinity });
        expect(view.compareAndSwap("ever", "x", "y")).toBe(true);
        expect(db.ttl("ever")).toBe(500);
        view.update("update", () => "x", { ttlMs: 100 });
        expect(db.ttl("update")).toBe(100);
      },
      { defaultTtlMs: 500 },
    ),
  );
  test(
    "each of the insert options is read once",
    on(({ db, clock }) => {
      let reads = 0;
      const options = {
        get ttlMs(): number {
          reads += 1;
          return reads;
        },
      };
      const writes: (() => unknown)[] = [
        () => db.insert("key", "x", options),
        () => db.insertMany([["key", "x"]], options),
        () => db.update("key", () => "x", options),
        () => db.compareAndSwap("key", "x", "x", options),
        () => db.transaction((tx) => tx.insert("key", "x", options)),
      ];
      for (const write of writes) {
        reads = 0;
        write();
        expect([reads, db.expiresAt("key")]).toEqual([1, clock.nowMs + 1]);
      }
    }),
  );
  test(
    "a transaction removes an expired record that it cannot see, and creates no namespace to remove from",
    on(async (bench) => {
      bench.db.insert("old", "x", { ttlMs: 1 });
      bench.clock.nowMs += 1;
      bench.db.transaction((tx) => {
        expect(tx.remove("old")).toBeUndefined();
        expect(tx.remove("never there")).toBeUndefined();
        expect(tx.namespace("none").remove("old")).toBeUndefined();
      });
      expect((await bench.settle()).len()).toBe(0);
      expect(bench.db.listNamespaces()).toEqual([]);
    }),
  );
  test(
    "an overwrite replaces the deadline with the value, in both directions",
    on(({ db, clock }) => {
      db.insert("key", "short", { ttlMs: 10 });
      db.insert("key", "for ever");
      clock.nowMs += 10;
      expect(db.getText("key")).toBe("for ever");
      db.insert("key", "short again", { ttlMs: 10 });
      clock.nowMs += 10;
      expect(db.get("key")).toBeUndefined();
      db.insert("key", "revived");
      expect(db.getText("key")).toBe("revived");
      expect(db.sweepExpired()).toBe(0);
    }),
  );
  test(
    "ttlMs 0 and a deadline that has passed are expired at once, and hide the value before them",
    on(async (bench) => {
      const { db, clock } = bench;
      const gone = [{ ttlMs: 0 }, { expiresAtMs: clock.nowMs }, { expiresAtMs: 1 }, { expiresAtMs: -5 }];
      for (const options of gone) {
        db.insert("key", "before");
        db.insert("key", "after", options);
        expect(db.get("key")).toBeUndefined();
        expect(db.len()).toBe(1);
      }
      expect((await bench.settle()).get("key")).toBeUndefined();
    }),
  );
  test(
    "Infinity, a deadline of 0 and one behind the last date never expire",
    on(
      ({ db, clock }) => {
        const forms = [
          { ttlMs: Number.POSITIVE_INFINITY },
          { expiresAtMs: Number.POSITIVE_INFINITY },
          { expiresAtMs: 0 },
          { ttlMs: Number.MAX_SAFE_INTEGER },
        ];
        for (const [index, options] of forms.entries()) db.insert(`${index}`, "x", options);
        clock.nowMs += 1e12;
        for (const index of forms.keys()) expect(db.expiresAt(`${index}`)).toBe(0);
      },
      { defaultTtlMs: 10 },
    ),
  );
  test(
    "a fraction of a millisecond lives to the next whole one",
    on(({ db, clock }) => {
      // The last ones are lost in a sum with the time of day.
      for (const ttlMs of [0.5, 1e-4, Number.MIN_VALUE]) {
        db.insert("key", "x", { ttlMs });
        expect(db.expiresAt("key")).toBe(clock.nowMs + 1);
        expect(db.containsKey("key")).toBe(true);
        clock.nowMs += 1;
        expect(db.containsKey("key")).toBe(false);
      }
    }),
  );
  test(
    "defaultTtlMs goes to every insert without a TTL of its own",
    on(
      ({ db, clock }) => {
        const wanted = clock.nowMs + 1000;
        db.insert("insert", "x");
        db.insertMany([["many", "x"]]);
        db.insert("empty options", "x", {});
        db.update("update", () => "x");
        db.compareAndSwap("swap", undefined, "x");
        db.transaction((tx) => tx.insert("transaction", "x"));
        db.focus("focus").set("key", "x");
        const keys = ["insert", "many", "empty options", "update", "swap", "transaction", "focus.key"];
        expect(keys.map((key) => db.expiresAt(key))).toEqual(keys.map(() => wanted));
        db.insert("insert", "x", { ttlMs: 5 });
        expect(db.ttl("insert")).toBe(5);
        expect(db.persist("many")).toBe(true);
        expect(db.expiresAt("many")).toBe(0);
      },
      { defaultTtlMs: 1000 },
    ),
  );
  test(
    "a batch has one deadline for all",
    on(({ db, clock }) => {
      db.insertMany(
        [
          ["a", "1"],
          ["b", "2"],
        ],
        { ttlMs: 7 },
      );
      expect(["a", "b"].map((key) => db.ttl(key))).toEqual([7, 7]);
      clock.nowMs += 7;
      expect(db.removeMany(["a", "b"])).toBe(0);
    }),
  );
  test(
    "a walk shows the records that were live at its start",
    on(({ db, clock }) => {
      db.insert("a", "1", { ttlMs: 10 });
      clock.nowMs += 10;
      db.insert("b", "2");
      expect([...db.keys()].map(textOf)).toEqual(["b"]);
      expect(db.isEmpty()).toBe(false);
    }),
  );
  test(
    "wrong forms of a deadline are EMDB_INVALID_ARGUMENT and write nothing",
    on(({ db }) => {
      const wrong: readonly unknown[] = [
        { ttlMs: -1 },
        { ttlMs: Number.NaN },
        { ttlMs: "5" },
        { ttlMs: 5n },
        { expiresAtMs: Number.NaN },
        { expiresAtMs: new Date(0) },
        { ttlMs: 1, expiresAtMs: 1 },
        { ttl: 5 },
        null,
        5,
      ];
      for (const options of wrong) expectCode("EMDB_INVALID_ARGUMENT", () => db.insert("key", "x", options as never));
      expect(db.len()).toBe(0);
    }),
  );
}
