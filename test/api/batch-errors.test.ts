/** What is wrong with one key or value of a batch says with which, and nothing of the batch is written. */

import { afterEach, expect, test } from "bun:test";
import { Emdb, EmdbError } from "../../src/index.ts";
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
  const thrown = ((): unknown => {
    try {
      db.insertMany(entries());
      return undefined;
    } catch (error) {
      return error;
    }
  })();
  expect(thrown).toBe(own);
  expect(db.len()).toBe(0);
});
