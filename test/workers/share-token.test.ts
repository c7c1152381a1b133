/** Tokens that are not as `share` gave them: each field of one leads to addresses, handles or files, and none is believed. */

import { expect, test } from "bun:test";
import { Emdb, type EmdbShare } from "../../src/index.ts";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { attachApart } from "./attach-apart.ts";

type Fields = Readonly<Record<string, unknown>>;

const SECRET = { key: new Uint8Array(32).fill(0x5e) };

const fieldsOf = (db: Emdb): Fields => db.share() as unknown as Fields;

/** What may have become of a field on its way, in the hands of whoever passes it on. */
function othersOf(value: unknown): unknown[] {
  if (value instanceof SharedArrayBuffer) {
    const copy = new SharedArrayBuffer(value.byteLength);
    new Uint8Array(copy).set(new Uint8Array(value));
    return [undefined, {}, new SharedArrayBuffer(8), new SharedArrayBuffer(value.byteLength), copy];
  }
  if (value instanceof Uint8Array) {
    const flipped = value.with(0, value[0]! ^ 1);
    return [
      undefined,
      Object.fromEntries(value.entries()),
      Array.from(value),
      value.subarray(1),
      flipped,
      value.toHex(),
    ];
  }
  const numbers = [0, 1, -1, 4096, 2 ** 40, NaN, Infinity];
  const plain = [undefined, null, "", "x", true, false, {}, new Uint8Array(8), ...numbers];
  if (typeof value === "number")
    return [...plain, value + 1, value + 0.5, -1 - value, `${value}`, BigInt(Math.trunc(value))];
  if (typeof value === "string") return [...plain, `${value}x`, value.slice(1), value.toUpperCase() + value];
  if (typeof value !== "object" || value === null) return plain;
  const within = Object.entries(value).flatMap(([name, part]) =>
    othersOf(part).map((other) => ({ ...value, [name]: other })),
  );
  return [...plain, ...within];
}

/** Which of so many tokens are believed, or refused by anything but an invalid argument. */
function believed(tokens: readonly (readonly [name: string, token: Fields])[]): string[] {
  return tokens
    .filter(([, token]) => {
      try {
        attachApart(token as unknown as EmdbShare).closeSync();
        return true;
      } catch (error) {
        return (error as { code?: string }).code !== "EMDB_INVALID_ARGUMENT";
      }
    })
    .map(([name]) => name);
}

const isSame = (one: Fields, other: Fields): boolean =>
  Object.entries(one).every(([name, value]) => {
    const twin = other[name];
    return value instanceof SharedArrayBuffer ? value === twin : Bun.deepEquals(value, twin);
  });

/** The ways to open whose tokens differ in what is in them. */
function everyKind(folder: TemporaryFolder): Emdb[] {
  const [plain, sealed, read] = ["plain", "sealed", "read"].map((name) => folder.file(`${name}.emdb`));
  Emdb.open(read!).closeSync();
  return [
    Emdb.open(plain!, { autoCompact: true, flushPolicy: { group: { maxWaitMs: 1, maxBatch: 64 } }, rangeScans: true }),
    Emdb.open(sealed!, { encryption: SECRET, defaultTtlMs: 60_000 }),
    Emdb.open(read!, { readOnly: true, createIfMissing: false }),
    Emdb.openInMemory(),
  ];
}

test("a token that says anything else in any of its fields than what was shared is refused", () => {
  using folder = temporaryFolder();
  for (const owner of everyKind(folder)) {
    const whole = fieldsOf(owner);
    const changed = Object.entries(whole).flatMap(([name, value]) =>
      othersOf(value).map((other) => [`${name}: ${Bun.inspect(other)}`, { ...whole, [name]: other }] as const),
    );
    const without = Object.keys(whole).map((name) => {
      const { [name]: _, ...rest } = whole;
      return [`without ${name}`, rest] as const;
    });
    const others = [...changed, ...without].filter(([, token]) => !isSame(whole, token));
    expect(others.length).toBeGreaterThan(200);
    expect(believed(others)).toEqual([]);
    attachApart({ ...whole, more: 1 } as unknown as EmdbShare).closeSync();
    owner.closeSync();
  }
});

test("a token with a field of another database's, or of an earlier open's, is refused", () => {
  using folder = temporaryFolder();
  const path = folder.file("plain.emdb");
  const before = Emdb.open(path);
  const earlier = fieldsOf(before);
  before.closeSync();
  const owners = everyKind(folder);
  const tokens = owners.map(fieldsOf);
  const mixed = tokens.flatMap((whole, index) =>
    [...tokens, earlier].flatMap((other, second) =>
      Object.keys(whole).flatMap((name) => [
        [`${name} of ${second} in ${index}`, { ...whole, [name]: other[name] }] as const,
        [`all but ${name} of ${second} in ${index}`, { ...other, [name]: whole[name] }] as const,
      ]),
    ),
  );
  const others = mixed.filter(([, token]) => ![...tokens, earlier].some((whole) => isSame(whole, token)));
  expect(others.length).toBeGreaterThan(100);
  expect(believed(others)).toEqual([]);
  // Under this thread's own list of what is open as well.
  for (const [, token] of others)
    expect(() => Emdb.attach(token as unknown as EmdbShare)).toThrow(
      expect.objectContaining({ code: "EMDB_INVALID_ARGUMENT" }),
    );
  expect(() => Emdb.attach(earlier as unknown as EmdbShare)).toThrow(expect.objectContaining({ code: "EMDB_CLOSED" }));
  for (const owner of owners) owner.closeSync();
});

test("who writes into a token changes nothing of the database that it is of", () => {
  using folder = temporaryFolder();
  for (const owner of everyKind(folder)) {
    const { path } = owner;
    const { recovery } = owner;
    const token = fieldsOf(owner) as Record<string, unknown>;
    for (const value of Object.values(token)) {
      if (value instanceof Uint8Array) value.fill(0);
      else if (typeof value === "object" && value !== null && !(value instanceof SharedArrayBuffer))
        for (const name of Object.keys(value)) Reflect.set(value, name, 7);
    }
    for (const name of Object.keys(token)) if (name !== "buffer") token[name] = 7;
    const guest = attachApart(owner.share());
    expect([guest.path, owner.path, guest.recovery]).toEqual([path, path, recovery]);
    owner.closeSync();
    guest.closeSync();
  }
  for (const name of ["plain", "read"]) Emdb.open(folder.file(`${name}.emdb`)).closeSync();
});
