/**
 * Bits that flip under an open database: whatever a read follows out of the frames, it ends; with `verifyReads` it gives
 * what was written, or is damage.
 *
 * Walks and ranges of before everything was overwritten go back from version to version, by what the frames say. Each bit
 * of headers, keys and extensions is flipped in its turn, in the newest frame of a key and in the one before.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, openSync, writeSync } from "node:fs";
import type { RecordSource } from "../../src/engine/contract.ts";
import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_PUT,
  KIND_REMOVE,
  SHAPE_WIDE_PREV,
  WORD_PREV,
  WORD_SHAPE,
  bodyBytes,
  extensionBytes,
  kindOf,
} from "../../src/log/frame.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";
import { LATER_MS } from "./fixture.ts";

setDefaultTimeout(120_000);
const STRIDE = emulator === undefined ? 1 : 41;

const KEYS = Array.from({ length: 80 }, (_, index) => `key ${String(index).padStart(3, "0")}`);
/** Plain ones, with deadlines, and one that is removed in the end. */
const LOOKED_AT = [0, 1, 2, 30, 31, 32, 79];
const REMOVED_FROM = 70;
/** What a value ends with: the wide form of a distance would stand there. */
const ENDS = [new Uint8Array(40), new Uint8Array(40).fill(0xff), new Uint8Array(40).fill(1)];
/** Places in the log that one read may look at: all versions of all records, a few times. */
const LOOKS_MAX = KEYS.length * 30;

type Ending = "records" | "EMDB_CORRUPTED";

function textOf(records: RecordSource): string[] {
  return [...records].map(({ key, value, expiresAtMs }) => `${key.toHex()}=${value.toHex()}@${expiresAtMs}`);
}

class Flipped implements Disposable {
  readonly #folder = temporaryFolder();
  readonly fixture: EngineFixture;
  readonly engine;
  readonly #file: number;
  /** The newest frame of each of some keys, and the one before. */
  readonly frames: number[] = [];
  readonly #walks: RecordSource[] = [];
  #looks = 0;

  constructor(walks: number, verifyReads = false) {
    const path = this.#folder.file("data.emdb");
    this.fixture = new EngineFixture(path, hostSystem(), { rangeScans: true, verifyReads });
    this.engine = this.fixture.engine;
    const { engine } = this;
    const { core } = engine;
    this.#writeAll(0);
    for (let index = 0; index < walks; index++)
      this.#walks.push(
        engine.snapshot(engine.defaultSpace),
        engine.range(engine.defaultSpace, { isReverse: index % 2 === 0 }),
      );
    this.#writeAll(1);
    this.#writeAll(2);
    engine.removeMany(engine.defaultSpace, KEYS.slice(REMOVED_FROM));
    this.fixture.sync.flush();
    this.#file = openSync(path, "r+");
    for (const index of LOOKED_AT) {
      core.key.load(KEYS[index]!);
      expect(core.lookup.findNewest(engine.spaces.root(engine.defaultSpace))).toBe(true);
      this.frames.push(core.lookup.lsn, core.lookup.prev());
    }
    const at = core.log.at.bind(core.log);
    core.log.at = (lsn) => {
      this.#looks += 1;
      if (this.#looks > LOOKS_MAX) throw new Error("it goes on and on");
      return at(lsn);
    };
  }

  #writeAll(round: number): void {
    const { engine } = this;
    for (const [index, key] of KEYS.entries()) {
      const expiresAtMs = index >= 30 && index < 60 ? LATER_MS : 0;
      engine.insert(engine.defaultSpace, key, ENDS[(index + round) % ENDS.length]!, expiresAtMs);
    }
  }

  /** Bytes of a frame before its value, and of that what a distance would take. */
  headBytes(lsn: number): number {
    const { lookup } = this.engine.core;
    lookup.loadAt(lsn);
    return FRAME_HEADER_BYTES + (lookup.shape >>> 16) + extensionBytes(lookup.shape | SHAPE_WIDE_PREV);
  }

  /** Bytes of a frame without its padding. */
  frameBytes(lsn: number): number {
    const { lookup } = this.engine.core;
    lookup.loadAt(lsn);
    return FRAME_HEADER_BYTES + bodyBytes(lookup.shape, lookup.valueBytes);
  }

  bytesAt(lsn: number, bytes: number): Uint8Array {
    return this.fixture.image().slice(lsn, lsn + bytes);
  }

  write(lsn: number, bytes: Uint8Array): void {
    writeSync(this.#file, bytes, 0, bytes.length, lsn);
  }

  /** How a read ends; anything but records and damage is thrown. What it gave is put at the end of a list. */
  ending(read: () => unknown, given: unknown[] = []): Ending {
    this.#looks = 0;
    try {
      given.push(read());
      return "records";
    } catch (error) {
      if (!(error instanceof EmdbError) || error.code !== "EMDB_CORRUPTED") throw error;
      return "EMDB_CORRUPTED";
    }
  }

  /** Every kind of read, from before the overwrites and from now. Of a range the first positions were taken before. */
  endings(key: string, given: unknown[] = []): Ending[] {
    const { engine } = this;
    const { defaultSpace } = engine;
    const [range, walk] = [this.#walks.pop()!, this.#walks.pop()!];
    return [
      () => ["walk", textOf(walk)],
      () => ["range", textOf(range).toSorted()],
      () => ["get", engine.get(defaultSpace, key)],
      () => ["getMany", engine.getMany(defaultSpace, KEYS)],
      () => ["has", engine.has(defaultSpace, key)],
      () => ["expiresAt", engine.expiresAt(defaultSpace, key)],
      () => ["limited", textOf(engine.range(defaultSpace, { isReverse: false, limit: 5 }))],
    ].map((read) => this.ending(read, given));
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
    this.fixture[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

/** Flips each bit of some bytes of each frame, and calls what looks at it, told whether a get shows the frame; its errors say which bit it was. */
function flipEach(
  flipped: Flipped,
  bytesOf: (lsn: number) => number,
  look: (key: string, isShown: boolean) => void,
): void {
  let bit = 0;
  for (const [index, lsn] of flipped.frames.entries()) {
    const sound = flipped.bytesAt(lsn, bytesOf(lsn));
    for (let own = 0; own < sound.length * 8; own++, bit++) {
      if (bit % STRIDE !== 0) continue;
      const bytes = sound.slice();
      bytes[own >> 3]! ^= 1 << (own & 7);
      flipped.write(lsn, bytes);
      try {
        const key = LOOKED_AT[index >> 1]!;
        look(KEYS[key]!, index % 2 === 0 && key < REMOVED_FROM);
      } catch (error) {
        throw new Error(`bit ${own & 7} of byte ${own >> 3} of the frame at ${lsn}: ${String(error)}`, {
          cause: error,
        });
      } finally {
        flipped.write(lsn, sound);
      }
    }
  }
}

/** Bits of the longest frame of all, by the frames. */
const BITS = 2 * LOOKED_AT.length * 8 * (FRAME_HEADER_BYTES + 7 + 16 + 40);

test("with any bit flipped in a frame that versions are followed through, every read ends", () => {
  using flipped = new Flipped(Math.ceil(BITS / STRIDE));
  const seen = new Set<Ending>();
  flipEach(
    flipped,
    (lsn) => flipped.headBytes(lsn),
    (key) => {
      for (const ending of flipped.endings(key)) seen.add(ending);
    },
  );
  expect([...seen].sort()).toEqual(["EMDB_CORRUPTED", "records"]);
});

test("with verifyReads and any bit of a frame flipped, every read gives what was written or is damage", () => {
  using flipped = new Flipped(Math.ceil(BITS / STRIDE) + LOOKED_AT.length, true);
  const right = new Map<string, Set<string>>();
  for (const index of LOOKED_AT) {
    const given: unknown[] = [];
    expect(new Set(flipped.endings(KEYS[index]!, given))).toEqual(new Set<Ending>(["records"]));
    right.set(KEYS[index]!, new Set(given.map((one) => JSON.stringify(one))));
  }
  flipEach(
    flipped,
    (lsn) => flipped.frameBytes(lsn),
    (key, isShown) => {
      const given: unknown[] = [];
      const [, , get] = flipped.endings(key, given);
      if (isShown) expect(get).toBe("EMDB_CORRUPTED");
      expect(given.map((one) => JSON.stringify(one)).filter((one) => !right.get(key)!.has(one))).toEqual([]);
    },
  );
});

test("with verifyReads a way back that leads to another key's sound frame is damage, and so is a value that passes for a removal", () => {
  using flipped = new Flipped(3 * LOOKED_AT.length, true);
  const { engine } = flipped;
  const { lookup } = engine.core;
  for (const [index, lsn] of flipped.frames.entries()) {
    if (index % 2 !== 0) continue;
    lookup.loadAt(lsn);
    const isRemoval = kindOf(lookup.shape) === KIND_REMOVE;
    const head = flipped.bytesAt(lsn, FRAME_HEADER_BYTES);
    const changes: ((words: Uint32Array) => void)[] = [
      // The frame before that of the version before, of another key.
      (words) => (words[WORD_PREV]! += Math.ceil(flipped.frameBytes(lsn) / 8)),
      (words) => (words[WORD_PREV] = 0),
      (words) => (words[WORD_SHAPE]! ^= KIND_PUT ^ KIND_REMOVE),
    ];
    for (const change of changes.slice(0, isRemoval ? 2 : 3)) {
      const bytes = head.slice();
      change(new Uint32Array(bytes.buffer));
      flipped.write(lsn, bytes);
      expect([index, flipped.endings(KEYS[LOOKED_AT[index >> 1]!]!)[0]]).toEqual([index, "EMDB_CORRUPTED"]);
    }
    flipped.write(lsn, head);
  }
});

test("what reads as a wide distance where no writer puts one is damage, and no step back", () => {
  using flipped = new Flipped(ENDS.length);
  for (const [index, end] of ENDS.entries()) {
    const lsn = flipped.frames[index * 2]!;
    const head = flipped.bytesAt(lsn, FRAME_HEADER_BYTES);
    for (const hasPrev of [true, false]) {
      const bytes = head.slice();
      bytes[9]! ^= SHAPE_WIDE_PREV >> 8;
      if (!hasPrev) bytes.fill(0, 16, 20);
      flipped.write(lsn, bytes);
      const { lookup } = flipped.engine.core;
      lookup.loadAt(lsn);
      expect([index, end[0], flipped.ending(() => lookup.prev())]).toEqual([index, end[0], "EMDB_CORRUPTED"]);
    }
    expect(flipped.endings(KEYS[index]!)[0]).toBe("EMDB_CORRUPTED");
    flipped.write(lsn, head);
  }
});

test("an insert that would divide a leaf of the ordered index by a key that has rotted is refused, and nothing is left of it", () => {
  using flipped = new Flipped(1);
  const { engine } = flipped;
  const { defaultSpace } = engine;
  let inserted = 0;
  const insert = (): void => {
    for (; inserted < 200; inserted++) engine.insert(defaultSpace, `key 029 ${1000 + inserted}`, "value", 0);
  };
  // The keys on both sides of the place where it would be divided.
  for (const frame of [6, 8]) {
    const at = flipped.frames[frame]! + FRAME_HEADER_BYTES;
    const key = flipped.bytesAt(at, 7);
    flipped.write(at, new TextEncoder().encode("aaaaaaa"));
    expect(flipped.ending(insert)).toBe("EMDB_CORRUPTED");
    expect(inserted).toBeLessThan(64);
    expect(engine.count(defaultSpace)).toBe(REMOVED_FROM + inserted);
    expect(engine.get(defaultSpace, `key 029 ${1000 + inserted}`)).toBeUndefined();
    flipped.write(at, key);
  }
  expect(flipped.ending(insert)).toBe("records");
  const keys = [...engine.range(defaultSpace, { isReverse: false })].map((record) =>
    Buffer.from(record.key).toString(),
  );
  expect(keys).toEqual(keys.toSorted());
  expect(keys.length).toBe(REMOVED_FROM + 200);
});
