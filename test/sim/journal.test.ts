/** Names in the simulation: what creating, renaming and removing leave when the power goes. */

import { afterEach, describe, expect, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { Machine } from "./machine.ts";
import type { Draw, JournalMode } from "./draw.ts";
import type { SimulatedSystem } from "./system.ts";

const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

function up(journal: JournalMode): { machine: Machine; system: SimulatedSystem } {
  const machine = new Machine({ journal });
  machines.push(machine);
  return { machine, system: machine.boot() };
}

function make(system: SimulatedSystem, path: string, text = ""): void {
  const file = system.open(path, "create");
  const bytes = new TextEncoder().encode(text);
  if (bytes.length > 0) system.write(file, bytes, { position: 0, bytes: bytes.length });
  system.sync(file);
  system.close(file);
}

function namesAfter(machine: Machine, draw: Draw): string {
  const next = Machine.restore(machine.capture(), draw);
  machines.push(next);
  const names = [...next.names.current].filter(([, entry]) => entry.kind === "file").map(([path]) => path.slice(4));
  return names.sort().join(" ");
}

function outcomes(machine: Machine): string[] {
  const seen = new Set<string>();
  for (let seed = 0; seed < 300; seed += 1) seen.add(namesAfter(machine, { kind: "random", seed }));
  return [...seen].sort();
}

describe("in strict mode", () => {
  test("a synced file whose name never was is lost", () => {
    const { machine, system } = up("strict");
    make(system, "/db/a", "synced");
    expect(namesAfter(machine, { kind: "none" })).toBe("");
    system.syncFolder("/db");
    expect(outcomes(machine)).toEqual(["a"]);
  });

  test("any subset of what the folder was not synced for may be there", () => {
    const { machine, system } = up("strict");
    make(system, "/db/a");
    make(system, "/db/b");
    expect(outcomes(machine)).toEqual(["", "a", "a b", "b"]);
  });

  test("the sync of another folder says nothing", () => {
    const { machine, system } = up("strict");
    system.makeFolder("/other");
    make(system, "/db/a");
    system.syncFolder("/other");
    expect(outcomes(machine)).toEqual(["", "a"]);
  });

  test("a file in a folder that did not persist is lost with it", () => {
    const { machine, system } = up("strict");
    system.makeFolder("/new");
    make(system, "/new/a");
    system.syncFolder("/new");
    expect(namesAfter(machine, { kind: "none" })).toBe("");
    system.syncFolder("/");
    expect(namesAfter(machine, { kind: "none" })).toBe("/a");
  });
});

describe("in ordered mode", () => {
  test("changes persist as a prefix", () => {
    const { machine, system } = up("ordered");
    for (const path of ["/db/a", "/db/b", "/db/c"]) system.close(system.open(path, "create"));
    system.unlink("/db/a");
    expect(outcomes(machine)).toEqual(["", "a", "a b", "a b c", "b c"]);
  });

  test("the sync of a file takes its name along and everything before it", () => {
    const { machine, system } = up("ordered");
    system.close(system.open("/db/a", "create"));
    make(system, "/db/b");
    system.close(system.open("/db/c", "create"));
    expect(outcomes(machine)).toEqual(["a b", "a b c"]);
  });

  test("a truncation has its place in the prefix", () => {
    const { machine, system } = up("ordered");
    make(system, "/db/a", "0123456789");
    const file = system.open("/db/a", "write");
    system.truncate(file, 4);
    system.close(system.open("/db/b", "create"));
    const seen = new Set<string>();
    for (let seed = 0; seed < 300; seed += 1) {
      const next = Machine.restore(machine.capture(), { kind: "random", seed });
      machines.push(next);
      seen.add(`${next.visibleBytes("/db/a")?.length} ${next.inodeAt("/db/b") !== undefined}`);
    }
    expect([...seen].sort()).toEqual(["10 false", "4 false", "4 true"]);
  });
});

describe.each(["strict", "ordered"] as const)("in %s mode", (journal) => {
  test("a rename over a file is one or the other, never neither", () => {
    const { machine, system } = up(journal);
    make(system, "/db/a", "old");
    make(system, "/db/b", "newer");
    system.syncFolder("/db");
    expect(system.rename("/db/b", "/db/a")).toBe(0);
    const seen = new Set<string>();
    for (let seed = 0; seed < 100; seed += 1) {
      const next = Machine.restore(machine.capture(), { kind: "random", seed });
      machines.push(next);
      seen.add(`${next.visibleBytes("/db/a")?.length} ${next.visibleBytes("/db/b")?.length}`);
    }
    expect([...seen].sort()).toEqual(["3 5", "5 undefined"]);
  });

  test("a removed file stays readable by who has it open, and its durable name may come back", () => {
    const { machine, system } = up(journal);
    make(system, "/db/a", "text");
    system.syncFolder("/db");
    const file = system.open("/db/a", "read");
    system.unlink("/db/a");
    expect(system.size(file)).toBe(4);
    expect(system.status("/db/a")).toBe(-Errno.ENOENT);
    expect(outcomes(machine)).toEqual(["", "a"]);
  });

  test("a second name is the same file", () => {
    const { machine, system } = up(journal);
    make(system, "/db/a", "text");
    expect(system.link("/db/a", "/db/b")).toBe(0);
    expect(system.link("/db/a", "/db/b")).toBe(-Errno.EEXIST);
    expect(system.status("/db/a")).toEqual(system.status("/db/b"));
    system.unlink("/db/a");
    expect(machine.visibleBytes("/db/b")).toHaveLength(4);
  });
});

test("names obey what the man pages say about them", () => {
  const { system } = up("strict");
  expect(system.open("/db/a", "read")).toBe(-Errno.ENOENT);
  expect(system.open("/no/a", "create")).toBe(-Errno.ENOENT);
  expect(system.open("/db", "read")).toBe(-Errno.EISDIR);
  make(system, "/db/a");
  expect(system.open("/db/a", "create")).toBe(-Errno.EEXIST);
  expect(system.open("/db/a/b", "create")).toBe(-Errno.ENOTDIR);
  expect(system.makeFolder("/db")).toBe(-Errno.EEXIST);
  expect(system.rename("/db/no", "/db/b")).toBe(-Errno.ENOENT);
  expect(system.unlink("/db")).toBe(-Errno.EISDIR);
  expect(system.syncFolder("/db/a")).toBe(-Errno.ENOTDIR);
  expect(system.list("/db")).toEqual(["a"]);
  expect(system.list("/")).toEqual(["db"]);
  expect(system.realPath("/db/a")).toBe("/db/a");
});
