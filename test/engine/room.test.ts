/**
 * Disks with little room, on a simulated machine: what is written beside the log asks for no more than it needs, and has what
 * the log has reserved ahead before a full disk is told.
 */

import { afterEach, expect, test } from "bun:test";
import type { Opened } from "../../src/engine/assemble.ts";
import { readHolder } from "../../src/engine/files/lock-file.ts";
import { EmdbError } from "../../src/errors.ts";
import { GROWTH_BYTES_MIN, HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { LOG_RESERVED, LOG_TAIL, type LogWords } from "../../src/log/log-words.ts";
import { PAIR_BYTES } from "../../src/log/moves.ts";
import { Machine, type CrashPoint } from "../sim/machine.ts";
import type { FileStatus } from "../../src/ffi/system.ts";
import type { SimulatedSystem } from "../sim/system.ts";
import { openFile, type Config } from "./open-engine.ts";

const PATH = "/db/store";
const TARGET = "/db/copy";
const KIB = 1024;
const BLOCK = 4 * KIB;
const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

interface Subject {
  readonly system: SimulatedSystem;
  readonly opened: Opened;
}

/** What stands on the disk at a moment, on one that holds so much. */
function diskOf(point: CrashPoint, spaceBytesMax = Infinity): Machine {
  const machine = Machine.restore({ ...point, options: { ...point.options, spaceBytesMax } }, { kind: "all" });
  machines.push(machine);
  return machine;
}

function openOn(machine: Machine, changes: Partial<Config> = {}): Subject {
  const system = machine.boot();
  return { system, opened: openFile(system, PATH, changes) };
}

function usedOf({ inodes }: CrashPoint): number {
  return inodes.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0);
}

/** What a machine has on its disk after a life that ends with a close. */
function after(live: (subject: Subject) => void): CrashPoint {
  const machine = new Machine();
  machines.push(machine);
  const subject = openOn(machine);
  live(subject);
  subject.opened.leave();
  return machine.capture();
}

/** Live records of a length, between such as are dead. */
function write({ opened }: Subject, { live, dead, bytes }: { live: number; dead: number; bytes: number }): void {
  const { engine } = opened;
  for (let index = 0; index < live + dead; index++)
    engine.insert(engine.defaultSpace, index < live ? `live ${index}` : "dead", "x".repeat(bytes), 0);
}

function told(body: () => void): string {
  try {
    body();
    return "done";
  } catch (error) {
    return error instanceof EmdbError ? `${error.code} ${error.syscall} ${error.errno}` : String(error);
  }
}

async function toldOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "done",
    (error: unknown) => (error instanceof EmdbError ? `${error.code} ${error.syscall} ${error.errno}` : String(error)),
  );
}

function compact({ opened }: Subject): void {
  expect(opened.work.tryTake()).toBe(true);
  try {
    opened.compaction.runSync();
  } finally {
    opened.work.give();
  }
}

const LIVE = 9000;

test("a compaction needs the room of its copy and of its table of moves, and works on every disk that has more", () => {
  const point = after((subject) => write(subject, { live: LIVE, dead: 9000, bytes: 60 }));
  const ample = openOn(diskOf(point));
  compact(ample);
  const { core } = ample.opened.engine;
  const copy = core.visible - core.base;
  // A block for each of: the end of the copy, its mark, and the end of the table.
  const least = copy + (LIVE + 1) * PAIR_BYTES + 3 * BLOCK;
  const refused: number[] = [];
  for (let room = least; room < 2 * copy; room += 40 * KIB) {
    const subject = openOn(diskOf(point, usedOf(point) + room));
    if (told(() => compact(subject)) !== "done") refused.push(room);
    expect(subject.opened.engine.count(subject.opened.engine.defaultSpace)).toBe(LIVE + 1);
    subject.opened.leave();
    expect(subject.system.held()).toEqual([]);
  }
  expect(refused).toEqual([]);
  // And on none that has much less.
  const small = openOn(diskOf(point, usedOf(point) + least - 8 * BLOCK));
  expect(told(() => compact(small))).toStartWith("EMDB_FULL");
});

/** A log of some MiB that has reserved as much as half of that, on a disk that has nothing else free. */
function reserving(): { readonly subject: Subject; readonly reserved: number } {
  const point = after((subject) => write(subject, { live: 100, dead: 3000, bytes: 1000 }));
  const size = usedOf(point);
  const subject = openOn(diskOf(point, size + 1900 * KIB));
  write(subject, { live: 0, dead: 1, bytes: 1000 });
  const { system, opened } = subject;
  const { engine } = opened;
  const { file } = engine.core;
  const reserved = system.size(file!.handle) - (engine.core.tail.end - engine.core.base);
  return { subject, reserved };
}

/** Takes what is free but for less than a sector. */
function fillUp(system: SimulatedSystem, name = "ballast"): void {
  const ballast = system.open(`/db/${name}`, "create");
  for (let bytes = 0, step = 64 * KIB; step >= 512;) {
    if (system.allocate(ballast, bytes + step) < 0) step /= 2;
    else bytes += step;
  }
  system.close(ballast);
}

test("what the log has reserved ahead makes room for a compaction, a checkpoint and a backup on a full disk", async () => {
  const works: readonly ((subject: Subject) => Promise<string>)[] = [
    async (subject) => told(() => compact(subject)),
    async ({ opened }) => toldOf(opened.checkpoint!.run()),
    async ({ opened }) => toldOf(opened.backup.run(TARGET, {})),
  ];
  for (const work of works) {
    const { subject, reserved } = reserving();
    const { opened, system } = subject;
    const { engine } = opened;
    expect(reserved).toBeGreaterThan(1000 * KIB);
    fillUp(system);
    expect(await work(subject)).toBe("done");
    // And the writer goes on in what is left of it.
    for (let index = 0; index < 50; index++) engine.insert(engine.defaultSpace, `more ${index}`, "x".repeat(1000), 0);
    opened.sync!.flush();
    opened.leave();
    const again = openFile(system, PATH);
    expect(again.engine.count(again.engine.defaultSpace)).toBe(151);
    expect(again.base.recovery).toMatchObject({ tornBytes: 0, missingBytes: 0 });
    again.leave();
  }
});

test("what makes room cuts the log under the writer's lock, and a database that is only read cuts nothing", async () => {
  const { subject } = reserving();
  const { system, opened } = subject;
  const { core } = opened.engine;
  opened.sync!.flush();
  const reader = openFile(system, PATH, { readOnly: true, createIfMissing: false });
  fillUp(system);
  const truncate = system.truncate.bind(system);
  const locked: boolean[] = [];
  const identityOf = (file: number): string => (system.statusOf(file) as FileStatus).identity;
  const log = identityOf(core.file!.handle);
  system.truncate = (file, bytes) => {
    if (identityOf(file) === log) locked.push(core.mutex.isHeld);
    return truncate(file, bytes);
  };
  const size = system.size(core.file!.handle);
  expect(await toldOf(reader.backup.run(TARGET, {}))).toStartWith("EMDB_FULL");
  expect([locked, system.size(core.file!.handle)]).toEqual([[], size]);
  expect(await toldOf(opened.checkpoint!.run())).toBe("done");
  expect(locked).toEqual([true]);
  expect(system.size(core.file!.handle)).toBeLessThan(size);
  for (const each of [reader, opened]) each.leave();
});

test("behind a reserve that was given back no frame is placed where the disk has granted nothing", () => {
  const { subject } = reserving();
  const { system, opened } = subject;
  const { engine } = opened;
  const { core, defaultSpace } = engine;
  const { file, tail } = core;
  const before = tail.end;
  fillUp(system);
  expect([tail.giveBack(), tail.giveBack()]).toEqual([true, false]);
  // Room for the mark of a flush, and no more than a block besides.
  expect(system.size(file!.handle) - (tail.end - core.base)).toBeWithin(64, BLOCK + 128);
  fillUp(system, "more");
  const insert = (): void => engine.insert(defaultSpace, "dead", "x".repeat(BLOCK + 128), 0);
  expect(told(insert)).toBe("EMDB_FULL fallocate ENOSPC");
  expect(tail.end).toBe(before);
  system.unlink("/db/ballast");
  insert();
  opened.sync!.flush();
  expect(system.size(file!.handle)).toBeGreaterThanOrEqual(tail.end - core.base);
  opened.leave();
});

test("the last of a disk is taken in few steps, and where there is room again the steps grow", () => {
  const machine = new Machine({ spaceBytesMax: 32_000 * KIB });
  machines.push(machine);
  const { system, opened } = openOn(machine);
  const { engine } = opened;
  const log = engine.core.file!.handle;
  const real = system.allocate.bind(system);
  let calls = 0;
  let longest = 0;
  system.allocate = (file, bytes) => {
    const before = system.size(file);
    const result = real(file, bytes);
    if (file !== log) return result;
    calls += 1;
    if (result >= 0) longest = Math.max(longest, bytes - before);
    return result;
  };
  const ballast = system.open("/db/ballast", "create");
  expect(system.allocate(ballast, 12_000 * KIB)).toBe(0);
  system.close(ballast);
  let count = 0;
  const fill = (): string =>
    told(() => {
      for (; ; count++) engine.insert(engine.defaultSpace, `key ${count}`, "x".repeat(8000), 0);
    });
  expect(fill()).toBe("EMDB_FULL fallocate ENOSPC");
  expect(system.size(log)).toBeGreaterThan(19_980 * KIB);
  // In blocks it would be some two thousand.
  expect(calls).toBeLessThan(250);
  system.unlink("/db/ballast");
  calls = longest = 0;
  expect(fill()).toBe("EMDB_FULL fallocate ENOSPC");
  expect(system.size(log)).toBeGreaterThan(31_980 * KIB);
  expect(longest).toBeGreaterThan(4 * GROWTH_BYTES_MIN);
  expect(calls).toBeLessThan(250);
  expect(engine.count(engine.defaultSpace)).toBe(count);
  opened.leave();
});

test("a database without a lock file opens on a disk that is full to the last byte, for writing as well", () => {
  const point = after((subject) => write(subject, { live: 10, dead: 0, bytes: 100 }));
  const machine = diskOf(point);
  const system = machine.boot();
  for (const end of [".lock", ".hint"]) system.unlink(PATH + end);
  const full = diskOf(machine.capture(), (system.status(PATH) as FileStatus).bytes);
  const subject = openOn(full);
  const { engine } = subject.opened;
  expect(engine.count(engine.defaultSpace)).toBe(10);
  expect(told(() => engine.insert(engine.defaultSpace, "more", "x".repeat(5000), 0))).toBe(
    "EMDB_FULL fallocate ENOSPC",
  );
  expect(readHolder(subject.system, PATH)).toBeUndefined();
  expect(told(() => openFile(subject.system, PATH))).toStartWith("EMDB_LOCKED");
  subject.opened.leave();
  const reader = openFile(subject.system, PATH, { readOnly: true, createIfMissing: false });
  expect(reader.engine.count(reader.engine.defaultSpace)).toBe(10);
  reader.leave();
});

test("a log that the disk had no room to compact by itself is compacted when half as much of it is live", async () => {
  const autoCompact = { ratio: 0.5, bytesMin: 500 * KIB };
  const machine = new Machine({ spaceBytesMax: 10_000 * KIB });
  machines.push(machine);
  const { opened, system } = openOn(machine, { autoCompact });
  const { engine } = opened;
  const { core, defaultSpace } = engine;
  const count = 3600;
  const turns = async (): Promise<void> => {
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  };
  let drafts = 0;
  const open = system.open.bind(system);
  system.open = (path, mode) => {
    if (mode === "create" && /emdb-compact-[0-9a-f]+$/.test(path)) drafts += 1;
    return open(path, mode);
  };
  const put = (first: number, end: number): void => {
    for (let index = first; index < end; index++)
      engine.insert(defaultSpace, `key ${index}`, new Uint8Array(1000).fill(index), 0);
  };
  put(0, count);
  put(0, count);
  await turns();
  const failedAt = core.tail.end;
  for (let round = 0; round < 2; round++) {
    put(0, 150);
    await turns();
  }
  // It was tried once, and is not over and over.
  expect([drafts, core.base]).toEqual([1, 0]);
  const kept = 300;
  engine.clear(defaultSpace);
  put(0, kept);
  // Less than an eighth, after which the disk is asked again in any case.
  expect(core.tail.end - failedAt).toBeLessThan(count * 2 * 128);
  await turns();
  expect(drafts).toBe(2);
  expect(core.base).toBeGreaterThan(0);
  expect(core.tail.end - core.base).toBeLessThan(500 * KIB);
  expect(engine.count(defaultSpace)).toBe(kept);
  opened.leave();
});

test("a log that the disk had no room to compact by itself is compacted when others have made room", async () => {
  const autoCompact = { ratio: 0.5, bytesMin: 500 * KIB };
  const machine = new Machine({ spaceBytesMax: 7200 * KIB });
  machines.push(machine);
  const { opened, system } = openOn(machine, { autoCompact });
  const { engine } = opened;
  const { core, defaultSpace } = engine;
  const ballast = system.open("/db/ballast", "create");
  expect(system.allocate(ballast, 2000 * KIB)).toBe(0);
  const drafts = new Set<number>();
  let asked = 0;
  let copied = 0;
  const open = system.open.bind(system);
  system.open = (path, mode) => {
    const handle = open(path, mode);
    drafts.delete(handle);
    if (mode !== "create" || !/emdb-compact-[0-9a-f]+$/.test(path)) return handle;
    drafts.add(handle);
    asked += 1;
    return handle;
  };
  const write = system.write.bind(system);
  system.write = (file, from, span) => {
    if (drafts.has(file)) copied += span.bytes;
    return write(file, from, span);
  };
  const count = 1800;
  const put = async (first: number, end: number): Promise<void> => {
    for (let index = first; index < end; index++)
      engine.insert(defaultSpace, `key ${index}`, new Uint8Array(1000).fill(index), 0);
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  };
  await put(0, count);
  await put(0, count);
  const bytes = (): number => core.tail.end - core.base;
  for (let round = 0; asked === 0 && round < 20; round++) await put(0, 20);
  expect([asked, core.base]).toEqual([1, 0]);
  const whole = bytes();
  while (bytes() < 1.25 * whole) await put(0, 20);
  // It is asked now and then, and nothing is copied that could not be copied to its end.
  expect(asked).toBeWithin(2, 4);
  expect(copied).toBe(asked * HEADER_PAGE_BYTES);
  system.close(ballast);
  system.unlink("/db/ballast");
  const before = bytes();
  while (core.base === 0 && bytes() < 1.25 * before) await put(0, 20);
  expect(core.base).toBeGreaterThan(0);
  expect(engine.count(defaultSpace)).toBe(count);
  opened.leave();
  const again = openFile(system, PATH);
  expect(again.engine.count(again.engine.defaultSpace)).toBe(count);
  again.leave();
});

test("while a compaction copies, a write that finds the disk full has what the copy has reserved ahead", () => {
  const point = after((subject) => write(subject, { live: 4000, dead: 3000, bytes: 1000 }));
  const { opened, system } = openOn(diskOf(point, usedOf(point) + 20_000 * KIB));
  const { engine } = opened;
  const { core, defaultSpace } = engine;
  const idle = ({ numbers }: LogWords): number => numbers[LOG_RESERVED]! - numbers[LOG_TAIL]!;
  engine.insert(defaultSpace, "dead", "x", 0);
  expect(opened.work.tryTake()).toBe(true);
  const steps = opened.compaction.copySteps();
  while (idle(core.control.draft) < 400 * KIB) expect(steps.next().done).toBe(false);
  fillUp(system);
  const own = idle(core.control.log);
  const copys = idle(core.control.draft);
  let written = 0;
  const before = core.tail.end;
  const put = (): void => engine.insert(defaultSpace, `more ${written}`, new Uint8Array(1000), 0);
  const fill = (): string =>
    told(() => {
      for (; ; written++) put();
    });
  expect(fill()).toBe("EMDB_FULL fallocate ENOSPC");
  expect(core.tail.end - before).toBeGreaterThan(own + copys - 16 * KIB);
  expect(idle(core.control.draft)).toBeLessThan(2 * BLOCK);
  // And the copy goes on in what is there again.
  system.unlink("/db/ballast");
  while (steps.next().done !== true) {
    put();
    written += 1;
  }
  for (const _ of opened.compaction.relocationSteps());
  opened.work.give();
  expect(core.base).toBeGreaterThan(0);
  put();
  opened.sync!.flush();
  opened.leave();
  expect(system.held()).toEqual([]);
  const again = openFile(system, PATH);
  expect(again.engine.count(again.engine.defaultSpace)).toBe(4001 + written + 1);
  expect(again.base.recovery).toMatchObject({ tornBytes: 0, missingBytes: 0 });
  again.leave();
});

test("where each step costs a map, a log that has met a full disk over and over grows on once there is room", () => {
  const machine = new Machine({ spaceBytesMax: 24_000 * KIB, isWindows: true });
  machines.push(machine);
  const { opened, system } = openOn(machine);
  const { engine } = opened;
  const rounds = 16;
  for (let round = 0; round < rounds; round++) {
    const ballast = system.open(`/db/ballast ${round}`, "create");
    expect(system.allocate(ballast, 1000 * KIB)).toBe(0);
    system.close(ballast);
  }
  let count = 0;
  const fill = (): string =>
    told(() => {
      for (; ; count++) {
        engine.insert(engine.defaultSpace, `key ${count}`, "x".repeat(3000), 0);
        opened.sync!.spill();
      }
    });
  for (let round = 0; round < rounds; round++) {
    // Not that the maps are used up, which would be so until it is opened anew.
    expect(fill()).toBe("EMDB_FULL fallocate ENOSPC");
    system.unlink(`/db/ballast ${round}`);
  }
  fill();
  const { core, defaultSpace } = engine;
  // An eighth of the log may be left.
  expect(core.tail.end - core.base).toBeGreaterThan(20_000 * KIB);
  expect(engine.count(defaultSpace)).toBe(count);
  opened.sync!.flush();
  opened.leave();
  const again = openFile(system, PATH);
  expect(again.engine.count(again.engine.defaultSpace)).toBe(count);
  again.leave();
});

test("a compaction in the order of keys asks for all its room before it writes anything, and leaves the log as it was else", () => {
  const outcomes: string[] = [];
  for (let room = 0; room < 2400; room += 300) {
    const machine = new Machine({ spaceBytesMax: (1100 + room) * KIB });
    machines.push(machine);
    const { opened, system } = openOn(machine, { rangeScans: true });
    const { engine, compaction, work } = opened;
    const { core, defaultSpace } = engine;
    // The last ones first, and so on: no order.
    for (let index = 0; index < 7000; index++)
      engine.insert(defaultSpace, `key ${(index * 4097) % 7000}`, "v".repeat(80), 0);
    opened.sync!.flush();
    const bytes = (): number => core.visible - core.base;
    const before = bytes();
    expect(work.tryTake()).toBe(true);
    outcomes.push(
      told(() => {
        for (const _ of compaction.copySteps({ isInOrder: true }));
        for (const _ of compaction.relocationSteps());
      }),
    );
    work.give();
    expect(bytes()).toBe(before);
    expect(core.base > 0).toBe(outcomes.at(-1) === "done");
    expect(engine.count(defaultSpace)).toBe(7000);
    // There is room for a write still.
    engine.insert(defaultSpace, "one more", "1", 0);
    opened.sync!.flush();
    opened.leave();
    expect(system.held()).toEqual([]);
  }
  const first = outcomes.indexOf("done");
  expect(first).toBeGreaterThan(2);
  expect(outcomes).toEqual(outcomes.map((_, index) => (index < first ? "EMDB_FULL fallocate ENOSPC" : "done")));
});
