/** Arrays and buffers that change under a call, by code of the caller's that the call itself runs. */

import { expect, test } from "bun:test";
import type { Database } from "../../src/api/database.ts";
import { openMemory } from "../../src/engine/open/open.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { KEY_BYTES_MAX, VALUE_BYTES_MAX } from "../../src/limits.ts";
import { memoryDatabase } from "../contract/memory-life.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { CONFIG } from "../engine/open-engine.ts";
import { expectCode, stateOf } from "../engine/fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

/** An array that hands out another element from the second time on that one is asked for. */
function shifty<T>(first: T, later: T): T[] {
  let reads = 0;
  return new Proxy([first], {
    get: (target, name, receiver): unknown =>
      name === "0" && ++reads > 1 ? later : Reflect.get(target, name, receiver),
  });
}

/** A view of a buffer that grows, and what makes it grow. */
function growing(bytes: number, bytesMax: number): { readonly view: Uint8Array; readonly grow: () => void } {
  const buffer = new ArrayBuffer(bytes, { maxByteLength: bytesMax });
  return { view: new Uint8Array(buffer), grow: () => buffer.resize(bytesMax) };
}

test("each element of an array of keys is asked for once, and what was checked is what is looked up", () => {
  using db = Emdb.openInMemory();
  db.insert("a", "1");
  db.insert("b", "2");
  const tooLong = new Uint8Array(KEY_BYTES_MAX + 1);
  expect(db.getMany(shifty<string | Uint8Array>("a", tooLong))).toEqual([new TextEncoder().encode("1")]);
  expect(db.removeMany(shifty<string | Uint8Array>("a", tooLong))).toBe(1);
  expect([...db.keys()].length).toBe(1);
});

test("an array of keys that writes while it is read does so before the batch", () => {
  using db = Emdb.openInMemory();
  for (const key of ["a", "b", "c"]) db.insert(key, "1");
  const keys = Object.defineProperty(["a", "b", "c"], 1, {
    get: () => {
      db.insert("z", "in between");
      return "b";
    },
  });
  expect(db.removeMany(keys)).toBe(3);
  expect([...db.keys()].map((key) => Buffer.from(key).toString())).toEqual(["z"]);
});

test("a key whose buffer outgrows the limit behind its check is EMDB_TOO_LARGE, and nothing is written", () => {
  using db = Emdb.openInMemory();
  db.insert("before", new Uint8Array([1]));
  const state = stateOf(db);
  for (const write of [
    (key: Uint8Array, grow: () => void): void => {
      const last = Object.defineProperty<[string, string]>(["", ""], 1, { get: () => (grow(), "value") });
      db.insertMany([["first", "value"], [key, "value"], last]);
    },
    (key: Uint8Array, grow: () => void): void => {
      db.removeMany(Object.defineProperty(["before", key, ""], 2, { get: () => (grow(), "last") }));
    },
  ]) {
    const { view, grow } = growing(8, KEY_BYTES_MAX + 1);
    const { message } = expectCode("EMDB_TOO_LARGE", () => write(view, grow));
    expect(message).toContain("65536");
    expect(stateOf(db)).toBe(state);
  }
});

test("a value that has outgrown the limit behind its check is EMDB_TOO_LARGE, and nothing is written", () => {
  const environment = { system: hostSystem(), defer: (): void => undefined, hasWorkers: false };
  const { engine, leave } = openMemory(environment, CONFIG);
  const space = engine.defaultSpace;
  const value = new Uint8Array(VALUE_BYTES_MAX + 1);
  expectCode("EMDB_TOO_LARGE", () => engine.insertMany(space, ["a", "b"], ["value", value], 0));
  expectCode("EMDB_TOO_LARGE", () => engine.insert(space, "c", value, 0));
  expect([engine.count(space), engine.core.tail.end]).toEqual([0, engine.core.visible]);
  leave();
});

test("an array, a map or a set that gives its elements its own way may fill one buffer again for each", () => {
  const buffer = new Uint8Array(1);
  function* letters<T>(give: () => T): Generator<T> {
    for (const byte of [65, 66, 67]) {
      buffer[0] = byte;
      yield give();
    }
  }
  const pair = (): [Uint8Array, Uint8Array] => [buffer, buffer];
  class Rows extends Array<[Uint8Array, Uint8Array]> {
    override [Symbol.iterator] = () => letters(pair);
  }
  class Table extends Map<Uint8Array, Uint8Array> {
    override [Symbol.iterator] = () => letters(pair) as MapIterator<[Uint8Array, Uint8Array]>;
  }
  for (const entries of [new Rows(), new Table()]) {
    using db = Emdb.openInMemory();
    expect(db.insertMany(entries)).toBe(3);
    expect(db.getMany(["A", "B", "C"]).map((value) => value?.[0])).toEqual([65, 66, 67]);
    const keys = Object.assign([], { [Symbol.iterator]: () => letters(() => buffer) }) as Uint8Array[];
    expect(db.getMany(keys).map((value) => value?.[0])).toEqual([65, 66, 67]);
    expect(db.removeMany(keys)).toBe(3);
  }
});

/** What code of the caller's can do to bytes that stand elsewhere in the same call. */
const SPOILS: readonly (readonly [string, (view: Uint8Array<ArrayBuffer>) => unknown])[] = [
  ["detached", (view) => view.buffer.transfer()],
  ["shrunk", (view) => view.buffer.resize(4)],
  ["emptied", (view) => view.buffer.resize(0)],
  ["grown", (view) => view.buffer.resize(16)],
];

/** Eight bytes that a view of a whole buffer has, or one of a part of it. */
function spoilable(part: "whole" | "part"): Uint8Array<ArrayBuffer> {
  const buffer = new ArrayBuffer(8, { maxByteLength: 16 });
  return (part === "whole" ? new Uint8Array(buffer) : new Uint8Array(buffer, 0, 8)).fill(97);
}

/** A list of which the last element is code, run when it is read. */
function endingIn<T>(list: readonly T[], last: () => T): T[] {
  return Object.defineProperty([...list, last] as T[], list.length, { get: last });
}

const BATCHES: readonly (readonly [string, (db: Emdb, view: Uint8Array, spoil: () => unknown) => unknown])[] = [
  [
    "a key of insertMany",
    (db, view, spoil) =>
      db.insertMany(endingIn<[Uint8Array | string, string]>([[view, "1"]], () => (spoil(), ["last", "2"]))),
  ],
  [
    "a value of insertMany",
    (db, view, spoil) =>
      db.insertMany(endingIn<[string, Uint8Array | string]>([["first", view]], () => (spoil(), ["last", "2"]))),
  ],
  [
    "a key beside its own value",
    (db, view, spoil) =>
      db.insertMany([
        ["first", "1"],
        endingIn<Uint8Array | string>([view], () => (spoil(), "value")) as [string, string],
      ]),
  ],
  [
    "a key of a set of entries",
    (db, view, spoil) =>
      db.insertMany(
        new Set([[view, "1"], endingIn<string>(["last"], () => (spoil(), "value"))] as [Uint8Array | string, string][]),
      ),
  ],
  ["a key of removeMany", (db, view, spoil) => db.removeMany(endingIn([view, "before"], () => (spoil(), "last")))],
  ["a key of getMany", (db, view, spoil) => db.getMany(endingIn([view, "before"], () => (spoil(), "last")))],
];

for (const [subject, call] of BATCHES) {
  test.each(SPOILS)(`${subject} that a later element has %s is refused, and nothing is written`, (how, spoil) => {
    for (const part of ["whole", "part"] as const) {
      // That view has the same bytes as before.
      if (part === "part" && how === "grown") continue;
      using db = Emdb.openInMemory();
      db.insert("before", "1");
      db.insert("", "the empty key");
      db.insert("aaaa", "a shortened key");
      const state = stateOf(db);
      const view = spoilable(part);
      const { message } = expectCode("EMDB_INVALID_ARGUMENT", () => call(db, view, () => spoil(view)));
      expect(message).toContain(subject.includes("value of") ? "the value" : "the key");
      expect(stateOf(db)).toBe(state);
    }
  });
}

test("a long batch of which a key changed, and much of which is in the file by then, is taken back there as well", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using db = Emdb.open(path);
    db.insert("before", "1");
    const state = stateOf(db);
    const view = spoilable("whole");
    const value = new Uint8Array(30_000);
    const many = Array.from({ length: 700 }, (_, index): [string | Uint8Array, Uint8Array] => [`key ${index}`, value]);
    many.unshift([view, value]);
    const batch = endingIn<[string | Uint8Array, Uint8Array]>(many, () => (view.buffer.transfer(), ["last", value]));
    expectCode("EMDB_INVALID_ARGUMENT", () => db.insertMany(batch));
    expect(stateOf(db)).toBe(state);
    db.insert("behind", "2");
  }
  using db = Emdb.open(path);
  expect([...db.keys()].map((key) => Buffer.from(key).toString()).toSorted()).toEqual(["before", "behind"]);
});

test("what an iterator gave before it took the buffer away stays as it was given", () => {
  for (const [, spoil] of SPOILS) {
    using db = Emdb.openInMemory();
    function* taking<T>(give: (view: Uint8Array) => T): Generator<T> {
      const view = spoilable("whole");
      yield give(view);
      spoil(view);
    }
    expect(db.insertMany(taking<[Uint8Array, Uint8Array]>((view) => [view, view]))).toBe(1);
    expect(db.getMany(taking((view) => view))).toEqual([new Uint8Array(8).fill(97)]);
    expect(db.removeMany(taking((view) => view))).toBe(1);
  }
});

test("an entry of an iterator whose value, when it is read, takes the key away has the key that it gave", () => {
  for (const [, spoil] of SPOILS) {
    using db = Emdb.openInMemory();
    function* entries(): Generator<[Uint8Array, string]> {
      const view = spoilable("whole");
      yield endingIn<Uint8Array | string>([view], () => (spoil(view), "value")) as [Uint8Array, string];
    }
    expect(db.insertMany(entries())).toBe(1);
    expect([...db.keys()]).toEqual([new Uint8Array(8).fill(97)]);
  }
});

test("a batch takes memory that another thread shares as long as it is when it is copied", () => {
  using db = Emdb.openInMemory();
  const buffer = new SharedArrayBuffer(8, { maxByteLength: 16 });
  const view = new Uint8Array(buffer).fill(97);
  db.insertMany(
    endingIn<[Uint8Array | string, Uint8Array | string]>([[view, view]], () => (buffer.grow(16), ["b", "2"])),
  );
  const grown = new Uint8Array(16).fill(97, 0, 8);
  expect(db.get(grown)).toEqual(grown);
  expect(db.getMany([grown, "b"]).map((value) => value?.length)).toEqual([16, 1]);
});

test("no code of the caller's runs where a value is checked: the key has been", () => {
  class Spoiling extends ArrayBuffer {
    override get detached(): boolean {
      return (spoil(), false);
    }
  }
  let spoil = (): void => undefined;
  const trap = new Proxy(Uint8Array.prototype, {
    getPrototypeOf: () => (spoil(), Uint8Array.prototype),
    get: (target, name) => (spoil(), Reflect.get(target, name)),
  });
  const values: (() => Uint8Array | ArrayBuffer)[] = [
    () => Object.setPrototypeOf(new Uint8Array(4), trap) as Uint8Array,
    () => Object.defineProperty(new Uint8Array(4), "length", { get: () => (spoil(), 4) }),
    () => new Spoiling(4),
    () => Object.defineProperty(new ArrayBuffer(4), "detached", { get: () => (spoil(), false) }),
  ];
  for (const valueOf of values) {
    const calls: ((db: Emdb, key: Uint8Array, value: Uint8Array) => unknown)[] = [
      (db, key, value) => db.insert(key, value),
      (db, key, value) => db.insertMany([[key, value]]),
      (db, key, value) => db.compareAndSwap(key, undefined, value),
      (db, key, value) => db.update(key, () => value),
      (db, key, value) => db.transaction((tx) => tx.insert(key, value)),
    ];
    for (const call of calls) {
      using db = Emdb.openInMemory();
      const key = spoilable("whole");
      const value = valueOf();
      spoil = () => void (key.buffer.detached || key.buffer.transfer());
      call(db, key, value as Uint8Array);
      spoil = () => undefined;
      expect(stateOf(db)).toBe(`[["",["${"61".repeat(8)}=00000000@0"]]]`);
    }
  }
});

test("update reads its options before the function gives the value", () => {
  using db = Emdb.openInMemory();
  const view = spoilable("whole");
  let reads = 0;
  const options = {
    get ttlMs(): number {
      reads += 1;
      if (reads === 2) view.buffer.transfer();
      return Infinity;
    },
  };
  expect(db.update("key", () => view, options)).toEqual(new Uint8Array(8).fill(97));
  expect(db.get("key")).toEqual(new Uint8Array(8).fill(97));
});

/** A database over the twin, with bytes that another thread changes from `a`s to `b`s around a call of the twin. */
function beside(
  asked: "get" | "expiresAt" | "insert" | "range",
  moment: "before" | "behind",
): { readonly db: Database; readonly shared: Uint8Array } {
  const store = new MemoryStore({ rangeScans: true });
  const db = memoryDatabase(store);
  db.insert("aaa", "of a", { ttlMs: 1000 });
  db.insert("bbb", "of b", { ttlMs: 1000 });
  const shared = new Uint8Array(new SharedArrayBuffer(3)).fill(97);
  const call = store[asked].bind(store) as (...parts: unknown[]) => unknown;
  const disturbed = (...parts: unknown[]): unknown => {
    if (moment === "before") shared.fill(98);
    const answer = call(...parts);
    shared.fill(98);
    return answer;
  };
  Object.assign(store, { [asked]: disturbed });
  return { db, shared };
}

function textsOf(db: Database): (string | undefined)[] {
  return [db.getText("aaa"), db.getText("bbb")];
}

test("compareAndSwap writes to the key whose value it compared, also in memory that another thread writes to", () => {
  const { db, shared } = beside("get", "behind");
  expect(db.compareAndSwap(shared, "of a", "new")).toBe(true);
  expect(textsOf(db)).toEqual(["new", "of b"]);
  shared.fill(97);
  expect(db.compareAndSwap(shared, "new", undefined)).toBe(true);
  expect(textsOf(db)).toEqual([undefined, "of b"]);
});

test("persist writes to the key whose deadline it read, also in memory that another thread writes to", () => {
  const { db, shared } = beside("expiresAt", "behind");
  expect(db.persist(shared)).toBe(true);
  expect(textsOf(db)).toEqual(["of a", "of b"]);
  expect([db.expiresAt("aaa"), db.ttl("bbb")]).toEqual([0, 1000]);
});

test("update returns what is stored, also of a value in memory that another thread writes to", () => {
  const { db, shared } = beside("insert", "before");
  expect(db.update("aaa", () => shared)).toEqual(new TextEncoder().encode("aaa"));
  expect(textsOf(db)).toEqual(["aaa", "of b"]);
});

test("a transaction writes to the key that it found, also in memory that another thread writes to", () => {
  const { db, shared } = beside("get", "behind");
  expect(db.transaction((tx) => tx.remove(shared))).toEqual(new TextEncoder().encode("of a"));
  expect(textsOf(db)).toEqual([undefined, "of b"]);
  shared.fill(97);
  const toText = Buffer.prototype.toString;
  db.transaction((tx) => {
    Buffer.prototype.toString = function (this: Buffer, ...parts: []) {
      const text = toText.apply(this, parts);
      shared.fill(98);
      return text;
    };
    try {
      tx.insert(shared, "new");
    } finally {
      Buffer.prototype.toString = toText;
    }
    expect(tx.get("aaa")).toEqual(new TextEncoder().encode("new"));
  });
  expect(textsOf(db)).toEqual(["new", "of b"]);
});

test("a range has the bounds that it was given, also in memory that another thread writes to", () => {
  for (const bounds of ["gte", "prefix"] as const) {
    const { db, shared } = beside("range", "before");
    expect([...db.range({ [bounds]: shared })].length).toBe(bounds === "gte" ? 2 : 1);
  }
});
