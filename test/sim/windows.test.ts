/** What differs where a mapped file can be neither cut nor replaced. */

import { expect, test } from "bun:test";
import { basename } from "node:path";
import type { Opened } from "../../src/engine/assemble.ts";
import { Control, WORK_LEFT, noteTarget } from "../../src/engine/threads/control.ts";
import { breakLock } from "../../src/engine/files/lock-file.ts";
import { openFile } from "../../src/engine/open/open.ts";
import { backupPath, compactPath, newHintPath, replacedPaths } from "../../src/engine/files/siblings.ts";
import { Errno } from "../../src/ffi/errno.ts";
import type { Patience, Result } from "../../src/ffi/system.ts";
import { goneNames } from "../../src/log/free-name.ts";
import { LOG_WRITTEN } from "../../src/log/log-words.ts";
import { SEGMENT_COUNT_MAX } from "../../src/log/segments.ts";
import { SYSTEM_NAME_BYTES_MAX, ZERO_COPY_BYTES_MIN } from "../../src/limits.ts";
import { expectCode } from "../contract/fixture.ts";
import { CONFIG } from "../engine/open-engine.ts";
import { Machine } from "./machine.ts";
import type { SimulatedSystem } from "./system.ts";

/** The views that were mapped while a long value was read without a copy, and what close then says. */
function readLongValue(isWindows: boolean): { views: number; close: string } {
  const machine = new Machine({ isWindows });
  const system: SimulatedSystem = machine.boot();
  const opened = openFile(
    { system, defer: () => undefined, hasWorkers: false },
    { path: "/db/store", createFolders: false, config: CONFIG },
  );
  const { engine } = opened;
  engine.insert(engine.defaultSpace, "long", new Uint8Array(ZERO_COPY_BYTES_MIN).fill(7), 0);
  opened.sync?.flush();
  expect(engine.getZeroCopy(engine.defaultSpace, "long")?.length).toBe(ZERO_COPY_BYTES_MIN);
  opened.leave();
  const result = {
    views: system.trace.calls.filter(({ call }) => call.name === "mapView").length,
    close: system.held().join(),
  };
  machine.dispose();
  return result;
}

test("a long value is a view of the file, except where that would pin the file", () => {
  expect(readLongValue(false)).toEqual({ views: 1, close: "" });
  expect(readLongValue(true)).toEqual({ views: 0, close: "" });
});

/** A database with as many compactions as asked, an iterator held from before each, and what the last one left. */
function compactWhileHeld(system: SimulatedSystem, count: number, defer: (work: () => void) => void = () => undefined) {
  const opened = openFile(
    { system, defer, hasWorkers: false },
    { path: "/db/store", createFolders: false, config: CONFIG },
  );
  const { engine } = opened;
  const held = Array.from({ length: count }, (_, round) => {
    for (let key = 0; key < 20; key++)
      engine.insert(
        engine.defaultSpace,
        new TextEncoder().encode(`key ${key}`),
        new TextEncoder().encode(`${round}`),
        0,
      );
    const walk = engine.snapshot(engine.defaultSpace)[Symbol.iterator]();
    walk.next();
    opened.compaction.runSync();
    return walk;
  });
  return { opened, held };
}

const besides = (system: SimulatedSystem): readonly string[] =>
  (system.list("/db") as readonly string[]).filter((name) => name.includes(".emdb-")).sort();

test("compactions go on while iterators keep the files of those before, and nothing is left of them", () => {
  const machine = new Machine({ isWindows: true });
  const system = machine.boot();
  const { opened, held } = compactWhileHeld(system, 5);
  const names = besides(system);
  expect(names.filter((name) => name.includes("replaced")).length).toBe(5);
  for (const [round, walk] of held.entries()) {
    let count = 1;
    for (let next = walk.next(); next.done !== true; next = walk.next()) {
      expect(Buffer.from(next.value.value).toString()).toBe(`${round}`);
      count += 1;
    }
    expect(count).toBe(20);
  }
  opened.compaction.runSync();
  expect(besides(system)).toEqual([]);
  opened.leave();
  expect([system.held(), system.misuses]).toEqual([[], []]);
  machine.dispose();
});

test("as long as a table of moves is read its file stays open, since Windows empties what is removed with its last handle", () => {
  for (const keepsOpenNames of [false, true]) {
    const machine = new Machine({ isWindows: true, keepsOpenNames });
    const system = machine.boot();
    const { opened, held } = compactWhileHeld(system, SEGMENT_COUNT_MAX);
    const { engine } = opened;
    for (let key = 0; key < 20; key++) {
      const value = engine.get(engine.defaultSpace, new TextEncoder().encode(`key ${key}`));
      expect(Buffer.from(value!).toString()).toBe(`${SEGMENT_COUNT_MAX - 1}`);
    }
    for (const walk of held) walk.return?.();
    opened.compaction.runSync();
    expect(besides(system)).toEqual([]);
    opened.leave();
    expect([system.held(), system.misuses]).toEqual([[], []]);
    machine.dispose();
  }
});

test("a compaction waits for no denial to replace the log, which is mapped, and for any of what it does instead", () => {
  const machine = new Machine({ isWindows: true });
  const system = machine.boot();
  const renames: [from: string, patience: string | undefined][] = [];
  const { rename } = system;
  system.rename = (from: string, to: string, patience?: Patience): Result => {
    renames.push([from, patience]);
    return rename.call(system, from, to);
  };
  const { opened, held } = compactWhileHeld(system, 1);
  const draft = compactPath({ path: "/db/store", fileId: opened.base.fileId });
  expect(renames.slice(-3)).toEqual([
    [draft, "at once"],
    ["/db/store", undefined],
    [draft, undefined],
  ]);
  for (const walk of held) walk.return?.();
  opened.leave();
  machine.dispose();
});

test("of several files that compactions replaced an open puts the newest back, whatever its number", () => {
  for (const number of [0, 4]) {
    const machine = new Machine({ isWindows: true });
    const before = machine.boot();
    const { base } = compactWhileHeld(before, 3).opened;
    before.kill();
    const system = machine.boot();
    // It died between the two names of a fourth compaction.
    system.rename("/db/store", replacedPaths(system, { path: "/db/store", fileId: base.fileId })[number]!);
    const { opened } = compactWhileHeld(system, 0);
    const { engine } = opened;
    expect(Buffer.from(engine.get(engine.defaultSpace, new TextEncoder().encode("key 7"))!).toString()).toBe("2");
    opened.leave();
    expect(besides(system)).toEqual([]);
    machine.dispose();
  }
});

test("an open removes every file that was out of the way of a draft when its process died", () => {
  const machine = new Machine({ isWindows: true });
  const before = machine.boot();
  const { base } = compactWhileHeld(before, 0).opened;
  before.kill();
  const log = { path: "/db/store", fileId: base.fileId };
  const system = machine.boot();
  const left = [compactPath(log), newHintPath(log)].flatMap((draft) => goneNames(system, draft).slice(0, 3));
  expect(left.length).toBe(6);
  for (const name of left) system.close(system.open(name, "create"));
  const { opened } = compactWhileHeld(system, 0);
  expect(left.filter((name) => system.status(name) !== -Errno.ENOENT)).toEqual([]);
  opened.leave();
  machine.dispose();
});

test("no checkpoint is made where there is no room for the name that its draft may have to give way to", async () => {
  const machine = new Machine({ isWindows: true });
  const system = machine.boot();
  const path = `/db/${"n".repeat(SYSTEM_NAME_BYTES_MAX - newHintPath({ path: "", fileId: new Uint8Array(16) }).length)}`;
  const status = system.status.bind(system);
  system.status = (asked) => (basename(asked).length > SYSTEM_NAME_BYTES_MAX ? -Errno.ENAMETOOLONG : status(asked));
  const opened = openFile(
    { system, defer: (work) => work(), hasWorkers: false },
    { path: "/db/store", createFolders: false, config: CONFIG },
  );
  opened.leave();
  for (const ending of ["", ".hint"]) system.rename(`/db/store${ending}`, path + ending);
  const again = openFile(
    { system, defer: (work) => work(), hasWorkers: false },
    { path, createFolders: false, config: { ...CONFIG, createIfMissing: false } },
  );
  const { engine, checkpoint } = again;
  engine.insert(engine.defaultSpace, "key", "value", 0);
  const refused: unknown = await checkpoint!.run().catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "EMDB_INVALID_CONFIG" });
  again.leave();
  machine.dispose();
});

/** A file that a thread had open when it died, before the handle stood anywhere: nobody can close it any more. */
function leaveOpen(system: SimulatedSystem, path: string): () => void {
  const handle = system.open(path, "create");
  expect(handle).toBeGreaterThan(0);
  return () => void system.close(handle);
}

test.each(["compaction", "backup", "image"])(
  "a %s goes on beside the open file of a thread that died, though its name stays until the process ends",
  async (name) => {
    const machine = new Machine({ isWindows: true, keepsOpenNames: true });
    const system = machine.boot();
    const { opened } = compactWhileHeld(system, 0, (work) => work());
    const { engine, base } = opened;
    engine.insert(engine.defaultSpace, new TextEncoder().encode("key"), new TextEncoder().encode("value"), 0);
    const control = new Control(base.buffer);
    const paths = new Map([
      ["compaction", compactPath({ path: "/db/store", fileId: base.fileId })],
      ["backup", backupPath("/db/copy", base)],
      ["image", newHintPath({ path: "/db/store", fileId: base.fileId })],
    ]);
    const letGo: (() => void)[] = [];
    for (let death = 0; death < 3; death++) {
      letGo.push(leaveOpen(system, paths.get(name)!));
      if (name === "backup") noteTarget(control, "/db/copy");
      control.flags[WORK_LEFT] = 1;
      if (name === "compaction") opened.compaction.runSync();
      else if (name === "backup") await opened.backup.run("/db/copy", {});
      else opened.checkpoint?.runSync();
      engine.insert(engine.defaultSpace, new TextEncoder().encode(`key ${death}`), new TextEncoder().encode("more"), 0);
    }
    expect(engine.count(engine.defaultSpace)).toBe(4);
    for (const close of letGo) close();
    expect(besides(system)).toEqual([]);
    opened.leave();
    expect([system.held(), system.misuses]).toEqual([[], []]);
    machine.dispose();
  },
);

test("who cannot cut a file that somebody has mapped waits for it only where there is no other way", async () => {
  const machine = new Machine({ isWindows: true });
  const system = machine.boot();
  const waits: Record<string, (string | undefined)[]> = {};
  const names = new Map<unknown, string>();
  const [open, truncate] = [system.open.bind(system), system.truncate.bind(system)];
  system.open = (path, mode) => {
    const handle = open(path, mode);
    names.set(handle, path.replace(/-[0-9a-f]{16}/, ""));
    return handle;
  };
  system.truncate = (file: number, bytes: number, patience?: Patience): Result => {
    (waits[names.get(file)!] ??= []).push(patience);
    return truncate(file, bytes);
  };
  const { opened } = compactWhileHeld(system, 0, (work) => work());
  opened.engine.insert(opened.engine.defaultSpace, "key", "value", 0);
  await opened.backup.run("/db/copy", {});
  opened.leave();
  expect(waits).toEqual({
    "/db/store.lock": [undefined],
    "/db/copy.lock": [undefined],
    "/db/copy.emdb-backup": [undefined],
    "/db/store": ["at once"],
  });
  machine.dispose();
});

test("an open cuts a torn tail off, and a close what is reserved: this process lets go of its own maps before", () => {
  const machine = new Machine({ isWindows: true });
  const open = (system: SimulatedSystem): Opened =>
    openFile(
      { system, defer: () => undefined, hasWorkers: false },
      { path: "/db/store", createFolders: false, config: CONFIG },
    );
  const second = machine.boot();
  const cuts = (file: unknown): unknown[] =>
    second.trace.calls
      .filter(({ call }) => call.name === "truncate" && String(call.subject) === String(file))
      .map(({ result }) => result);
  const first = machine.boot();
  const { engine, sync } = open(first);
  for (const key of ["one", "two"]) engine.insert(engine.defaultSpace, key, "value", 0);
  sync!.flush();
  engine.insert(engine.defaultSpace, "torn", "x".repeat(3000), 0);
  sync!.spill();
  const { numbers } = engine.core.control.log;
  const half = numbers[LOG_WRITTEN]! - 1000;
  first.write(engine.core.file!.handle, new Uint8Array(1000), { position: half, bytes: 1000 });
  first.kill();
  const again = open(second);
  const { handle } = again.engine.core.file!;
  expect(again.base.recovery.tornBytes).toBeGreaterThan(0);
  expect(cuts(handle)).toEqual([0]);
  again.engine.insert(again.engine.defaultSpace, "three", "value", 0);
  again.leave();
  expect(cuts(handle)).toEqual([0, 0]);
  machine.dispose();
});

test("a lock that was broken is held until the robbed one has closed it, where it has its name so long", () => {
  const machine = new Machine({ isWindows: true, keepsOpenNames: true });
  const open = (system: SimulatedSystem): Opened =>
    openFile(
      { system, defer: () => undefined, hasWorkers: false },
      { path: "/db/store", createFolders: false, config: CONFIG },
    );
  const robbed = open(machine.boot());
  const system = machine.boot();
  breakLock(system, "/db/store", true);
  expect(system.status("/db/store.lock")).toBe(-Errno.EACCES);
  expectCode("EMDB_LOCKED", () => open(system));
  const { engine } = robbed;
  expectCode("EMDB_LOCKED", () => engine.insert(engine.defaultSpace, "key", "value", 0));
  expectCode("EMDB_LOCKED", () => robbed.leave());
  // Whose open has failed removes its lock right before it closes it.
  const held = leaveOpen(system, "/db/store.lock");
  system.unlink("/db/store.lock");
  let looks = 0;
  const opening = system.open.bind(system);
  system.open = (path, mode) => {
    if (path === "/db/store.lock" && ++looks === 3) held();
    return opening(path, mode);
  };
  open(system).leave();
  machine.dispose();
});
