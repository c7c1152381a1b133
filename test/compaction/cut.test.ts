/** The file that a compaction has replaced gives its blocks back a step at a time, if nobody else has it. */

import { expect, setDefaultTimeout, test } from "bun:test";
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  openSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { LOG_ORIGIN } from "../../src/log/log-words.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { EngineFixture, faulty } from "../engine/engine-fixture.ts";
import type { Config } from "../engine/open-engine.ts";
import { canCount, resourcesIn } from "../workers/resources.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/turns.ts";

setDefaultTimeout(60_000);

const STEP_BYTES = 64 * 1024;
const system = hostSystem();

// kernel32 is not asked, and its files keep their names.
test.if(system.cutBytes !== undefined)(
  "a file may be cut once it has no name, while one handle has it and nothing maps it",
  () => {
    using folder = temporaryFolder();
    const path = folder.file("data");
    const file = openSync(path, "w+");
    writeSync(file, Buffer.alloc(STEP_BYTES, 1));
    // Longer than what would be cut at a time; nothing is written there.
    ftruncateSync(file, 16 * 1024 * 1024);
    fsyncSync(file);
    const isCut = (): boolean => (system.cutBytes?.(file) ?? 0) > 0;
    expect(isCut()).toBe(false);
    const other = openSync(path, "r");
    linkSync(path, `${path}.2`);
    unlinkSync(path);
    expect(isCut()).toBe(false);
    unlinkSync(`${path}.2`);
    expect(isCut()).toBe(false);
    const map = system.map(other, STEP_BYTES);
    closeSync(other);
    // Another's, and then our own.
    expect(isCut()).toBe(false);
    expect(system.unmap(map, STEP_BYTES)).toBe(0);
    // Where the file system is one that can be asked: as often as it is.
    const mayBeCut = isCut();
    expect(isCut()).toBe(mayBeCut);
    const own = system.map(file, STEP_BYTES);
    expect(isCut()).toBe(false);
    expect(system.unmap(own, STEP_BYTES)).toBe(0);
    expect(isCut()).toBe(mayBeCut);
    ftruncateSync(file, STEP_BYTES);
    expect(isCut()).toBe(false);
    closeSync(file);
  },
);

/** An engine whose system says of every file that it may be cut, and what was cut. */
class Cuts implements Disposable {
  /** What each look at the clock takes: two of them make a step of long work. */
  lookMs = 0;
  #nowMs = 0;
  readonly folder = temporaryFolder();
  readonly path = this.folder.file("data.emdb");
  readonly lengths: number[] = [];
  readonly fixture: EngineFixture;
  canSync = true;
  /** Whether the system itself says what may be cut. */
  isAsked = false;

  constructor(changes: Partial<Config> = {}) {
    const spied = faulty(system, (call, args) => {
      if (call === "cutBytes" && !this.isAsked) return STEP_BYTES;
      if (call === "canCut") return 1;
      if (call === "monotonic") return (this.#nowMs += this.lookMs);
      if (call === "syncFolder" && !this.canSync) return -5;
      if (call === "truncate") this.lengths.push(args[1] as number);
      return undefined;
    });
    this.fixture = new EngineFixture(this.path, spied, changes);
    const { engine, sync } = this.fixture;
    for (let index = 0; index < 6000; index++)
      engine.insert(engine.defaultSpace, `key ${index % 1000}`, "v".repeat(200), 0);
    sync.flush();
    this.lengths.length = 0;
  }

  /** Whether what was cut are steps from a length on, and less than one is left in the end. */
  areSteps(bytes: number): boolean {
    return (
      this.lengths.every((length, index) => length === bytes - (index + 1) * STEP_BYTES) &&
      this.lengths.at(-1)! <= STEP_BYTES
    );
  }

  [Symbol.dispose](): void {
    this.fixture[Symbol.dispose]();
    this.folder[Symbol.dispose]();
  }
}

test.if(system.cutBytes !== undefined)(
  "in steps, one in a turn of the event loop, and the file in service is whole",
  async () => {
    using cuts = new Cuts();
    const bytes = statSync(cuts.path).size;
    const state = cuts.fixture.state();
    cuts.lookMs = 3;
    let turns = 0;
    let isDone = false;
    const perTurn: number[] = [];
    const work = cuts.fixture.opened.compaction.run({}).finally(() => (isDone = true));
    while (!isDone) {
      const before = cuts.lengths.length;
      await new Promise((resolve) => setImmediate(resolve));
      perTurn.push(cuts.lengths.length - before);
      turns += 1;
    }
    await work;
    expect(cuts.lengths.length).toBeGreaterThan(10);
    expect(cuts.areSteps(bytes)).toBe(true);
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(2);
    expect(turns).toBeGreaterThan(cuts.lengths.length / 2);
    expect(cuts.fixture.opened.engine.core.log.segments.list()).toEqual([]);
    expect(cuts.fixture.state()).toBe(state);
  },
);

test.if(system.cutBytes !== undefined)("not while an iterator is in it, and then with what is written", async () => {
  using cuts = new Cuts();
  const { engine, opened } = cuts.fixture;
  const bytes = statSync(cuts.path).size;
  const held = engine.snapshot(engine.defaultSpace)[Symbol.iterator]();
  expect(held.next().done).toBe(false);
  await opened.compaction.run({});
  expect(cuts.lengths).toEqual([]);
  let left = 0;
  while (held.next().done !== true) left += 1;
  expect(left).toBe(999);
  for (let write = 0; engine.core.log.segments.list().length > 0; write++) {
    expect(write).toBeLessThan(100);
    engine.insert(engine.defaultSpace, "written", "v".repeat(100), 0);
    cuts.fixture.sync.flush();
  }
  expect(cuts.areSteps(bytes)).toBe(true);
});

test.if(system.cutBytes !== undefined)(
  "with autoCompact in turns of the event loop, once a write has come by",
  async () => {
    // The floor is higher than what is written here: nothing else is compacted.
    using cuts = new Cuts({ autoCompact: { ratio: 0.5, bytesMin: 2 ** 30 } });
    const { engine, opened } = cuts.fixture;
    const held = engine.snapshot(engine.defaultSpace)[Symbol.iterator]();
    expect(held.next().done).toBe(false);
    await opened.compaction.run({});
    while (held.next().done !== true);
    expect(cuts.lengths).toEqual([]);
    for (let write = 0; write < 10; write++) engine.insert(engine.defaultSpace, "written", "v".repeat(60_000), 0);
    for (let turn = 0; engine.core.log.segments.list().length > 0; turn++) {
      expect(turn).toBeLessThan(100);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(cuts.lengths.length).toBeGreaterThan(10);
  },
);

test.if(system.cutBytes !== undefined)("the positions in all that is not needed are free at once", () => {
  using cuts = new Cuts();
  const { engine, opened } = cuts.fixture;
  const { core } = engine;
  const held = [1, 2].map(() => {
    const iterator = engine.snapshot(engine.defaultSpace)[Symbol.iterator]();
    expect(iterator.next().done).toBe(false);
    opened.compaction.runSync();
    return iterator;
  });
  expect(core.log.segments.list()).toHaveLength(2);
  for (const iterator of held) while (iterator.next().done !== true);
  expect(engine.exclusively(() => opened.relocation.releaseUnneeded())).toBe("more");
  expect(core.log.segments.list()).toHaveLength(2);
  expect(core.control.log.numbers[LOG_ORIGIN]).toBe(core.base);
  cuts.fixture.state();
});

test.if(system.cutBytes !== undefined)(
  "not what has got the number of a file that a thread was closing when it died",
  () => {
    using cuts = new Cuts();
    const { engine, opened } = cuts.fixture;
    const held = engine.snapshot(engine.defaultSpace)[Symbol.iterator]();
    expect(held.next().done).toBe(false);
    opened.compaction.runSync();
    while (held.next().done !== true);
    // It died between the close and saying so.
    const { segments } = engine.core.log;
    const { numbers, handleAt, stateAt } = segments.file(segments.list()[0]!);
    numbers[stateAt] = -numbers[stateAt]!;
    expect(system.close(numbers[handleAt]!)).toBe(0);
    const stranger = openSync(cuts.folder.file("stranger"), "w+");
    expect(stranger).toBe(numbers[handleAt]!);
    unlinkSync(cuts.folder.file("stranger"));
    writeSync(stranger, Buffer.alloc(4 * STEP_BYTES, 7));
    for (let write = 0; write < 3; write++) expect(opened.relocation.releaseUnneeded()).toBe("nothing");
    expect(fstatSync(stranger).size).toBe(4 * STEP_BYTES);
    closeSync(stranger);
  },
);

test("not when it is unknown whether its name has gone for good", async () => {
  using cuts = new Cuts();
  cuts.canSync = false;
  expect(await cuts.fixture.opened.compaction.run({}).catch((error: unknown) => error)).toMatchObject({
    code: "EMDB_IO",
  });
  const { engine, opened } = cuts.fixture;
  expect(() => opened.relocation.finish()).toThrow(expect.objectContaining({ code: "EMDB_POISONED" }));
  expect(engine.core.log.segments.list()).toHaveLength(1);
  expect(opened.relocation.releaseUnneeded()).toBe("held");
  expect(cuts.lengths).toEqual([]);
});

test("who waits for no turn of the event loop gives up what is left in one go", () => {
  using cuts = new Cuts();
  cuts.fixture.opened.compaction.runSync();
  expect(cuts.lengths.length).toBeLessThanOrEqual(1);
  expect(cuts.fixture.engine.core.log.segments.list()).toEqual([]);
});

test
  .if(system.cutBytes !== undefined)
  .each(["done", "aborted meanwhile", "closed meanwhile", "over what another has open"])(
  "what a backup has replaced goes in steps as well, and the backup is in its place: %s",
  async (how) => {
    using cuts = new Cuts();
    using elsewhere = temporaryFolder();
    const target = elsewhere.file("copy.emdb");
    const former = 20 * STEP_BYTES;
    writeFileSync(target, Buffer.alloc(former, 1));
    const reader = openSync(target, "r");
    const state = cuts.fixture.state();
    const controller = new AbortController();
    cuts.isAsked = how === "over what another has open";
    cuts.lookMs = 3;
    const work = cuts.fixture.opened.backup.run(target, { signal: controller.signal });
    await until(() => statSync(target).ino !== fstatSync(reader).ino);
    if (how === "aborted meanwhile") controller.abort();
    if (how === "closed meanwhile") cuts.fixture.close();
    await work;
    const left = fstatSync(reader).size;
    if (how === "over what another has open") expect(left).toBe(former);
    else if (how === "closed meanwhile") expect(left).toBeLessThan(former);
    else expect(left).toBeLessThanOrEqual(STEP_BYTES);
    closeSync(reader);
    using copy = new EngineFixture(target, system);
    expect(copy.state()).toBe(state);
    if (canCount) expect(resourcesIn(elsewhere.path).fileNames).toEqual(["copy.emdb", "copy.emdb.lock"]);
  },
);
