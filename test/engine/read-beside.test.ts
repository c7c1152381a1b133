/**
 * Opens for reading beside a writer that writes, checkpoints, compacts and fails between any two calls of theirs: each shows
 * a moment of the writer's, with an image that was replaced meanwhile or without one.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import type { Space } from "../../src/engine/contract.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { Random } from "../sim/random.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import type { OpenedEngine } from "./open-engine.ts";

setDefaultTimeout(60_000);

const ROUNDS = 12;
const KEYS = 400;
/** Longer than what goes through the ring: it reaches the file before its batch fails. */
const LONG = new Uint8Array(1_100_000);
const CALLS = new Set(["read", "open", "size", "map", "status", "close", "list", "realPath"]);

class Writer implements Disposable {
  /** What it has shown so far, at each moment. */
  readonly moments = new Set<string>();
  readonly #random: Random;
  readonly #fixture: EngineFixture;
  #values = 0;

  constructor(random: Random, fixture: EngineFixture) {
    this.#random = random;
    this.#fixture = fixture;
  }

  /** Does something, and hands it to the system. */
  act(): void {
    const name = this.#random.pick(["", "s"]);
    const { engine, sync } = this.#fixture;
    const space = name === "" ? engine.defaultSpace : engine.spaceNamed(name);
    this.#note();
    this.#actOn(space);
    sync.spill();
    this.#note();
  }

  #note(): void {
    this.moments.add(this.#fixture.state());
  }

  #actOn(space: Space): void {
    const random = this.#random;
    const { engine, opened, sync } = this.#fixture;
    const count = random.chance(0.2) ? 300 : 1 + random.below(6);
    const keys = Array.from({ length: count }, () => `key ${random.below(KEYS)}`);
    const values = keys.map(() => `value ${this.#values++}`);
    switch (random.below(11)) {
      case 0:
        return engine.clear(space);
      case 1:
        return space.name === "" ? undefined : void engine.dropSpace(space.name);
      case 2:
        return this.#fail(space);
      case 3:
        return void opened.checkpoint?.runSync();
      case 4:
        return random.chance(0.4) ? this.#compact() : undefined;
      case 5:
        return sync.flush();
      case 6:
      case 7:
        return void engine.removeMany(space, keys);
      default:
        return engine.insertMany(space, keys, values, random.chance(0.3) ? 4e12 : 0);
    }
  }

  #fail(space: Space): void {
    const failing = {
      space,
      key: "failing",
      expiresAtMs: 0,
      get value(): string {
        throw new EmdbError("EMDB_ABORTED", "given up");
      },
    };
    const long = { space, key: "long", value: LONG, expiresAtMs: 0 };
    expect(() => this.#fixture.engine.writeBatch([long, failing])).toThrow("given up");
  }

  #compact(): void {
    const { opened } = this.#fixture;
    if (opened.work.tryTake()) compact(opened);
  }

  [Symbol.dispose](): void {
    this.#fixture.close();
  }
}

/** Compacts at once, and gives the place of long work back. */
function compact({ compaction, work }: OpenedEngine): void {
  for (const _ of compaction.copySteps());
  for (const _ of compaction.relocationSteps());
  work.give();
}

/** A system between whose calls the writer is at work now and then. */
function besideOf(writer: Writer, random: Random): System {
  const chance = random.pick([0.02, 0.2, 0.6]);
  let isAtWork = false;
  let left = 30;
  return faulty(hostSystem(), (call) => {
    if (isAtWork || left === 0 || !CALLS.has(call) || !random.chance(chance)) return undefined;
    isAtWork = true;
    left -= 1;
    writer.act();
    isAtWork = false;
    return undefined;
  });
}

/** Opens beside a writer of a seed, over and over; returns how many opens used an image. */
function readBeside(seed: number): number {
  const random = new Random(seed);
  const encryption = random.chance(0.4) ? { key: new Uint8Array(32).fill(3) } : undefined;
  const config = { rangeScans: random.chance(0.5), encryption };
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using writer = new Writer(random, new EngineFixture(path, hostSystem(), config));
  for (let step = 0; step < ROUNDS; step += 1) writer.act();
  let used = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    using reader = new EngineFixture(path, besideOf(writer, random), { ...config, readOnly: true });
    const { usedCheckpoint, missingBytes } = reader.opened.base.recovery;
    expect(missingBytes).toBe(0);
    if (usedCheckpoint) used += 1;
    if (!writer.moments.has(reader.state())) throw new Error(`round ${round}: this was never so`);
    if (encryption === undefined) reader.checkLiveBytes();
  }
  return used;
}

// Where a mapped file is neither cut nor replaced, a compaction waits for the reader.
test.skipIf(!hostSystem().canMapPastEnd).each([1, 2, 3, 4, 5, 6, 7, 8])(
  "each open for reading shows a moment of the writer beside it (seed %d)",
  (seed) => {
    expect(readBeside(seed)).toBeGreaterThan(0);
  },
);

// The header of a log that was never compacted says nothing of where it ends, so that nothing else tells the two files apart.
test.skipIf(!hostSystem().canMapPastEnd)(
  "the first compaction of a log comes between any two calls of an open for reading",
  () => {
    for (let at = 0, hasCompacted = true; hasCompacted; at += 1) {
      hasCompacted = false;
      using folder = temporaryFolder();
      const path = folder.file("data.emdb");
      using writer = new EngineFixture(path, hostSystem());
      const { engine, opened, sync } = writer;
      for (const value of ["old", "new"]) engine.insertMany(engine.defaultSpace, ["a", "b"], [value, value], 0);
      sync.flush();
      let left = at;
      const beside = faulty(hostSystem(), () => {
        if (hasCompacted || left-- > 0 || !opened.work.tryTake()) return undefined;
        hasCompacted = true;
        compact(opened);
        return undefined;
      });
      using reader = new EngineFixture(path, beside, { readOnly: true });
      if (reader.state() !== writer.state()) throw new Error(`before call ${at}: this was never so`);
    }
  },
);

test("a writer whose lock file has no record, as on a full disk, is seen to write by who finds a log that looks damaged", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const isRecord = (bytes: unknown): boolean => bytes instanceof Uint8Array && bytes[0] === "{".charCodeAt(0);
  const full = faulty(hostSystem(), (call, args) =>
    call === "write" && isRecord(args[1]) ? -Errno.ENOSPC : undefined,
  );
  using writer = new EngineFixture(path, full);
  const { engine } = writer;
  for (const key of ["first", "second", "third"]) {
    engine.insert(engine.defaultSpace, key, "value", 0);
    writer.sync.flush();
  }
  const log = openSync(path, "r+");
  const at = HEADER_PAGE_BYTES + 12;
  const byte = new Uint8Array(1);
  readSync(log, byte, 0, 1, at);
  writeSync(log, Uint8Array.of(byte[0]! ^ 1), 0, 1, at);
  // By the second look the writer has done what it was at.
  const system = faulty(hostSystem(), (call, args) => {
    if (call === "open" && args[0] === `${path}.lock`) writeSync(log, byte, 0, 1, at);
    return undefined;
  });
  using reader = new EngineFixture(path, system, { readOnly: true, createIfMissing: false });
  expect(reader.engine.count(reader.engine.defaultSpace)).toBe(3);
  closeSync(log);
});
