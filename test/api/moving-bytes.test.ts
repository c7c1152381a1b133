/** Arrays and buffers that change under a call, by code of the caller's that the call itself runs. */

import { expect, test } from "bun:test";
import { openMemory } from "../../src/engine/open.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { KEY_BYTES_MAX, VALUE_BYTES_MAX } from "../../src/limits.ts";
import { CONFIG } from "../engine/open-engine.ts";
import { expectCode, stateOf } from "../engine/fixture.ts";

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
