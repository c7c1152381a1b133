/** What is wrong with one key or value of a batch says with which, and nothing of the batch is written. */

import { afterEach, expect, test } from "bun:test";
import { codec, Emdb, EmdbError, type Codec } from "../../src/index.ts";
import { KEY_BYTES_MAX } from "../../src/limits.ts";
import { expectCode } from "../contract/fixture.ts";

const db = Emdb.openInMemory();
afterEach(() => db.clear());

const long = new Uint8Array(KEY_BYTES_MAX + 1);

/** The elements as each kind of iterable that a caller may have. */
function* kindsOf<T>(elements: readonly T[]): Generator<Iterable<T>> {
  yield elements;
  yield new Set(elements);
  yield (function* () {
    yield* elements;
  })();
}

const message = (code: "EMDB_INVALID_ARGUMENT" | "EMDB_TOO_LARGE", call: () => unknown): string => {
  const text = expectCode(code, call).message;
  expect(db.len()).toBe(0);
  return text;
};

test("a wrong key of an entry", () => {
  const entries: [string | Uint8Array, string][] = [
    ["a", "1"],
    ["b", "2"],
    [long, "3"],
    ["d", "4"],
  ];
  for (const given of kindsOf(entries)) {
    const text = message("EMDB_TOO_LARGE", () => db.insertMany(given));
    expect(text).toContain("entry 2 of the batch: ");
    expect(text).toContain(`${KEY_BYTES_MAX + 1}`);
  }
  expect(message("EMDB_TOO_LARGE", () => db.insertMany(new Map(entries)))).toContain("entry 2 of the batch: ");
});

test("a wrong value of an entry", () => {
  const entries = [
    ["a", "1"],
    ["b", 2],
  ] as unknown as [string, string][];
  for (const given of kindsOf(entries))
    expect(message("EMDB_INVALID_ARGUMENT", () => db.insertMany(given))).toMatch(/^entry 1 of the batch: .*value/);
});

test("an entry that is none", () => {
  for (const given of kindsOf([["a", "1"], 7 as never] as [string, string][]))
    expect(message("EMDB_INVALID_ARGUMENT", () => db.insertMany(given))).toMatch(/^entry 1 must be \[key, value\]/);
});

test("a wrong key to read or to remove", () => {
  for (const call of ["getMany", "removeMany"] as const) {
    for (const given of kindsOf(["a", "b", "c", null as unknown as string]))
      expect(message("EMDB_INVALID_ARGUMENT", () => db[call](given))).toMatch(/^item 3 of the batch: .*key/);
  }
});

test("what the iterable throws is thrown as it is, also when it is an error of ours", () => {
  const own = new EmdbError("EMDB_INVALID_ARGUMENT", "from elsewhere");
  function* entries(): Generator<[string, string]> {
    yield ["a", "1"];
    throw own;
  }
  expect(thrownBy(() => db.insertMany(entries()))).toBe(own);
  expect(db.len()).toBe(0);
});

test("what a caller's codec throws is thrown as it is, also when it is an error of ours; a ready-made one is told of by its entry", () => {
  const own = new EmdbError("EMDB_INVALID_ARGUMENT", "no such date");
  const refusing: Codec<number> = {
    encode(value) {
      if (value === 3) throw own;
      return String(value);
    },
    decode: () => 0,
  };
  const byValue = db.typed({ value: refusing });
  const byKey = db.typed({ key: refusing, value: codec.text });
  for (const values of kindsOf([1, 2, 3])) {
    const all = [...values];
    expect(thrownBy(() => byValue.insertMany(all.map((value) => ["k", value])))).toBe(own);
    expect(thrownBy(() => byValue.insertMany(new Map(all.map((value) => [String(value), value]))))).toBe(own);
    expect(thrownBy(() => byKey.insertMany(all.map((value) => [value, "v"])))).toBe(own);
    expect(thrownBy(() => byKey.getMany(all))).toBe(own);
    expect(thrownBy(() => byKey.removeMany(all.values()))).toBe(own);
  }
  for (const value of [codec.text, codec.bytes, codec.uint32, codec.json()] as Codec<unknown>[])
    expect(message("EMDB_INVALID_ARGUMENT", () => db.typed({ value }).insertMany([["k", () => 1]]))).toStartWith(
      "entry 0 of the batch: ",
    );
  // What it gives is looked at here, and so is told of here.
  const wrong: Codec<number> = { encode: () => 5 as never, decode: () => 0 };
  expect(message("EMDB_INVALID_ARGUMENT", () => db.typed({ value: wrong }).insertMany([["k", 1]]))).toStartWith(
    "entry 0 of the batch: ",
  );
  expect(db.len()).toBe(0);
});

function thrownBy(call: () => unknown): unknown {
  try {
    call();
    return undefined;
  } catch (error) {
    return error;
  }
}
