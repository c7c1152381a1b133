/**
 * Bits that flip under an open database: whatever a read follows out of the frames, it ends.
 *
 * Walks and ranges of before everything was overwritten go back from version to version, by what the frames say. Each bit
 * of headers, keys and extensions is flipped in its turn, in the newest frame of a key and in the one before.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, openSync, writeSync } from "node:fs";
import type { RecordSource } from "../../src/engine/contract.ts";
import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { FRAME_HEADER_BYTES, SHAPE_WIDE_PREV, extensionBytes } from "../../src/log/frame.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";
import { LATER_MS } from "./fixture.ts";

setDefaultTimeout(120_000);
const STRIDE = emulator === undefined ? 1 : 41;

const KEYS = Array.from({ length: 80 }, (_, index) => `key ${String(index).padStart(3, "0")}`);
/** What a value ends with: the wide form of a distance would stand there. */
const ENDS = [new Uint8Array(40), new Uint8Array(40).fill(0xff), new Uint8Array(40).fill(1)];
/** Places in the log that one read may look at: all versions of all records, a few times. */
const LOOKS_MAX = KEYS.length * 30;

type Ending = "records" | "EMDB_CORRUPTED";

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
    engine.removeMany(engine.defaultSpace, KEYS.slice(70));
    this.fixture.sync.flush();
    this.#file = openSync(path, "r+");
    for (const index of [0, 1, 2, 30, 31, 32, 79]) {
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

  bytesAt(lsn: number, bytes: number): Uint8Array {
    return this.fixture.image().slice(lsn, lsn + bytes);
  }

  write(lsn: number, bytes: Uint8Array): void {
    writeSync(this.#file, bytes, 0, bytes.length, lsn);
  }

  /** How a read ends; anything but records and damage is thrown. */
  ending(read: () => unknown): Ending {
    this.#looks = 0;
    try {
      read();
      return "records";
    } catch (error) {
      if (!(error instanceof EmdbError) || error.code !== "EMDB_CORRUPTED") throw error;
      return "EMDB_CORRUPTED";
    }
  }

  /** Every kind of read, from before the overwrites and from now. Of a range the first positions were taken before. */
  endings(key: string): Ending[] {
    const { engine } = this;
    const { defaultSpace } = engine;
    const [range, walk] = [this.#walks.pop()!, this.#walks.pop()!];
    return [
      () => [...walk].length,
      () => [...range].length,
      () => engine.get(defaultSpace, key),
      () => engine.getMany(defaultSpace, KEYS),
      () => [...engine.range(defaultSpace, { isReverse: false, limit: 5 })],
    ].map((read) => this.ending(read));
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
    this.fixture[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

test("with any bit flipped in a frame that versions are followed through, every read ends", () => {
  const bits = 14 * 8 * (FRAME_HEADER_BYTES + 7 + 16);
  using flipped = new Flipped(Math.ceil(bits / STRIDE));
  const seen = new Map<Ending, number>();
  let bit = 0;
  for (const [index, lsn] of flipped.frames.entries()) {
    const head = flipped.bytesAt(lsn, flipped.headBytes(lsn));
    const key = KEYS[[0, 1, 2, 30, 31, 32, 79][index >> 1]!]!;
    for (let own = 0; own < head.length * 8; own++, bit++) {
      if (bit % STRIDE !== 0) continue;
      const bytes = head.slice();
      bytes[own >> 3]! ^= 1 << (own & 7);
      flipped.write(lsn, bytes);
      try {
        for (const ending of flipped.endings(key)) seen.set(ending, (seen.get(ending) ?? 0) + 1);
      } catch (error) {
        throw new Error(`bit ${own & 7} of byte ${own >> 3} of the frame at ${lsn}: ${String(error)}`, {
          cause: error,
        });
      } finally {
        flipped.write(lsn, head);
      }
    }
  }
  expect([...seen.keys()].sort()).toEqual(["EMDB_CORRUPTED", "records"]);
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
    expect(engine.count(defaultSpace)).toBe(70 + inserted);
    expect(engine.get(defaultSpace, `key 029 ${1000 + inserted}`)).toBeUndefined();
    flipped.write(at, key);
  }
  expect(flipped.ending(insert)).toBe("records");
  const keys = [...engine.range(defaultSpace, { isReverse: false })].map((record) =>
    Buffer.from(record.key).toString(),
  );
  expect(keys).toEqual(keys.toSorted());
  expect(keys.length).toBe(270);
});
