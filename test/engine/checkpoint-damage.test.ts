/** Every bit of a small image flipped, and every length of it: none is taken in, and each is as good as no image. */

import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { hostSystem } from "../../src/ffi/host.ts";
import { Heap } from "../../src/ffi/heap.ts";
import { makeCore } from "../../src/engine/assemble.ts";
import { Control, LIVE_BYTES } from "../../src/engine/threads/control.ts";
import type { Core } from "../../src/engine/core.ts";
import { HINT_HEADER_BYTES, decodeHintHeader } from "../../src/engine/hint/hint-format.ts";
import { loadHint } from "../../src/engine/hint/hint-reader.ts";
import { Ordering } from "../../src/engine/ordering/ordering.ts";
import { orderingFaults } from "../support/ordering-faults.ts";
import { Spaces } from "../../src/engine/spaces.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";

setDefaultTimeout(120_000);

/** No file has this handle; reading it reads `served`. */
const HANDLE = 0x7fff_fff1;

const folder = temporaryFolder();

describe.each([
  ["of the hash index", false],
  ["of both indexes", true],
] as const)("an image %s:", (name, rangeScans) => {
  const path = folder.file(`${name}.emdb`);
  let image = new Uint8Array(0);
  let served = new Uint8Array(0);
  let expected = "";
  let liveBytes = 0;
  let core: Core;

  beforeAll(() => {
    const made = new EngineFixture(path, hostSystem(), { rangeScans });
    const keys = Array.from({ length: 40 }, (_, index) => `key ${index}`);
    made.engine.insertMany(made.engine.defaultSpace, keys, keys, 0);
    made.engine.removeMany(made.engine.defaultSpace, keys.slice(0, 7));
    // Far off, so that the state is the same on any day.
    made.engine.insertMany(made.engine.defaultSpace, keys.slice(30), keys.slice(30), 8e15);
    expected = made.state();
    liveBytes = made.engine.core.control.numbers[LIVE_BYTES]!;
    const { base } = made.opened;
    made.close();
    image = new Uint8Array(readFileSync(`${path}.hint`));
    const system = faulty(hostSystem(), (call, args) => {
      if (call !== "read" || args[0] !== HANDLE) return undefined;
      const { position, bytes } = args[2] as { position: number; bytes: number };
      const part = served.subarray(position, position + bytes);
      (args[1] as Uint8Array).set(part);
      return part.length;
    });
    const control = Control.create();
    Heap.create(system, control.heap);
    core = makeCore({ system, defer: () => undefined, hasWorkers: false }, { ...base, buffer: control.buffer }, 0);
  });

  afterAll(() => core.heap.release());

  /** Whether these bytes are taken in as an image of any log. */
  function isTaken(bytes: Uint8Array): boolean {
    const header = decodeHintHeader(bytes.subarray(0, HINT_HEADER_BYTES));
    if (header === undefined || header.bytes !== bytes.length) return false;
    served = bytes as Uint8Array<ArrayBuffer>;
    const hint = { header, handle: HANDLE, kinship: "same", isUsable: true } as const;
    if (rangeScans) core.ordering = new Ordering(core);
    return loadHint(core, new Spaces(core), hint) !== undefined;
  }

  function expectNoEffect(bytes: Uint8Array): void {
    writeFileSync(`${path}.hint`, bytes);
    using db = new EngineFixture(path, hostSystem(), { readOnly: true, rangeScans });
    expect(db.opened.base.recovery).toMatchObject({ usedCheckpoint: false, missingBytes: 0, tornBytes: 0 });
    expect(db.state()).toBe(expected);
    expect(db.engine.core.control.numbers[LIVE_BYTES]).toBe(liveBytes);
    expect(orderingFaults(db.engine.core, db.engine.spaces)).toEqual([]);
  }

  test("the undamaged one is taken in, with what it is of", () => {
    expect(decodeHintHeader(image)?.isOrdered).toBe(rangeScans);
    expect(isTaken(image)).toBe(true);
    expect(core.expiry.facts(core.heap.spaceAddress(0))).toMatchObject({ isUnknown: false, entries: 10, live: 10 });
    core.heap.reset(1);
    using db = new EngineFixture(path, hostSystem(), { readOnly: true, rangeScans });
    expect(db.opened.base.recovery.usedCheckpoint).toBe(true);
    expect(orderingFaults(db.engine.core, db.engine.spaces)).toEqual([]);
  });

  test("no image with one flipped bit is taken in", () => {
    const flipped = image.slice();
    const step = emulator === undefined ? 1 : 41;
    for (let bit = 0; bit < image.length * 8; bit += step) {
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      if (isTaken(flipped)) throw new Error(`bit ${bit % 8} of byte ${bit >> 3} was flipped, and nobody noticed`);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
    }
    core.heap.reset(1);
    expect(isTaken(image)).toBe(true);
  });

  test("a database whose image has one flipped bit shows what its log holds", () => {
    // Every bit of the header and of the first chunk's head; beyond that, bits here and there.
    const bits = Array.from({ length: (HINT_HEADER_BYTES + 56) * 8 }, (_, bit) => bit);
    for (let bit = bits.length; bit < image.length * 8; bit += 499) bits.push(bit);
    for (const bit of emulator === undefined ? bits : bits.filter((one) => one % 53 === 0)) {
      const flipped = image.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expectNoEffect(flipped);
    }
  });

  test("no part of an image from its beginning is taken in, nor an image with something behind it", () => {
    for (let length = 0; length < image.length; length += 1) {
      if (isTaken(image.subarray(0, length))) throw new Error(`the first ${length} bytes pass for an image`);
    }
    for (let length = 0; length < image.length; length += 97) expectNoEffect(image.subarray(0, length));
    expectNoEffect(Buffer.concat([image, new Uint8Array(8)]));
  });

  test("an image that claims a longer log says what is missing, whatever else is wrong with it", () => {
    const header = decodeHintHeader(image)!;
    expect(header.end).toBeGreaterThan(HEADER_PAGE_BYTES);
    const log = readFileSync(path);
    const cut = folder.file(`${name} cut.emdb`);
    writeFileSync(cut, log.subarray(0, header.end - 8));
    writeFileSync(`${cut}.hint`, image.subarray(0, HINT_HEADER_BYTES));
    using db = new EngineFixture(cut, hostSystem());
    const { missingBytes, usedCheckpoint } = db.opened.base.recovery;
    expect(usedCheckpoint).toBe(false);
    expect(missingBytes).toBeGreaterThan(0);
  });
});

afterAll(() => folder[Symbol.dispose]());
