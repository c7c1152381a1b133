import { expect, test } from "bun:test";
import type { Codec } from "../../src/api/types.ts";
import { codec } from "../../src/codec/codec.ts";
import { expectCode, type OnFresh, textOf } from "./fixture.ts";

const jsonUsers = { key: codec.uint32, value: codec.json<{ readonly name: string }>() };

/** Typed views: codecs of one's own and the ready-made ones. */
export function typedCases(on: OnFresh): void {
  test(
    "keys and values go through their codecs in every call",
    on(async (bench) => {
      const users = bench.db.namespace("users", jsonUsers);
      users.insert(1, { name: "Ada" });
      users.insertMany([
        [2, { name: "Grace" }],
        [3, { name: "Edsger" }],
      ]);
      const after = (await bench.settle()).namespace("users", jsonUsers);
      expect(after.get(1)).toEqual({ name: "Ada" });
      expect(after.getMany([3, 9])).toEqual([{ name: "Edsger" }, undefined]);
      expect(new Set(after.keys())).toEqual(new Set([1, 2, 3]));
      expect([...after.values()].map((user) => user.name).sort()).toEqual(["Ada", "Edsger", "Grace"]);
      expect(after.compareAndSwap(1, { name: "Ada" }, { name: "Ada L." })).toBe(true);
      expect(after.update(1, (user) => ({ name: `${user?.name}!` }))).toEqual({ name: "Ada L.!" });
      expect(after.getText(1)).toBe('{"name":"Ada L.!"}');
      expect(after.remove(1)).toEqual({ name: "Ada L.!" });
      expect(after.removeMany([2, 9])).toBe(1);
      expect([...after]).toEqual([[3, { name: "Edsger" }]]);
      expect(bench.db.namespace("users").get(new Uint8Array([0, 0, 0, 3]))).toBeDefined();
    }),
  );
  test(
    "a value codec that changes, grows or takes away the key at hand changes nothing of the call",
    on(async (bench) => {
      let spoil = (): void => undefined;
      const spoiling: Codec<string> = {
        encode: (value) => (spoil(), new TextEncoder().encode(value)),
        decode: (bytes) => (spoil(), new TextDecoder().decode(bytes)),
      };
      const view = bench.db.typed({ value: spoiling });
      const keyOf = (text: string): Uint8Array<ArrayBuffer> => {
        const key = new Uint8Array(new ArrayBuffer(text.length, { maxByteLength: 4_000_000 }));
        key.set(new TextEncoder().encode(text));
        return key;
      };
      const spoils: ((key: Uint8Array<ArrayBuffer>) => void)[] = [
        (key) => key.fill(98),
        (key) => key.buffer.resize(3_500_000),
        (key) => structuredClone(key.buffer, { transfer: [key.buffer] }),
      ];
      for (const how of spoils) {
        for (const call of ["insert", "swap", "update", "remove"] as const) {
          spoil = () => undefined;
          view.insertMany([
            ["aaa", "of a"],
            ["bbb", "of b"],
          ]);
          const key = keyOf("aaa");
          spoil = () => {
            spoil = () => undefined;
            how(key);
          };
          if (call === "insert") view.insert(key, "new");
          else if (call === "swap") expect(view.compareAndSwap(key, "of a", "new")).toBe(true);
          else if (call === "update") expect(view.update(key, () => "new")).toBe("new");
          else expect(view.remove(key)).toBe("of a");
          spoil = () => undefined;
          const { db } = bench;
          expect(db.len()).toBe(call === "remove" ? 1 : 2);
          expect(db.getText("aaa")).toBe(call === "remove" ? undefined : "new");
          expect(db.getText("bbb")).toBe("of b");
        }
      }
      expect((await bench.settle()).len()).toBe(1);
    }),
  );
  test(
    "a view of values only takes keys as bytes and gives them so",
    on(({ db }) => {
      const view = db.typed({ value: codec.text });
      view.insert("key", "value");
      expect(view.get("key")).toBe("value");
      expect([...view].map(([key, value]) => [textOf(key), value])).toEqual([["key", "value"]]);
      expect(view.typed({ value: codec.bytes }).get("key")).toEqual(new TextEncoder().encode("value"));
    }),
  );
  test(
    "every ready-made codec gives back what it was given",
    on(async (bench) => {
      const things = {
        map: new Map([[1, new Set(["a"])]]),
        date: new Date(5),
        bytes: new Uint8Array([1, 2]),
        big: 5n,
        nothing: undefined,
      };
      bench.db.typed({ value: codec.structured<typeof things>() }).insert("structured", things);
      bench.db.typed({ value: codec.json() }).insert("json", [1, null, { a: "\u{1f511}" }]);
      bench.db.typed({ value: codec.text }).insert("text", "\ufeffwith a mark");
      bench.db.typed({ value: codec.uint64 }).insert("uint64", 2n ** 64n - 1n);
      bench.db.typed({ value: codec.uint32 }).insert("uint32", 2 ** 32 - 1);
      const db = await bench.settle();
      expect(db.typed({ value: codec.structured<typeof things>() }).get("structured")).toEqual(things);
      expect(db.typed({ value: codec.json() }).get("json")).toEqual([1, null, { a: "\u{1f511}" }]);
      expect(db.typed({ value: codec.text }).get("text")).toBe("\ufeffwith a mark");
      expect(db.typed({ value: codec.uint64 }).get("uint64")).toBe(2n ** 64n - 1n);
      expect(db.typed({ value: codec.uint32 }).get("uint32")).toBe(2 ** 32 - 1);
    }),
  );
  test(
    "a codec that throws while encoding writes nothing, and its error comes through unchanged",
    on(async (bench) => {
      const failure = new Error("cannot encode");
      const picky: Codec<string> = {
        encode: (text) => {
          if (text === "bad") throw failure;
          return text;
        },
        decode: (bytes) => textOf(bytes) ?? "",
      };
      const view = bench.db.typed({ key: picky, value: picky });
      view.insert("key", "old");
      const writes: readonly (() => unknown)[] = [
        () => view.insert("key", "bad"),
        () => view.insert("bad", "new"),
        () =>
          view.insertMany([
            ["key", "new"],
            ["other", "bad"],
          ]),
        () => view.removeMany(["key", "bad"]),
        () => view.compareAndSwap("key", "old", "bad"),
        () => view.update("key", () => "bad"),
      ];
      for (const write of writes) expect(write).toThrow(failure);
      await bench.settle();
      expect(bench.db.getText("key")).toBe("old");
      expect(bench.db.len()).toBe(1);
    }),
  );
  test(
    "a codec that throws while decoding removes and changes nothing",
    on(({ db }) => {
      db.insert("key", "not json");
      const view = db.typed({ value: codec.json() });
      expectCode("EMDB_INVALID_ARGUMENT", () => view.get("key"));
      expectCode("EMDB_INVALID_ARGUMENT", () => view.getMany(["key"]));
      expectCode("EMDB_INVALID_ARGUMENT", () => view.remove("key"));
      expectCode("EMDB_INVALID_ARGUMENT", () => view.update("key", () => 5));
      expectCode("EMDB_INVALID_ARGUMENT", () => [...view]);
      expect(view.containsKey("key")).toBe(true);
      expect(db.getText("key")).toBe("not json");
      expect(view.removeMany(["key"])).toBe(1);
    }),
  );
  test(
    "a codec may reuse one buffer from call to call",
    on(({ db }) => {
      const scratch = new Uint8Array(1);
      const thrifty: Codec<number> = {
        encode: (value) => {
          scratch[0] = value;
          return scratch;
        },
        decode: (bytes) => bytes[0] ?? -1,
      };
      const view = db.typed({ key: thrifty, value: thrifty });
      view.insert(1, 10);
      view.insertMany([
        [2, 20],
        [3, 30],
      ]);
      expect(view.getMany([1, 2, 3])).toEqual([10, 20, 30]);
      expect(view.compareAndSwap(1, 10, 11)).toBe(true);
      expect(view.compareAndSwap(1, 10, 12)).toBe(false);
      expect(view.update(2, (current = 0) => current + 1)).toBe(21);
      const records = new Map([
        [1, 11],
        [2, 21],
        [3, 30],
      ]);
      expect(new Map(view)).toEqual(records);
    }),
  );
  test(
    "what encode returns is checked like any key and value",
    on(({ db }) => {
      const broken = { encode: () => 5 as never, decode: () => 5 };
      expectCode("EMDB_INVALID_ARGUMENT", () => db.typed({ value: broken }).insert("key", 1));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.typed({ key: broken, value: codec.text }).get(1));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.typed({ value: codec.json() }).insert("key", undefined));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.typed({ value: codec.structured() }).insert("key", undefined));
      expect(db.len()).toBe(0);
    }),
  );
  test(
    "a decode that writes is refused inside remove, in words that name it, and nothing has changed; elsewhere it may",
    on(({ db }) => {
      const writing: Codec<string> = {
        encode: (value) => value,
        decode: (bytes) => (db.insert("seen", bytes), new TextDecoder().decode(bytes)),
      };
      const view = db.typed({ value: writing });
      view.insert("key", "value");
      const refused = expectCode("EMDB_INVALID_ARGUMENT", () => view.remove("key"));
      expect(refused.message).toContain("inside the decode that remove calls");
      expect(refused.message).toContain("only read");
      expect(db.getText("key")).toBe("value");
      expect(db.len()).toBe(1);
      expect(view.get("key")).toBe("value");
      expect(db.getText("seen")).toBe("value");
    }),
  );
  test(
    "what is not a pair of codecs is refused",
    on(({ db }) => {
      for (const codecs of [undefined, null, {}, { value: codec.json }, { value: codec.text, keys: codec.text }, 5]) {
        expectCode("EMDB_INVALID_ARGUMENT", () => db.typed(codecs as never));
      }
    }),
  );
}
