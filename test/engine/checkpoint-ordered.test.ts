/** The ordered index in the hint image: leaves of later moments than what replay reads, images that have it and images that do not. */

import { readFileSync } from "node:fs";
import { expect, setDefaultTimeout, test } from "bun:test";
import { HINT_HEADER_BYTES, decodeHintHeader } from "../../src/engine/hint/hint-format.ts";
import { HintWriter } from "../../src/engine/hint/hint-writer.ts";
import { orderingFaults } from "../support/ordering-faults.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, copyOf } from "./engine-fixture.ts";

setDefaultTimeout(120_000);

const ordered = (path: string): EngineFixture => new EngineFixture(path, hostSystem(), { rangeScans: true });

/** Keys that the index cannot tell apart without the log, if they are the same. */
const keysOf = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `a key of many bytes, number ${String(index).padStart(6, "0")}`);

const isImageOrdered = (path: string): boolean | undefined =>
  decodeHintHeader(new Uint8Array(readFileSync(`${path}.hint`).subarray(0, HINT_HEADER_BYTES)))?.isOrdered;

test("leaves that know more than replay has read yet end at what the log says last", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using live = ordered(path);
  const { engine, sync } = live;
  const space = engine.defaultSpace;
  const keys = keysOf(3000);
  engine.insertMany(space, keys, keys, 0);
  const writer = engine.exclusively(() => new HintWriter(engine.core, engine.spaces, engine.core.file!));
  const piece = (): boolean => {
    const isMore = engine.exclusively(() => writer.copyPiece());
    writer.sealPiece();
    return isMore;
  };
  // The namespace first: replay begins here.
  piece();
  for (const value of ["second", "third"]) {
    engine.insertMany(
      space,
      keys,
      keys.map(() => value),
      0,
    );
    engine.removeMany(space, keys.slice(100, 200));
  }
  // A batch that is given up when it is in the file already.
  const late = {
    space,
    key: "z",
    expiresAtMs: 0,
    get value(): string {
      throw new Error("given up");
    },
  };
  const first = { space, key: keys[0]!, value: new Uint8Array(1_100_000), expiresAtMs: 0 };
  const fresh = { space, key: "never there", value: "x", expiresAtMs: 0 };
  expect(() => engine.writeBatch([first, fresh, { ...fresh, key: keys[150]! }, late])).toThrow("given up");
  engine.insertMany(space, keys.slice(140, 160), keys.slice(140, 160), 0);
  while (piece());
  engine.insertMany(space, keys.slice(0, 50), keys.slice(0, 50), 0);
  sync.flush();
  writer.writeHeader();
  writer.publish();
  using copy = ordered(copyOf(path));
  expect(copy.opened.base.recovery.usedCheckpoint).toBe(true);
  expect(copy.opened.base.recovery.replayedRecords).toBeGreaterThan(6000);
  expect(orderingFaults(copy.engine.core, copy.engine.spaces)).toEqual([]);
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
  const all = (fixture: EngineFixture): string[] =>
    [...fixture.engine.range(fixture.engine.defaultSpace, { isReverse: false })].map(
      ({ key, value }) => `${text(key)}=${text(value)}`,
    );
  expect(all(copy)).toEqual(all(live));
});

test("an image without leaves costs the ordered index a rebuild, and the close after it makes one with leaves", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const keys = keysOf(500);
  {
    using plain = new EngineFixture(path, hostSystem());
    plain.engine.insertMany(plain.engine.defaultSpace, keys, keys, 0);
  }
  expect(isImageOrdered(path)).toBe(false);
  for (const hasLeaves of [false, true]) {
    expect(isImageOrdered(path)).toBe(hasLeaves);
    using fixture = ordered(path);
    expect(fixture.opened.base.recovery).toMatchObject({ usedCheckpoint: true, replayedRecords: 0 });
    expect(orderingFaults(fixture.engine.core, fixture.engine.spaces)).toEqual([]);
  }
  using plain = new EngineFixture(path, hostSystem());
  expect(plain.opened.base.recovery.usedCheckpoint).toBe(true);
  expect(plain.engine.count(plain.engine.defaultSpace)).toBe(500);
  expect(plain.engine.core.ordering).toBeUndefined();
});

test("a namespace that is cleared or dropped at any moment of the copy has nothing from before", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using live = ordered(path);
  const { engine, sync } = live;
  const keys = keysOf(2000);
  let isOver = false;
  for (let moment = 0; !isOver; moment++) {
    for (const name of ["cleared", "dropped", "kept"]) engine.insertMany(engine.spaceNamed(name), keys, keys, 0);
    const writer = engine.exclusively(() => new HintWriter(engine.core, engine.spaces, engine.core.file!));
    isOver = true;
    for (let pieces = 0; engine.exclusively(() => writer.copyPiece()); pieces++) {
      writer.sealPiece();
      if (pieces !== moment) continue;
      isOver = false;
      engine.clear(engine.spaceNamed("cleared"));
      engine.insert(engine.spaceNamed("cleared"), keys[moment]!, "it", 0);
      engine.dropSpace("dropped");
    }
    writer.sealPiece();
    sync.flush();
    writer.writeHeader();
    writer.publish();
    using copy = ordered(copyOf(path));
    expect(copy.opened.base.recovery.usedCheckpoint).toBe(true);
    expect(copy.state()).toBe(live.state());
    expect(orderingFaults(copy.engine.core, copy.engine.spaces)).toEqual([]);
    if (isOver) expect(moment).toBeGreaterThan(10);
  }
});

test("the image of an encrypted database has its leaves, and no byte of a key in the clear", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const options = { rangeScans: true, encryption: { key: new Uint8Array(32).fill(7) } };
  const keys = keysOf(300);
  const db = Emdb.open(path, options);
  db.insertMany(keys.map((key): [string, string] => [key, key]));
  db.closeSync();
  const image = readFileSync(`${path}.hint`);
  // Two leaves at least: an entry of 16 bytes for each key.
  expect(image.length).toBeGreaterThan(300 * 24);
  for (const part of ["a key of", "number 0", "000123"]) {
    expect(image.includes(part)).toBe(false);
  }
  const again = Emdb.open(path, options);
  expect(again.recovery).toMatchObject({ usedCheckpoint: true, replayedRecords: 0 });
  expect([...again.range()].map(([key]) => Buffer.from(key).toString())).toEqual(keys);
  again.closeSync();
});
