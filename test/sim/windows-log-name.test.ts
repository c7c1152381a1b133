/**
 * Where a mapped file cannot be replaced a compaction takes two renames, and between them nothing has the log's name. Who
 * opens it then, who cannot end it, and who closes behind that must not lose what was moved aside.
 */

import { afterEach, expect, test } from "bun:test";
import { replacedPaths } from "../../src/engine/files/siblings.ts";
import { AUDIT } from "../../src/engine/threads/control.ts";
import { Errno } from "../../src/ffi/errno.ts";
import type { FileStatus } from "../../src/ffi/system.ts";
import { openFile, type OpenedEngine } from "../engine/open-engine.ts";
import { Machine } from "./machine.ts";
import { codeOf } from "./store.ts";
import type { SimulatedSystem } from "./system.ts";

const PATH = "/db/store";
const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

function windowsMachine(): Machine {
  const machine = new Machine({ isWindows: true });
  machines.push(machine);
  return machine;
}

/** The code of what some work throws. */
function refusal(work: () => unknown): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    return codeOf(error);
  }
}

function valueOf({ engine }: OpenedEngine): string | undefined {
  const value = engine.get(engine.defaultSpace, "key");
  return value && Buffer.from(value).toString();
}

/** A database with one flushed record. */
function begin(system: SimulatedSystem, value = "kept"): OpenedEngine {
  const opened = openFile(system, PATH);
  opened.engine.insert(opened.engine.defaultSpace, "key", value, 0);
  opened.sync!.flush();
  return opened;
}

/** What a death between the two renames leaves. */
function movedAside(machine: Machine): { aside: string } {
  const system = machine.boot();
  const { base } = begin(system);
  const [aside = ""] = replacedPaths(system, { path: PATH, fileId: base.fileId });
  expect(system.rename(PATH, aside)).toBe(0);
  system.kill();
  return { aside };
}

type Spoil = (system: SimulatedSystem, aside: string) => void;

const SPOILS: readonly [name: string, code: string, spoil: Spoil][] = [
  ["the folder cannot be listed", "EMDB_IO", (system) => void (system.list = () => -Errno.EACCES)],
  [
    "a virus scanner has the file",
    "EMDB_IO",
    (system, aside) => {
      const open = system.open.bind(system);
      system.open = (path, mode) => (path === aside ? -Errno.EBUSY : open(path, mode));
    },
  ],
  [
    "the file cannot be read",
    "EMDB_IO",
    (system, aside) => {
      const [open, read] = [system.open.bind(system), system.read.bind(system)];
      let spoiled = -1;
      system.open = (path, mode) => {
        const handle = open(path, mode);
        if (path === aside) spoiled = handle;
        return handle;
      };
      system.read = (file, into, span) => (file === spoiled ? -Errno.EIO : read(file, into, span));
    },
  ],
];

test.each(SPOILS)("no database is made in the place of one that was moved aside when %s", (_, code, spoil) => {
  const machine = windowsMachine();
  const { aside } = movedAside(machine);
  const system = machine.boot();
  spoil(system, aside);
  expect(refusal(() => openFile(system, PATH))).toBe(code);
  expect(system.held()).toEqual([]);
  const healthy = openFile(machine.boot(), PATH);
  expect(valueOf(healthy)).toBe("kept");
  healthy.leave();
});

test("a log that was moved aside is put back under a name in other capitals, and another one's is not", () => {
  const inCapitals = [(name: string) => name.replace("store", "Store"), (name: string) => name.toUpperCase()];
  for (const [isOne, spell] of [true, false].flatMap((one) => inCapitals.map((how) => [one, how] as const))) {
    const machine = windowsMachine();
    const { aside } = movedAside(machine);
    const system = machine.boot();
    const list = system.list.bind(system);
    system.list = (folder) => {
      const names = list(folder);
      return typeof names === "number" ? names : names.map(spell);
    };
    if (isOne) {
      const open = system.open.bind(system);
      system.open = (path, mode) => open(path.toLowerCase() === aside ? aside : path, mode);
      const rename = system.rename.bind(system);
      system.rename = (from: string, to: string) => rename(from.toLowerCase() === aside ? aside : from, to);
    }
    if (!isOne) {
      // A folder that tells capitals: the listed name is nothing under the spelling that is asked for.
      const open = system.open.bind(system);
      system.open = (path, mode) => (path.includes("emdb-replaced") ? -Errno.ENOENT : open(path, mode));
    }
    const opened = openFile(system, PATH);
    expect(valueOf(opened)).toBe(isOne ? "kept" : undefined);
    opened.leave();
  }
});

test("what is named as a log that was moved aside, and has another one's id in it, is not put back", () => {
  const machine = windowsMachine();
  const { aside } = movedAside(machine);
  const system = machine.boot();
  const other = aside.replace(/[0-9a-f]{16}/, "0123456789abcdef");
  expect(system.rename(aside, other)).toBe(0);
  const opened = openFile(system, PATH);
  expect(valueOf(opened)).toBeUndefined();
  opened.leave();
  expect(typeof system.status(other)).toBe("object");
});

test("who only reads finds the log that was moved aside, and moves nothing", () => {
  const machine = windowsMachine();
  const { aside } = movedAside(machine);
  const system = machine.boot();
  const reader = openFile(system, PATH, { readOnly: true, createIfMissing: false });
  expect(valueOf(reader)).toBe("kept");
  reader.leave();
  expect([system.status(PATH), typeof system.status(aside)]).toEqual([-Errno.ENOENT, "object"]);
});

/** Has work done by another process behind the rename that moves the log aside. */
function beforeSecond(system: SimulatedSystem, work: () => void): void {
  const rename = system.rename.bind(system);
  let isAside = false;
  system.rename = (from, to) => {
    if (isAside) work();
    const result = rename(from, to);
    if (from === PATH && result >= 0) isAside = true;
    return result;
  };
}

test("who opens only to read between the two renames of a living writer reads", () => {
  const machine = windowsMachine();
  const system = machine.boot();
  const opened = begin(system);
  const seen: (string | undefined)[] = [];
  beforeSecond(system, () => {
    const reader = openFile(machine.boot(), PATH, { readOnly: true, createIfMissing: false });
    seen.push(valueOf(reader));
    reader.leave();
  });
  opened.compaction.runSync();
  expect(seen).toEqual(["kept"]);
  opened.leave();
});

test("who opens only to read reads when the log gets or loses its name between any two looks at it", () => {
  // Each turn the names change at one call more of the open.
  for (const isEnded of [true, false]) {
    for (let turn = 0, left = -1; left < 0; turn++) {
      const machine = windowsMachine();
      const writer = machine.boot();
      const { base } = begin(writer);
      const [aside = ""] = replacedPaths(writer, { path: PATH, fileId: base.fileId });
      if (isEnded) expect(writer.rename(PATH, aside)).toBe(0);
      const system = machine.boot();
      left = turn;
      const change = (): void => {
        if (left-- === 0) writer.rename(isEnded ? aside : PATH, isEnded ? PATH : aside);
      };
      const { status, open, list } = system;
      system.status = (path) => (change(), status.call(system, path));
      system.open = (path, mode) => (change(), open.call(system, path, mode));
      system.list = (folder) => (change(), list.call(system, folder));
      const reader = openFile(system, PATH, { readOnly: true, createIfMissing: false });
      expect(valueOf(reader)).toBe("kept");
      reader.leave();
      writer.kill();
    }
  }
});

test("a log that could not be given its name again is there when the database is closed", () => {
  const machine = windowsMachine();
  const system = machine.boot();
  const opened = begin(system, "first");
  const { engine } = opened;
  // Whoever walks keeps the file of the compaction before, which a close lets go of.
  const walk = engine.snapshot(engine.defaultSpace)[Symbol.iterator]();
  walk.next();
  opened.compaction.runSync();
  engine.insert(engine.defaultSpace, "key", "second", 0);
  opened.sync!.flush();
  const rename = system.rename.bind(system);
  system.rename = (from, to) => (to === PATH ? -Errno.EACCES : rename(from, to));
  expect(refusal(() => opened.compaction.runSync())).toBe("EMDB_IO");
  expect(system.status(PATH)).toBe(-Errno.ENOENT);
  engine.insert(engine.defaultSpace, "key", "third", 0);
  opened.sync!.flush();
  opened.leave();
  const again = openFile(machine.boot(), PATH, { createIfMissing: false });
  expect(valueOf(again)).toBe("third");
  again.leave();
  walk.return?.();
});

test("a compaction replaces no file that somebody has put where the log was", () => {
  const machine = windowsMachine();
  const system = machine.boot();
  const opened = begin(system);
  const other = machine.boot();
  expect(other.rename(PATH, "/db/moved")).toBe(0);
  const handle = other.open(PATH, "create");
  other.write(handle, new Uint8Array(10).fill(7), { position: 0, bytes: 10 });
  other.close(handle);
  expect(refusal(() => opened.compaction.runSync())).toBe("EMDB_LOCKED");
  expect(other.status(PATH)).toMatchObject({ bytes: 10 });
  opened.leave();
});

test("the next writer gives the log its name back, and leaves other files that a compaction has replaced where they are", () => {
  const system = windowsMachine().boot();
  const opened = begin(system);
  const { engine, base } = opened;
  // Of a compaction before, which somebody still reads.
  const [former = ""] = replacedPaths(system, { path: PATH, fileId: base.fileId });
  system.close(system.open(former, "create"));
  const identityAt = (name: string): string | undefined => (system.status(name) as Partial<FileStatus>).identity;
  const [own, foreign] = [identityAt(PATH), identityAt(former)];
  const [rename, unlink] = [system.rename.bind(system), system.unlink.bind(system)];
  system.unlink = (name) => (name === former ? -Errno.EBUSY : unlink(name));
  system.rename = (from: string, to: string) => {
    if (to === PATH && identityAt(PATH) === undefined) throw new Error("it has died");
    return rename(from, to);
  };
  expect(() => {
    for (const _ of opened.compaction.copySteps());
  }).toThrow("it has died");
  system.rename = rename;
  expect(identityAt(PATH)).toBeUndefined();
  Atomics.store(engine.core.control.flags, AUDIT, 1);
  engine.insert(engine.defaultSpace, "more", "value", 0);
  expect([identityAt(PATH), identityAt(former)]).toEqual([own, foreign]);
  opened.leave();
  const again = openFile(system, PATH);
  expect([valueOf(again), again.engine.count(again.engine.defaultSpace)]).toEqual(["kept", 2]);
  again.leave();
});
