/** The machine fails while a database is open: a full disk, a failed sync, a failed write. What was there stays there. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, readdirSync, rmdirSync, unlinkSync, writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { Engine } from "../../src/engine/engine.ts";
import type { System } from "../../src/ffi/system.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import { expectCode, expectOpens, stateOf } from "./fixture.ts";

setDefaultTimeout(120_000);

/** A disk of 8 MiB, where the machine lets a test mount one. */
const mountPoint = `/tmp/emdb-small-disk-${process.pid}`;
const mayMount = process.platform === "linux" && process.getuid?.() === 0;
let isMounted = false;

function mount(): boolean {
  if (!mayMount) return false;
  mkdirSync(mountPoint);
  const arguments_ = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", mountPoint];
  if (
    Bun.which("mount") !== null &&
    Bun.spawnSync(arguments_, { stdio: ["ignore", "ignore", "ignore"] }).exitCode === 0
  )
    return true;
  rmdirSync(mountPoint);
  return false;
}
isMounted = mount();
if (!isMounted) console.log("skipped: a full disk, since no tmpfs can be mounted here");

afterAll(() => {
  if (!isMounted) return;
  Bun.spawnSync(["umount", mountPoint]);
  rmdirSync(mountPoint);
});

describe.skipIf(!isMounted)("on a disk of 8 MiB", () => {
  const path = `${mountPoint}/data.emdb`;

  beforeAll(() => {
    Emdb.open(path).closeSync();
  });

  test("inserts into a full disk are EMDB_FULL, all else stays, and after space is freed it goes on", () => {
    writeFileSync(`${mountPoint}/ballast`, new Uint8Array(3 * 2 ** 20));
    const db = Emdb.open(path);
    let count = 0;
    const fill = (): EmdbError =>
      expectCode("EMDB_FULL", () => {
        for (; count < 10_000; count += 1) db.insert(`key ${count}`, `${count}`.padEnd(5000, "."));
      });
    const error = fill();
    expect([error.syscall, error.errno]).toEqual(["fallocate", "ENOSPC"]);
    expect(count).toBeGreaterThan(500);
    expect(db.len()).toBe(count);
    const state = stateOf(db);
    for (let round = 0; round < 3; round += 1) {
      expectCode("EMDB_FULL", () => db.insert(`key ${count}`, new Uint8Array(5000)));
      expectCode("EMDB_FULL", () =>
        db.insertMany([
          ["key 1", "changed"],
          ["more", new Uint8Array(50_000)],
        ]),
      );
      expectCode("EMDB_FULL", () =>
        db.transaction((tx) => (tx.remove("key 2"), tx.insert("x", new Uint8Array(50_000)))),
      );
      expect(stateOf(db)).toBe(state);
    }
    // What is there can be made durable, and a database on a full disk can be closed and opened.
    db.flushSync();
    db.closeSync();
    const again = Emdb.open(path);
    expect(stateOf(again)).toBe(state);
    unlinkSync(`${mountPoint}/ballast`);
    const before = count;
    expectCode("EMDB_FULL", () => {
      for (; count < 10_000; count += 1) again.insert(`key ${count}`, `${count}`.padEnd(5000, "."));
    });
    expect(count).toBeGreaterThan(before + 400);
    again.closeSync();
    const last = Emdb.open(path);
    expect(last.len()).toBe(count);
    last.closeSync();
  });

  test("a new database on a full disk is EMDB_FULL and leaves nothing", () => {
    unlinkSync(path);
    for (const sidecar of [".lock", ".hint"]) hostSystem().unlink(path + sidecar);
    expectCode("EMDB_FULL", () => {
      for (let index = 0; ; index += 1) fillDisk(`${mountPoint}/ballast${index}`);
    });
    const names = hostSystem().list(mountPoint);
    expectCode("EMDB_FULL", () => Emdb.open(path));
    expect(hostSystem().list(mountPoint)).toEqual(names);
    for (const name of names as readonly string[]) unlinkSync(`${mountPoint}/${name}`);
  });
});

/** Writes until there is no space, then says so as the engine does. */
function fillDisk(path: string): void {
  const bytes = new Uint8Array(256 * 1024);
  try {
    writeFileSync(path, bytes);
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOSPC") throw error;
    throw new EmdbError("EMDB_FULL", "the disk is full");
  }
}

/** A system whose next calls of one kind fail. */
function failing(call: keyof System, errno: number): { system: System; plan: { left: number } } {
  const plan = { left: 0 };
  const system = faulty(hostSystem(), (made) => {
    if (made !== call || plan.left <= 0) return undefined;
    plan.left -= 1;
    return -errno;
  });
  return { system, plan };
}

test("a failed sync poisons: writes and flushes are EMDB_POISONED for good, reads go on, and reopening recovers", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const { system, plan } = failing("sync", Errno.EIO);
  using fixture = new EngineFixture(path, system);
  const { engine, sync } = fixture;
  const space = engine.defaultSpace;
  engine.insert(space, "a", "flushed", 0);
  sync.flush();
  engine.insert(space, "b", "not flushed", 0);
  plan.left = 1;
  const error = expectCode("EMDB_IO", () => sync.flush());
  expect([error.syscall, error.errno]).toEqual(["fdatasync", "EIO"]);
  // The kernel would report success now; the database does not ask it again.
  for (let round = 0; round < 2; round += 1) {
    expectCode("EMDB_POISONED", () => sync.flush());
    expectCode("EMDB_POISONED", () => engine.insert(space, "c", "x", 0));
    expectCode("EMDB_POISONED", () => engine.remove(space, "a"));
    expectCode("EMDB_POISONED", () => engine.clear(space));
    expectCode("EMDB_POISONED", () => engine.spaceNamed("new"));
    expect(new TextDecoder().decode(engine.get(space, "a"))).toBe("flushed");
    expect(new TextDecoder().decode(engine.get(space, "b"))).toBe("not flushed");
    expect([...engine.snapshot(space)].length).toBe(2);
  }
  expect(() => fixture.close()).toThrow(expect.objectContaining({ code: "EMDB_POISONED" }));
  const again = Emdb.open(path);
  expect(again.getText("a")).toBe("flushed");
  again.insert("c", "works again");
  again.closeSync();
});

test("a group flush of what is durable already asks nothing of a broken disk", () => {
  using folder = temporaryFolder();
  const { system, plan } = failing("sync", Errno.EIO);
  const group = { flushPlan: { kind: "group", waitMsMax: 0, batchMax: 1 } } as const;
  using fixture = new EngineFixture(folder.file("data.emdb"), system, group);
  fixture.engine.insert(fixture.engine.defaultSpace, "a", "b", 0);
  fixture.sync.flush();
  plan.left = 1;
  fixture.sync.flush();
  expect(plan.left).toBe(1);
  plan.left = 0;
});

test.each(["EIO", "ENOSPC"] as const)(
  "a write that fails with %s is told by the flush, loses nothing, and is made good by the next flush",
  (errno) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const { system, plan } = failing("write", Errno[errno]);
    let state: string;
    {
      using fixture = new EngineFixture(path, system);
      const { engine, sync } = fixture;
      engine.insert(engine.defaultSpace, "a", "b", 0);
      plan.left = 2;
      for (let round = 0; round < 2; round += 1) {
        expectCode(errno === "EIO" ? "EMDB_IO" : "EMDB_FULL", () => sync.flush());
        engine.insert(engine.defaultSpace, `more ${round}`, "x", 0);
      }
      sync.flush();
      state = fixture.state();
      expectOpens(folder.file("crashed.emdb"), fixture.image(), state);
    }
    const again = Emdb.open(path);
    expect(stateOf(again)).toBe(state);
    again.closeSync();
  },
);

test("where space cannot be reserved, a full disk is told by the flush and the database goes on", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const plan = { isFull: false };
  const system = faulty(hostSystem(), (call) => {
    if (call === "allocate") return -Errno.EOPNOTSUPP;
    return call === "write" && plan.isFull ? -Errno.ENOSPC : undefined;
  });
  using fixture = new EngineFixture(path, system);
  const { engine, sync } = fixture;
  engine.insert(engine.defaultSpace, "a", "b", 0);
  sync.flush();
  plan.isFull = true;
  engine.insert(engine.defaultSpace, "c", "d", 0);
  expectCode("EMDB_FULL", () => sync.flush());
  expect(engine.count(engine.defaultSpace)).toBe(2);
  plan.isFull = false;
  sync.flush();
  expectOpens(folder.file("crashed.emdb"), fixture.image(), fixture.state());
});

test("a write-through insert that fails is not there, neither to readers nor after a reopen", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const { system, plan } = failing("write", Errno.EIO);
  const writeThrough = { flushPlan: { kind: "write-through" } } as const;
  using fixture = new EngineFixture(path, system, writeThrough);
  const { engine } = fixture;
  engine.insert(engine.defaultSpace, "a", "durable", 0);
  expectOpens(folder.file("crashed.emdb"), fixture.image(), fixture.state());
  plan.left = 1;
  expect(() => engine.insert(engine.defaultSpace, "b", "x", 0)).toThrow(EmdbError);
  expect(engine.has(engine.defaultSpace, "b")).toBe(false);
  expect(engine.count(engine.defaultSpace)).toBe(1);
});

/** A disk that is full: a write gets into the file as it were, and is told to have failed; from then on none does. */
function fullBehind(): { system: System; disk: { isFull: boolean; hasTaken: boolean; syncs: number } } {
  const disk = { isFull: false, hasTaken: false, syncs: 0 };
  const host = hostSystem();
  const system = faulty(host, (call, args) => {
    if (call === "sync") disk.syncs += 1;
    if (call !== "write" || !disk.isFull) return undefined;
    if (!disk.hasTaken) host.write(...(args as Parameters<System["write"]>));
    disk.hasTaken = true;
    return -Errno.ENOSPC;
  });
  return { system, disk };
}

/** A system on which writing through is a sync behind each write. */
function lacking(system: System): System {
  return new Proxy(system, {
    get: (target, name) => (name === "lacksWriteThrough" ? true : (Reflect.get(target, name) as unknown)),
  });
}

const WRITE_THROUGH = { flushPlan: { kind: "write-through" }, rangeScans: true } as const;

describe.each([
  ["at once", (system: System) => system],
  ["by a sync behind it", lacking],
] as const)("a write-through insert is written %s, refused, and in the file all the same:", (_, to) => {
  test("no flush succeeds before it is taken out of the file", async () => {
    using folder = temporaryFolder();
    const { system, disk } = fullBehind();
    using fixture = new EngineFixture(folder.file("data.emdb"), to(system), WRITE_THROUGH);
    const { engine, sync, opened } = fixture;
    engine.insert(engine.defaultSpace, "a", "durable", 0);
    const before = fixture.state();
    disk.isFull = true;
    expectCode("EMDB_FULL", () => engine.insert(engine.defaultSpace, "b", "refused", 0));
    expectCode("EMDB_FULL", () => sync.flush());
    const full = expect.objectContaining({ code: "EMDB_FULL" });
    expect(await opened.commit!.flush().catch((error: unknown) => error)).toEqual(full);
    expect(fixture.state()).toBe(before);
    disk.isFull = false;
    disk.syncs = 0;
    await opened.commit!.flush();
    expect(disk.syncs).toBe(1);
    expectOpens(folder.file("flushed.emdb"), fixture.image(), before);
    sync.flush();
    expect(disk.syncs).toBe(1);
  });

  test("a write in its place makes it good", () => {
    using folder = temporaryFolder();
    const { system, disk } = fullBehind();
    using fixture = new EngineFixture(folder.file("data.emdb"), to(system), WRITE_THROUGH);
    const { engine, sync } = fixture;
    disk.isFull = true;
    expectCode("EMDB_FULL", () => engine.insert(engine.defaultSpace, "b", "refused", 0));
    disk.isFull = false;
    engine.insert(engine.defaultSpace, "c", "accepted", 0);
    disk.syncs = 0;
    sync.flush();
    expect(disk.syncs).toBe(0);
    expectOpens(folder.file("flushed.emdb"), fixture.image(), fixture.state());
  });
});

test("a write-through insert that is refused and leaves nothing in the file keeps no flush and no compaction from succeeding", () => {
  using folder = temporaryFolder();
  const { system, disk } = fullBehind();
  using fixture = new EngineFixture(folder.file("data.emdb"), system, WRITE_THROUGH);
  const { engine, sync, opened } = fixture;
  engine.insert(engine.defaultSpace, "a", "durable", 0);
  const before = fixture.state();
  Object.assign(disk, { isFull: true, hasTaken: true });
  expectCode("EMDB_FULL", () => engine.insert(engine.defaultSpace, "b", "refused", 0));
  sync.flush();
  disk.hasTaken = false;
  expectCode("EMDB_FULL", () => engine.insert(engine.defaultSpace, "b", "refused", 0));
  disk.isFull = false;
  opened.compaction.runSync();
  // What was refused is in a file that is gone.
  disk.isFull = true;
  sync.flush();
  expectOpens(folder.file("flushed.emdb"), fixture.image(), before);
});

test.each(["EIO", "ENOSPC", "EDQUOT"] as const)(
  "a sync that fails with %s is EMDB_IO and poisons, also for want of room",
  (errno) => {
    using folder = temporaryFolder();
    const { system, plan } = failing("sync", Errno[errno]);
    using fixture = new EngineFixture(folder.file("data.emdb"), system);
    const { engine, sync } = fixture;
    engine.insert(engine.defaultSpace, "a", "b", 0);
    plan.left = 1;
    expectCode("EMDB_IO", () => sync.flush());
    expectCode("EMDB_POISONED", () => sync.flush());
    expectCode("EMDB_POISONED", () => engine.insert(engine.defaultSpace, "c", "d", 0));
  },
);

test.each(["EIO", "ENOSPC"] as const)(
  "where writing through is a sync by itself, one that fails with %s is not tried again, and its write is not there",
  (errno) => {
    using folder = temporaryFolder();
    const calls = { syncs: 0, isFailing: false };
    const system = faulty(hostSystem(), (call) => {
      if (call !== "sync") return undefined;
      calls.syncs += 1;
      return calls.isFailing && calls.syncs === 1 ? -Errno[errno] : undefined;
    });
    const refused: ((engine: Engine) => unknown)[] = [
      (engine) => engine.insert(engine.defaultSpace, "b", "new", 0),
      (engine) => engine.insert(engine.defaultSpace, "a", "overwritten", 0),
      (engine) => engine.remove(engine.defaultSpace, "a"),
      (engine) => engine.clear(engine.defaultSpace),
      (engine) => engine.spaceNamed("new"),
    ];
    for (const [round, write] of refused.entries()) {
      using fixture = new EngineFixture(folder.file(`${round}.emdb`), lacking(system), WRITE_THROUGH);
      const { engine } = fixture;
      engine.insert(engine.defaultSpace, "a", "durable", 0);
      const before = fixture.state();
      Object.assign(calls, { syncs: 0, isFailing: true });
      expectCode("EMDB_IO", () => write(engine));
      expectCode("EMDB_POISONED", () => write(engine));
      expect(calls.syncs).toBe(1);
      expect(fixture.state()).toBe(before);
      expect([...engine.range(engine.defaultSpace, { isReverse: false })].length).toBe(1);
      fixture[Symbol.dispose]();
      calls.isFailing = false;
    }
  },
);

test("the index that finds no memory refuses the write as EMDB_FULL or EMDB_IO, and holds what it held", () => {
  using folder = temporaryFolder();
  const { system, plan } = failing("commit", Errno.ENOMEM);
  using fixture = new EngineFixture(folder.file("data.emdb"), system);
  const { engine } = fixture;
  const space = engine.defaultSpace;
  let refused = 0;
  for (let key = 0; key < 60_000; key += 1) {
    plan.left = key % 3 === 0 ? 1 : 0;
    try {
      engine.insert(space, `key ${key}`, "x", 0);
    } catch (error) {
      expect(error).toMatchObject({ code: "EMDB_IO", errno: "ENOMEM" });
      refused += 1;
      expect(engine.has(space, `key ${key}`)).toBe(false);
      engine.insert(space, `key ${key}`, "x", 0);
    }
    if (engine.count(space) !== key + 1) throw new Error(`${engine.count(space)} counted after ${key + 1}`);
  }
  plan.left = 0;
  expect(refused).toBeGreaterThan(0);
  for (let key = 0; key < 60_000; key += 7) expect(engine.has(space, `key ${key}`)).toBe(true);
  fixture.checkLiveBytes();
});

test.each(["ENOSPC", "EFBIG"] as const)(
  "no room for one byte more (%s) does not make the close of a flushed database fail",
  (errno) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const plan = { isFull: false };
    const system = faulty(hostSystem(), (call) => (call === "write" && plan.isFull ? -Errno[errno] : undefined));
    using fixture = new EngineFixture(path, system);
    const { engine, sync } = fixture;
    engine.insert(engine.defaultSpace, "a", "b", 0);
    sync.flush();
    const state = fixture.state();
    const end = engine.core.visible;
    plan.isFull = true;
    fixture.close();
    expect(Bun.file(path).size).toBe(end);
    expectOpens(path, new Uint8Array(readFileSync(path)), state);
  },
);

test("where files cannot be mapped an open says so, and leaves nothing of a new database", () => {
  using folder = temporaryFolder();
  const system = faulty(hostSystem(), (call) => (call === "map" ? -Errno.ENODEV : undefined));
  const error = expectCode("EMDB_IO", () => new EngineFixture(folder.file("data.emdb"), system));
  expect([error.syscall, error.errno]).toEqual(["mmap", "ENODEV"]);
  expect(error.message).toContain("the file system does not let its files be mapped");
  expect(readdirSync(folder.path)).toEqual([]);
});
