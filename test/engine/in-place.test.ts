/** Long batches, whose frames are built where they are to stand: they are what any other frame is, wherever they come to lie. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { SealedEncoder } from "../../src/engine/sealed/sealed-encoder.ts";
import { openMemory } from "../../src/engine/open/open.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { RING_BYTES } from "../../src/limits.ts";
import { CONFIG } from "./open-engine.ts";
import { Random } from "../sim/random.ts";
import { emulator } from "../support/platform.ts";
import { EngineFixture } from "./engine-fixture.ts";
import { fastFolder } from "./fixture.ts";

setDefaultTimeout(120_000);

const COUNT = 33_000;
const TURNS = emulator === undefined ? 3 : 1.2;
const LATER_MS = 4_000_000_000_000;
/** Empty, short, longer than an XXH32 is taken of, longer than is copied. */
const LENGTHS = [0, 1, 150, 150, 150, 4096 - 12, 9000, 70_000];

interface Batch {
  readonly keys: string[];
  readonly values: Uint8Array[];
  readonly expiresAtMs: number;
}

/** Some keys come twice, and some were in the batch before. */
function* batches(seed: number, bytes: number): Generator<Batch> {
  const random = new Random(seed);
  for (let written = 0, number = 0; written < bytes; number += 1) {
    const keys: string[] = [];
    const values: Uint8Array[] = [];
    for (let index = 0; index < COUNT; index += 1) {
      const value = new Uint8Array(random.chance(0.002) ? random.pick(LENGTHS) : random.below(300));
      random.randomize(value.subarray(0, 40));
      keys.push(`${random.below(3 * COUNT)}`.padStart(random.pick([4, 24, 300]), "k"));
      values.push(value);
      written += value.length + keys[index]!.length + 24;
    }
    yield { keys, values, expiresAtMs: number % 3 === 1 ? LATER_MS + number : 0 };
  }
}

type Written = Map<string, { readonly value: Uint8Array; readonly expiresAtMs: number }>;

function write(engine: EngineFixture["engine"], bytes: number, seed: number): Written {
  const written: Written = new Map();
  for (const { keys, values, expiresAtMs } of batches(seed, bytes)) {
    engine.insertMany(engine.defaultSpace, keys, values, expiresAtMs);
    for (const [index, key] of keys.entries()) written.set(key, { value: values[index]!, expiresAtMs });
    check(engine, new Map(keys.map((key) => [key, written.get(key)!])));
  }
  return written;
}

function check(engine: EngineFixture["engine"], written: Written): void {
  for (const [key, { value, expiresAtMs }] of written) {
    const found = engine.get(engine.defaultSpace, key);
    if (found === undefined || Buffer.compare(found, value) !== 0) throw new Error(`${key} is wrong`);
    expect(engine.expiresAt(engine.defaultSpace, key)).toBe(expiresAtMs);
  }
}

test.each([
  [1, false],
  [2, true],
])(
  "over many turns of the ring they read back at once, and after an open without an image (%d)",
  (seed, rangeScans) => {
    using folder = fastFolder();
    const path = folder.file("data.emdb");
    let written: Written;
    {
      using fixture = new EngineFixture(path, hostSystem(), { rangeScans });
      written = write(fixture.engine, TURNS * RING_BYTES, seed);
      expect(fixture.engine.count(fixture.engine.defaultSpace)).toBe(written.size);
      check(fixture.engine, written);
      fixture.checkLiveBytes();
    }
    using again = new EngineFixture(path, hostSystem(), { rangeScans });
    expect(again.engine.count(again.engine.defaultSpace)).toBe(written.size);
    check(again.engine, written);
  },
);

test("in memory, where there is no ring, they read back as well", () => {
  const defer = (work: () => void): void => void setImmediate(work);
  const life = openMemory({ system: hostSystem(), defer, hasWorkers: false }, CONFIG);
  check(life.engine, write(life.engine, 2 ** 21, 3));
  life.leave();
});

test("where they are sealed they read back as well", () => {
  using folder = fastFolder();
  using db = Emdb.open(folder.file("data.emdb"), { encryption: { key: new Uint8Array(32).fill(7) } });
  const entries = Array.from({ length: COUNT }, (_, index) => [`key ${index}`, `value ${index}`] as const);
  db.insertMany(entries);
  for (const [key, value] of entries) expect(db.getText(key)).toBe(value);
});

test("what seals frames builds none anywhere else than in the stage", () => {
  const encoder = new SealedEncoder({ header: 1, body: 2 }, undefined as never);
  expect(() => encoder.encodeAt()).toThrow("is built in the stage");
});

test("only frames of such a batch are, whether it succeeds or not", () => {
  using folder = fastFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine } = fixture;
  const { encoder, tail } = engine.core;
  const place = tail.place.bind(tail);
  const seen = new Set<string>();
  let fails = false;
  tail.place = (bytes) => {
    seen.add(encoder.ring === undefined ? "staged" : "in place");
    if (fails) throw new Error("no place");
    return place(bytes);
  };
  const how = (write: () => void): string[] => {
    seen.clear();
    write();
    return [...seen];
  };
  const insertMany = (count: number): void => {
    const keys = Array.from({ length: count }, (_, index) => `${index}`);
    engine.insertMany(engine.defaultSpace, keys, keys, 0);
  };
  const insert = (): void => engine.insert(engine.defaultSpace, "key", "value", 0);
  expect(how(() => insertMany(32_767))).toEqual(["staged"]);
  expect(how(() => insertMany(32_768))).toEqual(["in place"]);
  expect(how(insert)).toEqual(["staged"]);
  fails = true;
  expect(how(() => expect(() => insertMany(32_768)).toThrow("no place"))).toEqual(["in place"]);
  fails = false;
  expect(how(insert)).toEqual(["staged"]);
});
