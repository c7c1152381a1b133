/**
 * Images that are made while the index changes under them: pieces are copied between random writes, and a copy of
 * the files is opened with the image and without it. Both must show what the living engine shows.
 */

import { copyFileSync, existsSync, rmSync } from "node:fs";
import { expect, setDefaultTimeout, test } from "bun:test";
import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { HintWriter } from "../../src/engine/hint/hint-writer.ts";
import { orderingFaults } from "../support/ordering-faults.ts";
import { Random } from "../sim/random.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";
import type { Space } from "../../src/engine/contract.ts";

setDefaultTimeout(120_000);

const KEYS = 9000;
const NAMES = ["", "s", "t"] as const;
/** Longer than what goes through the ring: it reaches the file before its batch ends. */
const LONG = new Uint8Array(1_100_000);

class Story {
  readonly #random: Random;
  readonly #path: string;
  readonly #copyPath: string;
  readonly #rangeScans: boolean;
  #live: EngineFixture;
  #writer: HintWriter | undefined;
  images = 0;
  used = 0;

  constructor(seed: number, path: string, rangeScans: boolean) {
    this.#random = new Random(seed);
    this.#rangeScans = rangeScans;
    this.#path = path;
    this.#copyPath = `${path}.copy`;
    this.#live = this.#open(path);
  }

  #open(path: string): EngineFixture {
    return new EngineFixture(path, hostSystem(), { rangeScans: this.#rangeScans });
  }

  run(steps: number): void {
    for (let step = 0; step < steps; step += 1) {
      this.#write();
      if (this.#random.chance(0.7)) this.#checkpointStep();
      if (this.#random.chance(0.12)) this.#crash();
      if (this.#random.chance(0.03)) this.#reopen();
    }
    this.#crash();
    this.#dropWriter();
    this.#live.close();
  }

  #space(): Space {
    const name = this.#random.pick(NAMES);
    return name === "" ? this.#live.engine.defaultSpace : this.#live.engine.spaceNamed(name);
  }

  #keys(): string[] {
    const first = this.#random.below(KEYS);
    // All at once, so that shards split and merge between two pieces.
    const many = this.#random.chance(0.4) ? KEYS : this.#random.below(KEYS / 2);
    const count = this.#random.chance(0.4) ? 1 + this.#random.below(5) : many;
    // So long that the ordered index asks the log for them.
    return Array.from({ length: count }, (_, index) => `key ${(first + index) % KEYS} of many bytes`);
  }

  #write(): void {
    const { engine, sync } = this.#live;
    const random = this.#random;
    const space = this.#space();
    const keys = this.#keys();
    switch (random.below(12)) {
      case 0:
        return engine.clear(space);
      case 1:
        if (space.name !== "" && random.chance(0.5)) engine.dropSpace(space.name);
        return undefined;
      case 2:
        return this.#fail(space, keys);
      case 3:
      case 4:
      case 5:
        return void engine.removeMany(space, keys);
      case 6:
        return sync.flush();
      case 7:
        return engine.writeBatch([
          { space: this.#space(), key: keys[0] ?? "a", value: "batched", expiresAtMs: 0 },
          { space, key: keys[1] ?? "b", value: undefined, expiresAtMs: 0 },
        ]);
      default:
        return engine.insertMany(
          space,
          keys,
          keys.map((key) => `${key} is ${random.word()}`),
          random.chance(0.2) ? 4e12 : 0,
        );
    }
  }

  /** A batch that fails when part of it is in the file already: it ends with an abort. */
  #fail(space: Space, keys: readonly string[]): void {
    const value = (): never => {
      throw new EmdbError("EMDB_ABORTED", "given up");
    };
    const last = {
      space,
      key: "a",
      expiresAtMs: 0,
      get value() {
        return value();
      },
    };
    const first = { space, key: keys[0] ?? "b", value: LONG, expiresAtMs: 0 };
    const more = keys
      .slice(1, 20)
      .map((key) => ({ space, key, value: this.#random.chance(0.3) ? undefined : "x", expiresAtMs: 0 }));
    expect(() => this.#live.engine.writeBatch([first, ...more, last])).toThrow("given up");
  }

  #checkpointStep(): void {
    const { engine, sync, opened } = this.#live;
    const file = opened.engine.core.file!;
    this.#writer ??= engine.exclusively(() => new HintWriter(engine.core, engine.spaces, file));
    const writer = this.#writer;
    for (let piece = this.#random.below(6); piece > 0; piece -= 1) {
      const isMore = engine.exclusively(() => writer.copyPiece());
      writer.sealPiece();
      if (writer.isFull || this.#random.chance(0.1)) writer.spill();
      if (isMore) continue;
      sync.flush();
      writer.writeHeader();
      writer.publish();
      this.#writer = undefined;
      this.images += 1;
      return;
    }
  }

  #dropWriter(): void {
    this.#writer?.discard();
    this.#writer = undefined;
  }

  /** The files as they are now, opened elsewhere with the image and without. */
  #crash(): void {
    this.#live.sync.spill();
    const expected = this.#live.state();
    for (const withImage of [true, false]) {
      copyFileSync(this.#path, this.#copyPath);
      rmSync(`${this.#copyPath}.hint`, { force: true });
      const hasImage = withImage && existsSync(`${this.#path}.hint`);
      if (hasImage) copyFileSync(`${this.#path}.hint`, `${this.#copyPath}.hint`);
      using copy = this.#open(this.#copyPath);
      const { recovery } = copy.opened.base;
      expect(recovery).toMatchObject({ usedCheckpoint: hasImage, missingBytes: 0, tornBytes: 0 });
      if (copy.state() !== expected) throw new Error(`the state differs, with${hasImage ? "" : "out"} the image`);
      copy.checkLiveBytes();
      this.#checkOrder(copy);
      if (hasImage) this.used += 1;
    }
  }

  #reopen(): void {
    const expected = this.#live.state();
    this.#dropWriter();
    this.#live.close();
    this.#live = this.#open(this.#path);
    expect(this.#live.opened.base.recovery).toMatchObject({ usedCheckpoint: true, replayedRecords: 0 });
    if (this.#live.state() !== expected) throw new Error("the state differs after a reopen");
    this.#live.checkLiveBytes();
    this.#checkOrder(this.#live);
  }

  #checkOrder({ engine }: EngineFixture): void {
    if (!this.#rangeScans) return;
    expect(orderingFaults(engine.core, engine.spaces)).toEqual([]);
    for (const space of [engine.defaultSpace, ...engine.spaces.list()]) {
      const found = [...engine.range(space, { isReverse: false })].length;
      if (found !== engine.count(space)) throw new Error(`a range shows ${found} of ${engine.count(space)} records`);
    }
  }
}

const STEPS = emulator === undefined ? 120 : 30;
const seeds = Number(process.env["EMDB_CHECKPOINT_SEEDS"] ?? (emulator === undefined ? 4 : 1));

const runs = Array.from({ length: seeds }, (_, index) => index + 1).flatMap((seed) =>
  [false, true].map((rangeScans) => [seed, rangeScans ? "with" : "without", rangeScans] as const),
);

test.each(runs)(
  "an image made between random writes shows what the log shows (seed %d, %s the ordered index)",
  (seed, _, rangeScans) => {
    using folder = temporaryFolder();
    const story = new Story(seed, folder.file("data.emdb"), rangeScans);
    story.run(STEPS);
    expect(story.images).toBeGreaterThan(0);
    expect(story.used).toBeGreaterThan(0);
  },
);
