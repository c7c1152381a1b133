/** What happens between the steps of a compaction: much is written, it is given up half-way, another thread goes on with it. */

import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { existsSync, linkSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import type { Opened } from "../../src/engine/assemble.ts";
import { AUDIT, LONG_WORK, RELOCATED, SWAP, SWAP_RENAMES, noteTarget } from "../../src/engine/threads/control.ts";
import { giveBackDead } from "../../src/engine/background/dead-work.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { backupPath, compactPath, newHintPath } from "../../src/engine/files/siblings.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { faulty } from "../engine/engine-fixture.ts";
import { openFile } from "../engine/open-engine.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

/** A table of moves keeps its name where a mapped file does. */
const DRAFT = /\.emdb-compact-[0-9a-f]{16}$/;

setDefaultTimeout(120_000);

const text = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString();

function fill({ engine }: Opened, count: number): void {
  const keys = Array.from({ length: count }, (_, index) => `key ${index}`);
  engine.insertMany(
    engine.defaultSpace,
    keys,
    keys.map((key) => `of ${key}`),
    0,
  );
}

function expectAll({ engine }: Opened, count: number): void {
  let missed = 0;
  for (let index = 0; index < count; index++) {
    if (text(engine.get(engine.defaultSpace, `key ${index}`)) !== `of key ${index}`) missed += 1;
  }
  expect(missed).toBe(0);
}

test.each([1, 9, 30])("%i MiB written while the live records are copied are in the compacted file", (mebibytes) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const opened = openFile(hostSystem(), path);
  const { engine, compaction, work } = opened;
  fill(opened, 3000);
  const early = engine.snapshot(engine.defaultSpace);
  expect(work.tryTake()).toBe(true);
  const steps = compaction.copySteps();
  for (let step = 0; step < 4; step++) steps.next();
  for (let index = 0; index < mebibytes; index++) {
    engine.insert(engine.defaultSpace, `during ${index}`, `${index}`.padEnd(1_000_000, "d"), 0);
    for (let small = 0; small < 48; small++)
      engine.insert(engine.defaultSpace, `s ${small}`, `${index}`.padEnd(1000), 0);
  }
  const late = engine.snapshot(engine.defaultSpace);
  for (const _ of steps);
  engine.insert(engine.defaultSpace, "behind", "the swap", 0);
  for (const _ of compaction.relocationSteps());
  work.give();
  expectAll(opened, 3000);
  expect([...early].length).toBe(3000);
  expect([...late].length).toBe(3000 + mebibytes + 48);
  expect(engine.count(engine.defaultSpace)).toBe(3000 + mebibytes + 48 + 1);
  for (let index = 0; index < mebibytes; index++) {
    expect(engine.get(engine.defaultSpace, `during ${index}`)?.length).toBe(1_000_000);
  }
  opened.leave();
  const again = openFile(hostSystem(), path);
  expectAll(again, 3000);
  expect(again.engine.count(again.engine.defaultSpace)).toBe(3000 + mebibytes + 48 + 1);
  again.leave();
});

test("a thread that gave an index up half-way does not go on there in a later compaction", () => {
  using folder = temporaryFolder();
  const one = openFile(hostSystem(), folder.file("data.emdb"));
  fill(one, 20_000);
  const environment = { system: hostSystem(), defer: (work: () => void) => void setImmediate(work), hasWorkers: false };
  const other = attachTo(environment, one.base);
  const run = (opened: Opened, relocationSteps: number): void => {
    expect(opened.work.tryTake()).toBe(true);
    for (const _ of opened.compaction.copySteps());
    const steps = opened.compaction.relocationSteps();
    for (let step = 0; step < relocationSteps; step++) if (steps.next().done === true) break;
    steps.return();
    opened.work.give();
  };
  run(one, 5);
  run(other, Infinity);
  run(one, Infinity);
  const { log, base } = one.engine.core;
  expectAll(one, 20_000);
  expectAll(other, 20_000);
  // What the index names is in the file that is now in service, whatever else is still held.
  for (let index = 0; index < 20_000; index += 97) {
    one.engine.get(one.engine.defaultSpace, `key ${index}`);
    expect(one.engine.core.lookup.lsn).toBeGreaterThanOrEqual(base);
  }
  expect(log.segments.list().length).toBeLessThanOrEqual(3);
  other.leave();
  one.leave();
});

test("what a dead thread has left is given back without the table of moves of a replaced file, whose own file may have its name still", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const system = faulty(hostSystem(), (call, args) =>
    call === "unlink" && String(args[0]).endsWith("-moves") && existsSync(String(args[0])) ? -Errno.EIO : undefined,
  );
  const opened = openFile(system, path);
  const { core } = opened.engine;
  fill(opened, 5000);
  expect(opened.work.tryTake()).toBe(true);
  for (const _ of opened.compaction.copySteps());
  const table = readdirSync(folder.path).find((name) => name.endsWith("-moves"))!;
  const status = system.status(folder.file(table));
  if (typeof status === "number") throw new Error("the table has no name");
  const before = system.mappingsOf(status.identity);
  giveBackDead(system, core.control, { path, fileId: core.identity.fileId, isReadOnly: false });
  expect(system.mappingsOf(status.identity)).toEqual(before);
  for (const _ of opened.compaction.relocationSteps());
  opened.work.give();
  expectAll(opened, 5000);
  opened.leave();
});

test("what a dead thread has left is given back without what the log and a replaced file have open, under whatever name", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const system = hostSystem();
  const opened = openFile(system, path);
  const { core, defaultSpace } = opened.engine;
  fill(opened, 5000);
  const log = { path, fileId: core.identity.fileId };
  const [draft, image] = [compactPath(log), newHintPath(log)];
  linkSync(path, folder.file("former"));
  const walk = opened.engine.snapshot(defaultSpace);
  expect(opened.work.tryTake()).toBe(true);
  opened.compaction.runSync();
  // The log that is in service, and the one that the walk reads in.
  linkSync(path, draft);
  linkSync(folder.file("former"), image);
  const besides = { path, fileId: log.fileId, isReadOnly: false };
  giveBackDead(system, core.control, besides);
  expect([existsSync(draft), existsSync(image)]).toEqual([false, false]);
  expect([...walk].length).toBe(5000);
  opened.engine.insert(defaultSpace, "more", "x", 0);
  opened.sync!.flush();
  expectAll(opened, 5000);
  // No file is a folder.
  mkdirSync(draft);
  const handle = system.open(draft, "folder");
  giveBackDead(system, core.control, besides);
  expect(typeof system.statusOf(handle)).toBe("object");
  system.close(handle);
  rmSync(draft, { recursive: true, force: true });
  opened.work.give();
  opened.leave();
});

test("once a dead thread's backup has been given back, nothing is looked for beside its target", () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("copy.emdb")];
  const system = hostSystem();
  const opened = openFile(system, path);
  const { control, identity } = opened.engine.core;
  const draft = backupPath(target, identity);
  noteTarget(control, target);
  const besides = { path, fileId: identity.fileId, isReadOnly: false };
  for (const isOurs of [true, false]) {
    writeFileSync(draft, "of another process, the second time");
    giveBackDead(system, control, besides);
    expect([isOurs, existsSync(draft)]).toEqual([isOurs, !isOurs]);
  }
  opened.leave();
});

test("a walk that began before its index was led over keeps the file that it was to read in", () => {
  using folder = temporaryFolder();
  const opened = openFile(hostSystem(), folder.file("data.emdb"));
  const { engine, compaction, work } = opened;
  fill(opened, 20_000);
  expect(work.tryTake()).toBe(true);
  for (const _ of compaction.copySteps());
  // Nothing is written between it and the end of leading over.
  const walk = engine.snapshot(engine.defaultSpace);
  const first = walk.next();
  for (const _ of compaction.relocationSteps());
  expect(compaction.release("at once")).toBe("held");
  expect([first, ...walk].length).toBe(20_000);
  expect(compaction.release("at once")).toBe("nothing");
  work.give();
  opened.leave();
});

test.each(["before a compaction begins", "while it copies"])(
  "the first removal behind a walk is kept for it, %s",
  (moment) => {
    using folder = temporaryFolder();
    const opened = openFile(hostSystem(), folder.file("data.emdb"));
    const { engine, compaction, work } = opened;
    const space = engine.defaultSpace;
    fill(opened, 1000);
    expect(work.tryTake()).toBe(true);
    const steps = compaction.copySteps();
    if (moment === "while it copies") for (let step = 0; step < 4; step++) steps.next();
    engine.insert(space, "passing", "it", 0);
    const walk = engine.snapshot(space);
    engine.remove(space, "passing");
    // So much that it is worth another round, in which the index is asked what of it is live.
    engine.insert(space, "filler", "x".repeat(30_000), 0);
    for (const _ of steps);
    for (const _ of compaction.relocationSteps());
    const found = [...walk].find(({ key }) => text(key) === "passing");
    expect(text(found?.value)).toBe("it");
    work.give();
    opened.leave();
  },
);

test("a file in service stays open when the swap that a dead thread left cannot be ended yet", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let isDenied = false;
  const system = faulty(hostSystem(), (call, args) =>
    isDenied && call === "open" && args[1] === "folder" ? -Errno.EMFILE : undefined,
  );
  const opened = openFile(system, path);
  const { engine, compaction, work } = opened;
  const { flags } = engine.core.control;
  fill(opened, 1000);
  expect(work.tryTake()).toBe(true);
  compaction.runSync();
  const { segments } = engine.core.log;
  const add = segments.add.bind(segments);
  segments.add = (...args) => {
    add(...args);
    segments.add = add;
    // Nothing is tidied up by who is dead.
    work.turn = undefined;
    throw new Error("dead");
  };
  expect(() => {
    for (const _ of compaction.copySteps());
  }).toThrow("dead");
  expect([Atomics.load(flags, SWAP), engine.core.control.numbers[RELOCATED]]).toEqual([SWAP_RENAMES, 0]);
  Atomics.store(flags, AUDIT, 1);
  isDenied = true;
  const insert = (): void => engine.insert(engine.defaultSpace, "more", "x", 0);
  // As often as it takes for this thread to be seen past what is given up.
  for (let round = 0; round < 4; round++) {
    expect(insert).toThrow(expect.objectContaining({ code: "EMDB_IO" }));
    expectAll(opened, 1000);
  }
  isDenied = false;
  insert();
  expect(engine.core.control.numbers[RELOCATED]).toBeGreaterThan(0);
  expectAll(opened, 1000);
  Atomics.store(flags, LONG_WORK, 0);
  opened.leave();
  const again = openFile(hostSystem(), path);
  expectAll(again, 1000);
  expect(again.engine.count(again.engine.defaultSpace)).toBe(1001);
  again.leave();
});

test("work over what a dead thread left is refused as long as that cannot be given back", async () => {
  using folder = temporaryFolder();
  let denials = 0;
  const system = faulty(hostSystem(), (call, args) =>
    denials > 0 && call === "open" && args[1] === "folder" ? ((denials -= 1), -Errno.EMFILE) : undefined,
  );
  const opened = openFile(system, folder.file("data.emdb"));
  const { engine, compaction, backup, work } = opened;
  fill(opened, 1000);
  expect(work.tryTake()).toBe(true);
  using adding = spyOn(engine.core.log.segments, "add").mockImplementationOnce(() => {
    // Nothing is tidied up by who is dead.
    work.turn = undefined;
    throw new Error("dead");
  });
  expect(() => {
    for (const _ of compaction.copySteps());
  }).toThrow("dead");
  expect(adding).toHaveBeenCalledTimes(1);
  Atomics.store(engine.core.control.flags, AUDIT, 1);
  Atomics.store(engine.core.control.flags, LONG_WORK, 0);
  for (const run of [() => compaction.run({}), () => backup.run(folder.file("copy.emdb"), {})]) {
    denials = 1;
    expect(await run().catch((error: unknown) => error)).toMatchObject({ code: "EMDB_IO", syscall: "open" });
    expect([denials, work.isOurs]).toEqual([0, false]);
  }
  await compaction.run({});
  await backup.run(folder.file("copy.emdb"), {});
  expectAll(opened, 1000);
  opened.leave();
});

test("what a compaction that fails has mapped is unmapped once", async () => {
  using folder = temporaryFolder();
  const host = hostSystem();
  const mapped = new Set<unknown>();
  let syncs = 0;
  let isFailing = false;
  const system = faulty(host, (call, args) => {
    if (call === "map") {
      const address = host.map(...(args as Parameters<typeof host.map>));
      mapped.add(address);
      return address;
    }
    if (call === "unmap" && !mapped.delete(args[0])) throw new Error("nothing is mapped there");
    return call === "sync" && isFailing && ++syncs > 0 ? -Errno.EIO : undefined;
  });
  const opened = openFile(system, folder.file("data.emdb"));
  fill(opened, 1000);
  opened.sync!.flush();
  isFailing = true;
  const before = mapped.size;
  const failure: unknown = await opened.compaction.run({}).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: "EMDB_IO" });
  expect([syncs, mapped.size]).toEqual([1, before]);
  isFailing = false;
  await opened.compaction.run({});
  expectAll(opened, 1000);
  opened.leave();
});

test("what is told as progress never goes back, and ends at the total", async () => {
  using folder = temporaryFolder();
  const db = Emdb.open(folder.file("data.emdb"));
  db.insertMany(Array.from({ length: 40_000 }, (_, index) => [`key ${index}`, "v".repeat(100)] as const));
  const told: { done: number; total: number }[] = [];
  await db.compact({
    onProgress: (progress) => {
      told.push(progress);
      for (let index = 0; index < 1000 && told.length < 10; index++)
        db.insert(`more ${told.length} ${index}`, "m".repeat(100));
    },
  });
  const dones = told.map(({ done }) => done);
  // One pause at least: how long the later steps are depends on how long the turns of the event loop take.
  expect(told.length).toBeGreaterThanOrEqual(2);
  expect(dones).toEqual([...dones].sort((one, two) => one - two));
  expect(new Set(told.map(({ total }) => total)).size).toBe(1);
  expect(told.at(-1)!.done).toBe(told.at(-1)!.total);
  db.closeSync();
});

test("a throw out of onProgress ends a compaction at any of its calls, and the next one works", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let db = Emdb.open(path, { rangeScans: true });
  db.insertMany(Array.from({ length: 15_000 }, (_, index) => [`key ${index}`, `of key ${index}`.padEnd(100)] as const));
  for (let at = 1; ; at++) {
    let calls = 0;
    const thrown = await db
      .compact({
        onProgress: () => {
          calls += 1;
          if (calls === at) throw new Error(`at ${at}`);
        },
      })
      .then(
        () => undefined,
        (error: unknown) => (error as Error).message,
      );
    db.insert(`after ${at}`, "x");
    db.remove(`key ${at}`);
    db.insert(`key ${at}`, `of key ${at}`);
    expect(readdirSync(folder.path).some((name) => DRAFT.test(name))).toBe(false);
    if (thrown === undefined) break;
    expect(thrown).toBe(`at ${at}`);
  }
  const keys = Array.from({ length: 15_000 }, (_, index) => `key ${index}`);
  const misses = (): number =>
    db.getMany(keys).filter((value, index) => text(value)?.trim() !== `of key ${index}`).length;
  expect(misses()).toBe(0);
  expect([...db.range()].length).toBe(db.len());
  expect((await db.verify()).problems).toEqual([]);
  db.closeSync();
  db = Emdb.open(path, { rangeScans: true });
  expect(misses()).toBe(0);
  expect([...db.range()].length).toBe(db.len());
  db.closeSync();
});

test("a namespace that is created or dropped while a compaction copies is as verify expects it", async () => {
  using folder = temporaryFolder();
  await using db = Emdb.open(folder.file("data.emdb"));
  db.namespace("gone").insert("x", "y");
  db.namespace("stays").insert("x", "y");
  db.insertMany(Array.from({ length: 100_000 }, (_, index) => [`key ${index}`, "some value"]));
  let isDue = true;
  await db.compact({
    onProgress: ({ done }) => {
      if (!isDue || done === 0) return;
      isDue = false;
      db.dropNamespace("gone");
      db.namespace("brief");
      db.dropNamespace("brief");
      db.namespace("new").insert("x", "z");
    },
  });
  expect(isDue).toBe(false);
  expect((await db.verify()).problems).toEqual([]);
  expect(db.listNamespaces()).toEqual(["stays", "new"]);
});

test("a namespace that another Worker drops while expired records are swept ends no compaction", async () => {
  using folder = temporaryFolder();
  const opened = openFile(hostSystem(), folder.file("data.emdb"));
  const { engine, compaction } = opened;
  const { spaces, core } = engine;
  engine.insert(engine.spaceNamed("gone"), "x", "y", 0);
  const isLive = spaces.isLive.bind(spaces);
  let looks = 0;
  spaces.isLive = (space) => {
    const answer = isLive(space);
    if (space.name !== "gone") return answer;
    looks += 1;
    // Behind the list of namespaces; another one can only come in where nobody has the lock.
    if (looks > 1 && answer && !core.mutex.isHeld) engine.dropSpace("gone");
    return answer;
  };
  await compaction.run({});
  opened.leave();
});

test("who waits for another's long work and gives up is told at once", async () => {
  using folder = temporaryFolder();
  const opened = openFile(hostSystem(), folder.file("data.emdb"));
  fill(opened, 10);
  const { work, compaction, backup } = opened;
  expect(work.tryTake()).toBe(true);
  for (const run of [
    (signal: AbortSignal) => compaction.run({ signal }),
    (signal: AbortSignal) => backup.run(folder.file("copy.emdb"), { signal }),
    (signal: AbortSignal) => verifyDatabase(opened, { signal }),
  ]) {
    const controller = new AbortController();
    const waiting = run(controller.signal).catch((error: unknown) => error);
    controller.abort("no more");
    expect(await waiting).toMatchObject({ code: "EMDB_ABORTED", cause: "no more" });
  }
  work.give();
  await compaction.run({});
  expectAll(opened, 10);
  opened.leave();
});

test.each(["compaction", "backup"] as const)(
  "what another Worker writes before each step of a %s, and has not brought to the file, is in it",
  async (what) => {
    using folder = temporaryFolder();
    const [path, target] = [folder.file("data.emdb"), folder.file("copy.emdb")];
    const opened = openFile(hostSystem(), path);
    const { engine } = opened;
    fill(opened, 100);
    // Its event loop never turns.
    const other = attachTo({ system: hostSystem(), defer: () => undefined, hasWorkers: false }, opened.base);
    const value = "of the other".padEnd(20_000);
    const exclusively = engine.exclusively.bind(engine);
    let count = 0;
    engine.exclusively = (body) => {
      if (!engine.core.mutex.isHeld) other.engine.insert(other.engine.defaultSpace, `other ${count++}`, value, 0);
      expect(engine.core.tail.pendingBytes).toBeGreaterThan(0);
      return exclusively(body);
    };
    await (what === "backup" ? opened.backup.run(target, {}) : opened.compaction.run({}));
    engine.exclusively = exclusively;
    expect(count).toBeGreaterThan(2);
    other.leave();
    opened.leave();
    const copy = openFile(hostSystem(), what === "backup" ? target : path);
    expectAll(copy, 100);
    expect(copy.engine.count(copy.engine.defaultSpace)).toBe(100 + count);
    for (let index = 0; index < count; index++)
      expect(text(copy.engine.get(copy.engine.defaultSpace, `other ${index}`))).toBe(value);
    copy.leave();
  },
);
