/** Every wrong argument is an `EmdbError` before the engine hears of it. */

import { describe, expect, test } from "bun:test";
import { checkedKey, checkedNamespaceName, checkedValue, startsWith } from "../../src/api/bytes.ts";
import { deadlineOf, lifetimeOf } from "../../src/api/deadline.ts";
import { prefixBounds, rangeBoundsOf } from "../../src/api/range-bounds.ts";
import { Emdb, codec } from "../../src/index.ts";
import { EXPIRES_AT_MS_MAX, KEY_BYTES_MAX, NAMESPACE_NAME_BYTES_MAX, VALUE_BYTES_MAX } from "../../src/limits.ts";
import { memoryDatabase } from "../contract/memory-life.ts";
import { expectCode } from "../contract/fixture.ts";
import { MemoryStore } from "../support/memory-store.ts";

function detachedView(): Uint8Array {
  const view = new Uint8Array(8);
  structuredClone(view.buffer, { transfer: [view.buffer] });
  return view;
}

function shrunkView(): Uint8Array {
  const buffer = new ArrayBuffer(16, { maxByteLength: 16 });
  const view = new Uint8Array(buffer, 8, 8);
  buffer.resize(4);
  return view;
}

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

/** What throws when somebody looks what it is. */
const TRAPS: readonly unknown[] = [
  revoked(),
  new Proxy({}, { getPrototypeOf: trap, get: trap }),
  {
    get [Symbol.toStringTag](): never {
      return trap();
    },
  },
];

function trap(): never {
  throw new RangeError("a trap");
}

const WRONG_BYTES: readonly unknown[] = [
  undefined,
  null,
  0,
  Number.NaN,
  1n,
  true,
  Symbol("key"),
  () => "key",
  {},
  [],
  [1, 2],
  new String("key"),
  new Date(0),
  Promise.resolve("key"),
  new DataView(new ArrayBuffer(4)),
  new Uint16Array(2),
  new Int8Array(2),
  new Uint8ClampedArray(2),
  new SharedArrayBuffer(4),
  "\ud800",
  "a\udfffb",
  detachedView(),
  detachedView().buffer,
  shrunkView(),
  Object.create(Uint8Array.prototype),
  ...TRAPS,
];

test("what is no share is refused by attach, whatever it does when somebody looks what it is", () => {
  for (const wrong of WRONG_BYTES as readonly never[]) expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.attach(wrong));
});

describe("keys and values", () => {
  test("of a wrong kind are refused by every call of a key space, and nothing is written", () => {
    const store = new MemoryStore({ rangeScans: true });
    const db = memoryDatabase(store);
    for (const wrong of WRONG_BYTES as readonly never[]) {
      const calls: readonly (() => unknown)[] = [
        () => db.insert(wrong, "value"),
        () => db.get(wrong),
        () => db.getMany([wrong]),
        () => db.getMany(new Set([wrong])),
        () => db.getText(wrong),
        () => db.getZeroCopy(wrong),
        () => db.containsKey(wrong),
        () => db.remove(wrong),
        () => db.removeMany([wrong]),
        () => db.insertMany([[wrong, "value"]]),
        () => db.compareAndSwap(wrong, undefined, "value"),
        () => db.update(wrong, () => "value"),
        () => db.expiresAt(wrong),
        () => db.ttl(wrong),
        () => db.persist(wrong),
        () => db.transaction((tx) => tx.get(wrong)),
        () => db.transaction((tx) => tx.insert(wrong, "value")),
        () => db.transaction((tx) => tx.insert("key", wrong)),
        () => db.insert("key", wrong),
        () => db.insertMany([["key", wrong]]),
      ];
      for (const call of calls) expectCode("EMDB_INVALID_ARGUMENT", call);
      // Absent is what undefined says here.
      if (wrong === undefined) continue;
      expectCode("EMDB_INVALID_ARGUMENT", () => db.compareAndSwap("key", undefined, wrong));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.compareAndSwap("key", wrong, "value"));
      // Of a promise update has more to say, for which it asks what its function gave for its `then`.
      if (!TRAPS.includes(wrong) && !((wrong as unknown) instanceof Promise))
        expectCode("EMDB_INVALID_ARGUMENT", () => db.update("key", () => wrong));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.range({ prefix: wrong }));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.range({ gt: wrong }));
    }
    expect(store.writeCount).toBe(0);
    expect(store.snapshotCount).toBe(0);
  });

  test("of which a call takes two are told apart by their names", async () => {
    const db = memoryDatabase(new MemoryStore());
    const numbers = db.typed({ value: { encode: (value: number) => value as never, decode: () => 0 } });
    const saying = (call: () => unknown): string => expectCode("EMDB_INVALID_ARGUMENT", call).message;
    const must = "must be a string, a Uint8Array or an ArrayBuffer, got 5";
    expect(saying(() => db.compareAndSwap("a", 5 as never, "x"))).toBe(`the expected value ${must}`);
    expect(saying(() => db.compareAndSwap("a", "x", 5 as never))).toBe(`the next value ${must}`);
    expect(saying(() => numbers.compareAndSwap("a", 5, undefined))).toBe(`the expected value ${must}`);
    expect(saying(() => numbers.compareAndSwap("a", undefined, 5))).toBe(`the next value ${must}`);
    expect(saying(() => db.compareAndSwap("a", "\ud800", "x"))).toStartWith("the expected value is a string with");
    expect(saying(() => db.compareAndSwap(5 as never, "x", "x"))).toBe(`the key ${must}`);
    const ordered = Emdb.openInMemory({ rangeScans: true });
    for (const name of ["gt", "gte", "lt", "lte"] as const)
      expect(saying(() => ordered.range({ [name]: 5 as never }))).toBe(`the bound ${name} ${must}`);
    ordered.closeSync();
    const [key, wrong] = [{ key: new Uint8Array(32) }, { passphrase: "" }];
    const error = async (promise: Promise<void>): Promise<string> =>
      promise.then(
        () => "none",
        ({ code, message }: { code: string; message: string }) => `${code}: ${message}`,
      );
    expect(await error(Emdb.rotateEncryptionKey("never.emdb", wrong, key))).toBe(
      "EMDB_INVALID_CONFIG: of the current secret: a passphrase must not be empty",
    );
    expect(await error(Emdb.rotateEncryptionKey("never.emdb", key, wrong))).toBe(
      "EMDB_INVALID_CONFIG: of the next secret: a passphrase must not be empty",
    );
  });

  test("pass as they are: no copy, no conversion", () => {
    const bytes = new Uint8Array([1, 2, 3]);
    expect(checkedKey(bytes)).toBe(bytes);
    expect(checkedValue(bytes)).toBe(bytes);
    const buffer = Buffer.from("buffer");
    expect(checkedKey(buffer)).toBe(buffer);
    expect(checkedKey("text")).toBe("text");
    expect(checkedKey(new Uint8Array(new SharedArrayBuffer(2)))).toHaveLength(2);
    expect(checkedValue(new Uint8Array(0))).toHaveLength(0);
    expect(checkedValue(new ArrayBuffer(3))).toEqual(new Uint8Array(3));
  });

  test("are counted in UTF-8 bytes, and both numbers are named", () => {
    expect(checkedKey("\u20ac".repeat(KEY_BYTES_MAX / 3))).toHaveLength(KEY_BYTES_MAX / 3);
    expect(checkedKey("x".repeat(KEY_BYTES_MAX))).toHaveLength(KEY_BYTES_MAX);
    const error = expectCode("EMDB_TOO_LARGE", () => checkedKey("\u20ac".repeat(KEY_BYTES_MAX / 3 + 1)));
    expect(error.message).toContain(`${KEY_BYTES_MAX + 3} bytes`);
    expect(error.message).toContain(`${KEY_BYTES_MAX}`);
    const name = "\u00e9".repeat(NAMESPACE_NAME_BYTES_MAX / 2);
    expect(checkedNamespaceName(name)).toBe(name);
    expectCode("EMDB_TOO_LARGE", () => checkedNamespaceName(`${name}x`));
  });

  test("a value over the limit is refused by its length alone", () => {
    // The pages of a fresh buffer are not touched, so that this costs no memory.
    const error = expectCode("EMDB_TOO_LARGE", () => checkedValue(new ArrayBuffer(VALUE_BYTES_MAX + 1)));
    expect(error.message).toContain(`${VALUE_BYTES_MAX + 1}`);
  });

  test("a message never shows the content of a key or value", () => {
    const db = memoryDatabase(new MemoryStore());
    const secret = "hunter2";
    const shown = [
      expectCode("EMDB_INVALID_ARGUMENT", () => db.insert("key", { secret } as never)),
      expectCode("EMDB_INVALID_ARGUMENT", () => db.insert(`${secret}\ud800`, "x")),
      expectCode("EMDB_INVALID_ARGUMENT", () => db.insert("key", "x", secret as never)),
      expectCode("EMDB_INVALID_ARGUMENT", () => db.getMany(secret)),
    ];
    for (const error of shown) expect(error.message).not.toContain(secret);
  });

  test("one key in place of many is refused with the advice to put it in an array", () => {
    const db = memoryDatabase(new MemoryStore());
    for (const one of ["key", new Uint8Array([1]), 5, undefined, null, {}]) {
      expectCode("EMDB_INVALID_ARGUMENT", () => db.getMany(one as never));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.removeMany(one as never));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.insertMany(one as never));
    }
  });
});

describe("deadlines", () => {
  const clock = { now: () => 1000, clockMs: () => 1000 };
  const of = (options: object | undefined, defaultTtlMs = 0): number =>
    deadlineOf(lifetimeOf(options), { defaultTtlMs, store: clock });

  test("are absolute, whole, and 0 for never", () => {
    expect(of(undefined)).toBe(0);
    expect(of({})).toBe(0);
    expect(of(undefined, 50)).toBe(1050);
    expect(of({}, 50)).toBe(1050);
    expect(of({ ttlMs: undefined }, 50)).toBe(1050);
    expect(of({ ttlMs: 0 }, 50)).toBe(1000);
    expect(of({ ttlMs: -0 })).toBe(1000);
    expect(of({ ttlMs: 1.2 })).toBe(1002);
    expect(of({ ttlMs: Number.POSITIVE_INFINITY }, 50)).toBe(0);
    expect(of({ expiresAtMs: 1234.5 }, 50)).toBe(1235);
    expect(of({ expiresAtMs: 0 }, 50)).toBe(0);
    expect(of({ expiresAtMs: -7 })).toBe(1);
    expect(of({ expiresAtMs: Number.NEGATIVE_INFINITY })).toBe(1);
    expect(of({ expiresAtMs: EXPIRES_AT_MS_MAX })).toBe(EXPIRES_AT_MS_MAX);
    expect(of({ expiresAtMs: EXPIRES_AT_MS_MAX + 1 })).toBe(0);
    expect(of(undefined, 0.25)).toBe(1001);
  });

  test("a clock at 0 still expires at once", () => {
    expect(deadlineOf({ ttlMs: 0 }, { defaultTtlMs: 0, store: { now: () => 0, clockMs: () => 0 } })).toBe(1);
  });

  test("an unknown name is refused with the nearest known one", () => {
    expect(expectCode("EMDB_INVALID_ARGUMENT", () => of({ ttlMS: 5 })).message).toContain("did you mean ttlMs?");
    expect(expectCode("EMDB_INVALID_ARGUMENT", () => of({ colour: 5 })).message).toContain("ttlMs, expiresAtMs");
  });
});

/** What a slip puts in the place of options: none of it is taken for "no options". */
const NO_OPTIONS: readonly unknown[] = [
  null,
  1,
  "options",
  [],
  new Map([["rangeScans", true]]),
  new Set(),
  new Date(0),
  /x/,
  new Error("options"),
  new ArrayBuffer(3),
  new Uint8Array(0),
  Promise.resolve({}),
  () => ({}),
  ...TRAPS,
];

describe("options", () => {
  test("that are no options are refused everywhere", () => {
    using db = Emdb.openInMemory({ rangeScans: true });
    for (const wrong of NO_OPTIONS as readonly never[]) {
      expectCode("EMDB_INVALID_ARGUMENT", () => db.insert("a", "1", wrong));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.insertMany([["a", "1"]], wrong));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.update("a", () => "1", wrong));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.compareAndSwap("a", undefined, "1", wrong));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.transaction((tx) => tx.insert("a", "1", wrong)));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.range(wrong));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.namespace("typed", wrong));
      expectCode("EMDB_INVALID_CONFIG", () => Emdb.openInMemory(wrong));
      expectCode("EMDB_INVALID_CONFIG", () => Emdb.openInMemory({ encryption: wrong }));
      expectCode("EMDB_INVALID_CONFIG", () => Emdb.openInMemory({ flushPolicy: wrong }));
      if (typeof wrong !== "string") expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.open(wrong));
    }
    expect(expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.open(Promise.resolve("a") as never)).message).toContain(
      "is an await missing?",
    );
    expect([db.len(), db.listNamespaces()]).toEqual([0, []]);
  });

  test("of a class, without a prototype and with getters are options", () => {
    using db = Emdb.openInMemory();
    class Options {
      readonly ttlMs = 60_000;
    }
    const bare = Object.assign(Object.create(null) as object, { ttlMs: 60_000 });
    const asked = {
      get ttlMs() {
        return 60_000;
      },
    };
    for (const options of [new Options(), bare, asked]) {
      db.insert("a", "1", options);
      expect(db.ttl("a")).toBeGreaterThan(0);
      db.remove("a");
    }
  });

  test("whose properties are code do not change the bytes that were given", () => {
    using db = Emdb.openInMemory();
    const key = new Uint8Array(8).fill(67);
    const options = {
      get ttlMs() {
        key.buffer.transfer();
        return 5000;
      },
    };
    expectCode("EMDB_INVALID_ARGUMENT", () => db.insert(key, "value", options));
    expect(db.len()).toBe(0);
  });
});

test("what somebody calls an object is in the message as far as it is short", () => {
  using db = Emdb.openInMemory();
  const named = { [Symbol.toStringTag]: `Odd\n${"x".repeat(100_000)}` } as never;
  const { message } = expectCode("EMDB_INVALID_ARGUMENT", () => db.get(named));
  expect(message).toContain("an object of type Odd?xxx");
  expect(message.length).toBeLessThan(200);
});

test("a codec that is another one each time somebody looks is the one that was checked", () => {
  using db = Emdb.openInMemory();
  for (let good = 0; good < 4; good += 1) {
    let looks = 0;
    const codecs = {
      get value() {
        return looks++ < good ? codec.text : (undefined as never);
      },
    };
    if (good === 0) expectCode("EMDB_INVALID_ARGUMENT", () => db.typed(codecs));
    else db.typed(codecs).insert("k", "v");
  }
  expect(db.getText("k")).toBe("v");
});

test("no length that somebody made up is believed", () => {
  using db = Emdb.openInMemory();
  class Odd extends Uint8Array {
    override get length(): never {
      return 64 as never;
    }
    override get byteLength(): never {
      return 64 as never;
    }
  }
  const own = Object.defineProperty(new Uint8Array([1, 2, 3]), "length", { value: 64 });
  const both = Object.defineProperties(new Uint8Array([1, 2, 3]), { length: { value: 64 }, byteLength: { value: 64 } });
  for (const odd of [new Odd([1, 2, 3]), own, both]) {
    db.insert("of a value", odd);
    expect(db.get("of a value")).toEqual(new Uint8Array([1, 2, 3]));
    db.insert(odd, "of a key");
    expect(db.getText(new Uint8Array([1, 2, 3]))).toBe("of a key");
    db.insertMany([[odd, odd]]);
    expect(db.getMany([odd])).toEqual([new Uint8Array([1, 2, 3])]);
  }
  const short = Object.defineProperty(new Uint8Array([1, 2, 3]), "length", { value: 32 });
  const open = (): Emdb => Emdb.openInMemory({ encryption: { key: short } });
  expect(open).toThrow(
    expect.objectContaining({ code: "EMDB_INVALID_CONFIG", message: expect.stringContaining("got 3") }),
  );
  class Tame extends Uint8Array {}
  db.insert("tame", new Tame([7]));
  expect(db.get("tame")).toEqual(new Uint8Array([7]));
});

test("a prefix beside a bound is told what to give for a part of it", () => {
  using db = Emdb.openInMemory({ rangeScans: true });
  const { message } = expectCode("EMDB_INVALID_ARGUMENT", () => db.range({ prefix: "a/", lt: "a/9" }));
  expect(message).toContain("two bounds for a part of what has the prefix");
});

test("codecs for the key space of a transaction are refused, which would give bytes all the same", () => {
  using db = Emdb.openInMemory();
  const codecs = { key: codec.text, value: codec.uint32 };
  const { message } = expectCode("EMDB_INVALID_ARGUMENT", () =>
    db.transaction((tx) => {
      tx.insert("before", "x");
      (tx.namespace as (name: string, codecs: object) => object).call(tx, "numbers", codecs);
    }),
  );
  expect(message).toContain("encode and decode");
  expect([db.len(), db.listNamespaces()]).toEqual([0, []]);
});

test("a secret that is a number is not in the message", () => {
  for (const encryption of [
    { passphrase: 12_345_678 },
    { key: 12_345_678 },
    12_345_678,
  ] as readonly unknown[] as never[]) {
    const { message } = expectCode("EMDB_INVALID_CONFIG", () => Emdb.openInMemory({ encryption }));
    expect(message).toContain("got a number");
    expect(message).not.toContain("345");
  }
});

describe("range bounds", () => {
  const boundsOf = (range: object): ReturnType<typeof rangeBoundsOf> => rangeBoundsOf(range, { keyIn: checkedKey });

  test("the key behind a prefix is found for every prefix of two bytes", () => {
    for (let value = 0; value < 65_536; value += 1) {
      const prefix = new Uint8Array([value >> 8, value & 255]);
      const { upper } = prefixBounds(prefix);
      // A Buffer's `slice` is a view of what the caller gave.
      const given = Buffer.from(prefix);
      expect(prefixBounds(given).upper).toEqual(upper);
      expect(prefix).toEqual(new Uint8Array(given));
      if (value === 65_535) {
        expect(upper).toBeUndefined();
        continue;
      }
      if (upper === undefined) throw new Error(`no key behind ${value}`);
      const next = (value & 255) === 255 ? [(value >> 8) + 1] : [value >> 8, (value & 255) + 1];
      if (Buffer.compare(upper.key, new Uint8Array(next)) !== 0) throw new Error(`wrong key behind ${value}`);
    }
  });

  test("crossing ones and a limit of 0 are known to be empty", () => {
    expect(boundsOf({ gt: "b", lt: "a" })).toBeUndefined();
    expect(boundsOf({ gte: "a", lt: "a" })).toBeUndefined();
    expect(boundsOf({ gt: "a", lte: "a" })).toBeUndefined();
    expect(boundsOf({ gte: "a", lte: "a" })).toBeDefined();
    expect(boundsOf({ gt: "a", gte: "b", lte: "b" })).toBeDefined();
    expect(boundsOf({ gt: "b", gte: "b", lte: "b" })).toBeUndefined();
    expect(boundsOf({ limit: 0 })).toBeUndefined();
    expect(boundsOf({ limit: Number.POSITIVE_INFINITY })).toBeDefined();
  });

  test("undefined members are as if not given", () => {
    expect(boundsOf({ gt: undefined, prefix: undefined, limit: undefined, reverse: undefined })).toEqual({
      isReverse: false,
      limit: Number.POSITIVE_INFINITY,
    });
  });

  test("a prefix is bytes whatever the codec of the keys, and a message calls it a prefix", () => {
    using db = Emdb.openInMemory({ rangeScans: true });
    const numbers = db.namespace("numbers", { key: codec.uint32, value: codec.text });
    const { message } = expectCode("EMDB_INVALID_ARGUMENT", () => numbers.range({ prefix: 1 as never }));
    expect(message).toStartWith("the prefix must be a string, a Uint8Array or an ArrayBuffer, got 1");
    numbers.insert(65_537, "one");
    expect([...numbers.range({ prefix: new Uint8Array([0, 1]) })]).toEqual([[65_537, "one"]]);
  });

  test("a prefix is compared byte by byte", () => {
    expect(startsWith(new Uint8Array([1, 2]), { prefix: new Uint8Array([1]) })).toBe(true);
    expect(startsWith(new Uint8Array([1]), { prefix: new Uint8Array([1, 2]) })).toBe(false);
    expect(startsWith(new Uint8Array([1, 3]), { prefix: new Uint8Array([1, 2]) })).toBe(false);
  });
});
