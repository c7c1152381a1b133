/** Large batches where there is an ordered index: in which order their records come to stand in the log, and that this is all that changes. */

import { writeFileSync } from "node:fs";
import { expect, spyOn, test } from "bun:test";
import { BatchOrder } from "../../src/engine/write/batch-order.ts";
import { lengthSum } from "../../src/engine/write/batch-lengths.ts";
import type { Bytes } from "../../src/engine/contract.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { Emdb } from "../../src/index.ts";
import { Random } from "../sim/random.ts";
import { FRAME_HEADER_BYTES } from "../../src/log/frame.ts";
import { fastFolder } from "./fixture.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";

const encoder = new TextEncoder();
const bytesOf = (key: Bytes): Uint8Array => (typeof key === "string" ? encoder.encode(key) : key);

/** A number's digits turned round, so that neither the first numbers nor their neighbours come first. */
const turned = (number: number): string => String(number).padStart(6, "0").split("").toReversed().join("");

/** And what share of them comes to stand behind the one before. */
const KINDS: readonly (readonly [string, number, (number: number) => Bytes])[] = [
  ["texts", 0.98, (number) => turned(number)],
  ["texts that begin alike", 0.98, (number) => `user:${turned(number)}:profile`],
  ["texts that begin alike and not in ASCII", 0.98, (number) => `пользователь:${turned(number)}`],
  [
    "texts that differ in what is not ASCII",
    0.98,
    (number) => String.fromCodePoint(0x400 + (Math.imul(number, 7919) & 0x3fff)),
  ],
  ["bytes", 0.98, (number) => encoder.encode(turned(number))],
  [
    "bytes that begin alike for longer than is compared, which stay as they come",
    0.4,
    (number) => encoder.encode("x".repeat(100) + turned(number)),
  ],
  [
    "bytes and texts in turn",
    0.98,
    (number) => (number % 2 === 0 ? `ä:${turned(number)}` : encoder.encode(`ä:${turned(number)}`)),
  ],
  [
    "keys of all lengths",
    0.98,
    (number) =>
      turned(number)
        .repeat(30)
        .slice(0, number % 150),
  ],
];

const compareTexts = (one: string, other: string): number => (one < other ? -1 : Number(one > other));
const byKey = ([one]: [string, string], [other]: [string, string]): number => compareTexts(one, other);

/** Where the records of the default key space stand, in the order of their keys. */
function placesOf({ core, spaces, defaultSpace }: Engine): number[] {
  const places: number[] = [];
  core.ordering!.checkOf((lsn) => places.push(lsn)).walk(spaces.tree(defaultSpace));
  return places;
}

/** Of some places the share that lies behind the one before. */
function inOrder(places: readonly number[]): number {
  return places.filter((place, index) => index === 0 || place > places[index - 1]!).length / places.length;
}

function insertMany({ engine }: EngineFixture, keys: readonly Bytes[], values: readonly Bytes[] = keys): void {
  engine.insertMany(engine.defaultSpace, keys, values, 0);
}

function openFixture(file: string, rangeScans = true): EngineFixture {
  return new EngineFixture(file, hostSystem(), { rangeScans });
}

test.each(KINDS)("a large batch of %s stands in the log in the order of its keys, %d of it", (_, share, keyOf) => {
  using folder = fastFolder();
  using fixture = openFixture(folder.file("data.emdb"));
  const keys = Array.from({ length: 3000 }, (_, number) => keyOf(number));
  const distinct = new Map(keys.map((key) => [bytesOf(key).toHex(), key]));
  const all = [...distinct.values()];
  insertMany(fixture, all);
  const places = placesOf(fixture.engine);
  expect(places.length).toBe(all.length);
  expect(inOrder(places)).toBeGreaterThanOrEqual(share);
  for (const key of all) expect(fixture.engine.get(fixture.engine.defaultSpace, key)).toEqual(bytesOf(key));
});

/** The key of the first record of a batch as it is written. */
function firstWritten(fixture: EngineFixture, keys: readonly string[]): string {
  const { core } = fixture.engine;
  const { end } = core.tail;
  insertMany(fixture, keys);
  core.lookup.loadAnyAt(end);
  return Buffer.from(
    core.lookup.frame.u8.subarray(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + keys[0]!.length),
  ).toString();
}

test("a batch of few records, or of few beside what is there, stands as it came, and so does any without an ordered index", () => {
  using folder = fastFolder();
  const backwards = (count: number): string[] =>
    Array.from({ length: count }, (_, number) => String(count - number).padStart(6, "0"));
  const many = Array.from({ length: 300 * 32 }, (_, number) => turned(number));
  for (const rangeScans of [true, false]) {
    using fixture = openFixture(folder.file(`${rangeScans}.emdb`), rangeScans);
    expect(firstWritten(fixture, backwards(255))).toBe("000255");
    expect(firstWritten(fixture, backwards(256))).toBe(rangeScans ? "000001" : "000256");
    insertMany(fixture, many);
    expect(firstWritten(fixture, backwards(299))).toBe("000299");
    expect(firstWritten(fixture, backwards(400))).toBe(rangeScans ? "000001" : "000400");
  }
});

test("an encrypted file does not say how long the record of each rank is", () => {
  using folder = fastFolder();
  using ordered = spyOn(BatchOrder, "of");
  const entries = Array.from({ length: 300 }, (_, number): [string, string] => [turned(number), "v"]);
  for (const [name, encryption] of [
    ["plain", undefined],
    ["sealed", { key: new Uint8Array(32).fill(9) }],
  ] as const) {
    using db = Emdb.open(folder.file(`${name}.emdb`), { rangeScans: true, ...(encryption && { encryption }) });
    db.insertMany(entries);
    expect([...db.range()].map(([key]) => Buffer.from(key).toString())).toEqual(
      entries.map(([key]) => key).toSorted(compareTexts),
    );
    expect(ordered.mock.calls.length).toBe(1);
  }
});

test("of records of one key in a batch the last one counts, whether the key is text or bytes", () => {
  const random = new Random(17);
  using db = Emdb.openInMemory({ rangeScans: true });
  const wanted = new Map<string, string>();
  const stems = ["", "a", "user:", "ключ:", "ü", "\u{1F600}", "user:".repeat(20)];
  const entries = Array.from({ length: 5000 }, (_, number): [Bytes, string] => {
    const key = stems[random.below(stems.length)]! + String(random.below(200));
    wanted.set(key, String(number));
    return [random.below(2) === 0 ? key : encoder.encode(key), String(number)];
  });
  expect(db.insertMany(entries)).toBe(5000);
  const found = new Map(
    [...db.range()].map(([key, value]) => [Buffer.from(key).toString(), Buffer.from(value).toString()]),
  );
  expect([...found].toSorted(byKey)).toEqual([...wanted].toSorted(byKey));
  expect([...db.range()].map(([key]) => Buffer.from(key).toString("hex"))).toEqual(
    [...wanted.keys()].map((key) => Buffer.from(key).toString("hex")).toSorted(compareTexts),
  );
  for (const [key, value] of wanted) expect(db.getText(key)).toBe(value);
});

test("a key is ordered as text where it is as bytes, whatever character comes where the comparison ends", () => {
  const stem = "x".repeat(64);
  for (const character of ["a", "ü", "\u20ac", "\u{1F600}"]) {
    for (let before = 0; before <= 9; before++) {
      const key = `${stem}${"y".repeat(before)}${character}`;
      const keys: Bytes[] = [`${stem}zz`, key, encoder.encode(key), key, `${stem}a`];
      const { numbers } = BatchOrder.of(keys, keys)!.gather(0);
      expect(numbers?.filter((number) => [1, 2, 3].includes(number))).toEqual([1, 2, 3]);
    }
  }
});

test("records that come in the order of their keys are written as they come", () => {
  const keys = Array.from({ length: 1000 }, (_, number) => String(number).padStart(6, "0"));
  expect(BatchOrder.of(keys, keys)).toBeUndefined();
  expect(BatchOrder.of(["one"], ["value"])).toBeUndefined();
  expect(BatchOrder.of(["same", "same", "same"], ["1", "2", "3"])).toBeUndefined();
  expect(BatchOrder.of(keys.toReversed(), keys)).toBeDefined();
});

test("each record of an ordered batch comes once, with its number in the batch", () => {
  const random = new Random(4);
  for (const count of [2, 63, 64, 65, 200]) {
    const keys = Array.from({ length: count }, (_, number) => `${random.below(1000)}:${number}`);
    const values = keys.map((key) => encoder.encode(`of ${key}`));
    keys[0] = "z";
    const order = BatchOrder.of(keys, values)!;
    const seen: number[] = [];
    for (let from = 0; from < count;) {
      const part = order.gather(from);
      expect(part.first).toBe(0);
      part.keys.forEach((key, index) => {
        const number = part.numbers![index]!;
        expect([key, part.values[index]]).toEqual([keys[number]!, values[number]]);
        seen.push(number);
      });
      from += part.keys.length;
    }
    expect(seen.toSorted((a, b) => a - b)).toEqual(keys.map((_, number) => number));
    expect(seen.at(-1)).toBe(0);
  }
});

test("the lengths of an ordered batch are summed as they were checked, and looked at again where they differ", () => {
  using folder = fastFolder();
  using fixture = openFixture(folder.file("data.emdb"));
  const { engine } = fixture;
  const keys = Array.from({ length: 500 }, (_, number) => encoder.encode(turned(number).slice(number % 3)));
  const values = keys.map((_, number) => new Uint8Array(number));
  const sum = lengthSum({ keys, values, first: 0 }, keys.length);
  let changed = 0;
  const onChanged = (): void => void (changed += 1);
  engine.insertMany(engine.defaultSpace, keys, values, 0, { sum, onChanged });
  expect(changed).toBe(0);
  engine.insertMany(engine.defaultSpace, keys, values, 0, { sum: sum + 1, onChanged });
  expect(changed).toBe(1);
});

test("a batch whose arrays lie anywhere on the heap, empty ones among them, is written as any other", () => {
  const random = new Random(9);
  for (const rangeScans of [false, true]) {
    using db = Emdb.openInMemory({ rangeScans });
    const entries = Array.from({ length: 2000 }, (_, number): [Uint8Array, Uint8Array] => [
      encoder.encode(`key ${number}`),
      new Uint8Array([0, 1, 70, 600, 5000][number % 5]!).fill(number),
    ]);
    for (let last = entries.length - 1; last > 0; last--) {
      const other = random.below(last + 1);
      [entries[last], entries[other]] = [entries[other]!, entries[last]!];
    }
    expect(db.insertMany(entries)).toBe(2000);
    for (const [key, value] of entries) expect(db.get(key)).toEqual(value);
  }
});

test("an ordered batch that a full disk ends anywhere is taken back whole, and one that a copy of the file has half of is not there", () => {
  using folder = fastFolder();
  const keyOf = (number: number): string => `user:${turned(number)}`;
  const before = Array.from({ length: 300 }, (_, number) => keyOf(number * 3));
  const batch = Array.from({ length: 3000 }, (_, number) => keyOf(number % 2000));
  const values = batch.map((key, number) => new Uint8Array(6000).fill(key.length + number));
  // More than the ring takes: some of it is in the file when the disk is full.
  for (const refused of [1, 2, 3]) {
    let grants = Infinity;
    const system = faulty(hostSystem(), (call) => (call === "allocate" && --grants <= 0 ? -Errno.ENOSPC : undefined));
    const file = folder.file(`${refused}.emdb`);
    using fixture = new EngineFixture(file, system, { rangeScans: true });
    insertMany(fixture, before);
    fixture.sync.flush();
    const state = fixture.state();
    grants = refused;
    expect(() => insertMany(fixture, batch, values)).toThrow(EmdbError);
    grants = Infinity;
    expect(fixture.state()).toBe(state);
    expect(placesOf(fixture.engine).length).toBe(before.length);
    const copied = folder.file(`${refused}-copy.emdb`);
    writeFileSync(copied, fixture.image());
    using opened = openFixture(copied);
    expect(opened.state()).toBe(state);
    insertMany(fixture, batch, values);
    for (const [number, key] of batch.entries()) {
      if (number < 1000) continue;
      expect(fixture.engine.get(fixture.engine.defaultSpace, key)?.[0]).toBe((key.length + number) & 0xff);
    }
  }
});
