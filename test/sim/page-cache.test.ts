/** The page cache of the simulation: what is lost, kept and torn when the power goes. */

import { afterEach, describe, expect, test } from "bun:test";
import { POISON } from "./image.ts";
import { Machine } from "./machine.ts";
import { copyOut, fillMemory, realMappingCount } from "./real-memory.ts";
import type { Draw } from "./draw.ts";
import type { MachineOptions } from "./machine.ts";
import type { SimulatedSystem } from "./system.ts";

const PATH = "/db/file";
const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

function kept(machine: Machine): Machine {
  machines.push(machine);
  return machine;
}

function filled(value: number, bytes: number): Uint8Array {
  return new Uint8Array(bytes).fill(value);
}

function put(
  system: SimulatedSystem,
  file: number,
  span: { readonly position: number; readonly bytes: Uint8Array },
): void {
  const { position, bytes } = span;
  expect(system.write(file, bytes, { position, bytes: bytes.length })).toBe(bytes.length);
}

/** A file whose first 1000 bytes, all 1, and whose name are durable. */
function started(options: Partial<MachineOptions> = {}): { machine: Machine; system: SimulatedSystem; file: number } {
  const machine = kept(new Machine(options));
  const system = machine.boot();
  const file = system.open(PATH, "create");
  system.syncFolder("/db");
  put(system, file, { position: 0, bytes: filled(1, 1000) });
  system.sync(file);
  return { machine, system, file };
}

function after(machine: Machine, draw: Draw): Uint8Array {
  return kept(Machine.restore(machine.capture(), draw)).visibleBytes(PATH) ?? new Uint8Array();
}

describe("a power loss", () => {
  test("keeps what was synced, whatever is drawn", () => {
    const { machine } = started();
    for (const kind of ["all", "none", "metadata", "data", "kill"] as const) {
      expect(after(machine, { kind })).toEqual(filled(1, 1000));
    }
    for (let seed = 0; seed < 50; seed += 1) expect(after(machine, { kind: "random", seed })).toEqual(filled(1, 1000));
  });

  test("takes what was not synced when nothing is kept, and nothing when all is", () => {
    const { machine, system, file } = started();
    put(system, file, { position: 500, bytes: filled(2, 1000) });
    expect(after(machine, { kind: "none" })).toEqual(filled(1, 1000));
    const all = after(machine, { kind: "all" });
    expect(all).toHaveLength(1500);
    expect(all.subarray(500)).toEqual(filled(2, 1000));
  });

  test("can persist the size without the data, and the data without the size", () => {
    const { machine, system, file } = started();
    put(system, file, { position: 0, bytes: filled(2, 2000) });
    const zeros = after(machine, { kind: "metadata" });
    expect(zeros).toHaveLength(2000);
    expect(zeros.subarray(1000)).toEqual(filled(0, 1000));
    expect(after(machine, { kind: "data" })).toEqual(filled(2, 1000));
  });

  test("from one seed is always the same, and from many seeds is of every kind", () => {
    const { machine, system, file } = started();
    put(system, file, { position: 0, bytes: filled(2, 2000) });
    const seen = { shorter: 0, mixed: 0, torn: 0, zeros: 0, garbage: 0 };
    for (let seed = 0; seed < 400; seed += 1) {
      const bytes = after(machine, { kind: "random", seed });
      expect(after(machine, { kind: "random", seed })).toEqual(bytes);
      if (bytes.length < 2000) seen.shorter += 1;
      if (bytes.includes(1) && bytes.includes(2)) seen.mixed += 1;
      if (bytes[0] !== bytes[511]) seen.torn += 1;
      if (bytes.subarray(1024).includes(0)) seen.zeros += 1;
      if (bytes.subarray(1024).some((byte) => byte > 2)) seen.garbage += 1;
    }
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(5);
  });

  test("never changes a byte that was durable and not written again", () => {
    const { machine, system, file } = started();
    put(system, file, { position: 600, bytes: filled(2, 300) });
    for (let seed = 0; seed < 200; seed += 1) {
      const bytes = after(machine, { kind: "random", seed });
      expect(bytes.subarray(0, 600)).toEqual(filled(1, 600));
      expect(bytes.subarray(900)).toEqual(filled(1, 100));
    }
  });

  test("treats the sector as one unit where nothing tears", () => {
    const { machine, system, file } = started({ sectorBytes: 4096 });
    put(system, file, { position: 0, bytes: filled(2, 1000) });
    let whole = 0;
    for (let seed = 0; seed < 100; seed += 1) {
      if (new Set(after(machine, { kind: "random", seed })).size === 1) whole += 1;
    }
    expect(whole).toBeGreaterThan(50);
  });

  test("leaves a point that can be restored again and again, though the machine went on", () => {
    const { machine, system, file } = started();
    put(system, file, { position: 0, bytes: filled(2, 100) });
    const point = machine.capture();
    put(system, file, { position: 0, bytes: filled(3, 100) });
    system.sync(file);
    for (let round = 0; round < 3; round += 1) {
      const all = kept(Machine.restore(point, { kind: "all" })).visibleBytes(PATH);
      expect(all?.subarray(0, 100)).toEqual(filled(2, 100));
      expect(kept(Machine.restore(point, { kind: "none" })).visibleBytes(PATH)?.[0]).toBe(1);
    }
  });
});

describe("the end of a process", () => {
  test("leaves the page cache whole and still not durable", () => {
    const { machine, system, file } = started();
    put(system, file, { position: 1000, bytes: filled(2, 500) });
    const next = kept(Machine.restore(machine.capture(), { kind: "kill" }));
    expect(next.visibleBytes(PATH)).toHaveLength(1500);
    expect(next.durableBytes(PATH)).toHaveLength(1000);
    expect(after(next, { kind: "none" })).toHaveLength(1000);
  });

  test("gives handles, locks and memory back and makes every later call fail", () => {
    const { machine, system, file } = started();
    expect(system.lock(file)).toBe(0);
    const reserved = system.reserve(8192);
    expect(system.map(file, 1000)).toBeGreaterThan(0);
    system.kill();
    expect(system.held()).toEqual([]);
    expect(system.release(reserved, 8192)).toBeLessThan(0);
    const next = machine.boot();
    expect(next.lock(next.open(PATH, "write"))).toBe(0);
  });
});

describe("a write that goes through", () => {
  test("is durable when it returns, and older writes stay pending", () => {
    const { machine, system, file } = started();
    put(system, file, { position: 0, bytes: filled(2, 400) });
    const through = system.open(PATH, "write-through");
    put(system, through, { position: 200, bytes: filled(3, 100) });
    const bytes = after(machine, { kind: "none" });
    expect(bytes.subarray(0, 200)).toEqual(filled(1, 200));
    expect(bytes.subarray(200, 300)).toEqual(filled(3, 100));
    for (let seed = 0; seed < 100; seed += 1) {
      expect(after(machine, { kind: "random", seed }).subarray(200, 300)).toEqual(filled(3, 100));
    }
  });

  test("has a crash point inside, where it may be torn", () => {
    const { machine, system } = started();
    const through = system.open(PATH, "write-through");
    const seen = new Set<number | undefined>();
    system.onPoint = ({ phase }) => {
      if (phase === "during") seen.add(after(machine, { kind: "none" })[0]).add(after(machine, { kind: "all" })[0]);
    };
    put(system, through, { position: 0, bytes: filled(3, 100) });
    expect(seen).toEqual(new Set([1, 3]));
  });
});

describe("the size of a file", () => {
  test("that was cut shows zeros when it grows again", () => {
    const { machine, system, file } = started();
    system.truncate(file, 100);
    system.allocate(file, 300);
    const bytes = machine.visibleBytes(PATH);
    expect(bytes?.subarray(0, 100)).toEqual(filled(1, 100));
    expect(bytes?.subarray(100)).toEqual(filled(0, 200));
    expect(after(machine, { kind: "all" })).toEqual(bytes ?? new Uint8Array());
    expect(after(machine, { kind: "none" })).toEqual(filled(1, 1000));
  });

  test("is not made smaller by allocate", () => {
    const { system, file } = started();
    expect(system.allocate(file, 10)).toBe(0);
    expect(system.size(file)).toBe(1000);
  });

  test("has a bound", () => {
    const { system, file } = started({ fileBytesMax: 4096 });
    expect(system.truncate(file, 4097)).toBe(-27);
    expect(system.write(file, filled(1, 10), { position: 4090, bytes: 10 })).toBe(-27);
    expect(system.size(file)).toBe(4096);
  });
});

describe("a mapping", () => {
  test("shows what is written after it was made, at the address that it had", () => {
    const { system, file } = started();
    const address = system.map(file, 65536);
    put(system, file, { position: 990, bytes: filled(7, 5000) });
    const shown: Uint8Array = new Uint8Array(5990);
    copyOut(shown, address);
    expect(shown.subarray(990)).toEqual(filled(7, 5000));
    expect(system.unmap(address, 65536)).toBe(0);
  });

  test("is poison behind the end of the file, wherever the end moves", () => {
    const { system, file } = started();
    const address = system.map(file, 65536);
    for (const bytes of [1000, 5000, 4096, 100, 8192, 8191, 0, 12_000]) {
      system.truncate(file, bytes);
      const behind: Uint8Array = new Uint8Array(4096);
      copyOut(behind, address + bytes);
      expect(behind).toEqual(filled(POISON, 4096));
    }
    expect(system.size(file)).toBe(12_000);
    const into: Uint8Array = new Uint8Array(12_000);
    expect(system.read(file, into, { position: 0, bytes: 12_000 })).toBe(12_000);
    expect(into).toEqual(filled(0, 12_000));
  });

  test("that is private never reaches the file", () => {
    const { machine, system, file } = started();
    const address = system.mapPrivate(file, 1000);
    fillMemory(address, { value: 9, bytes: 1000 });
    expect(machine.visibleBytes(PATH)).toEqual(filled(1, 1000));
    expect(system.unmap(address, 1000)).toBe(0);
    expect(system.held()).toHaveLength(1);
  });
});

test("machines reuse their memory, and none sees what another wrote", () => {
  const { machine, system, file } = started();
  put(system, file, { position: 0, bytes: filled(9, 200_000) });
  const point = machine.capture();
  const round = (): void => {
    const next = Machine.restore(point, { kind: "all" });
    const process = next.boot();
    const handle = process.open("/db/other", "create");
    process.truncate(handle, 300_000);
    expect(next.visibleBytes("/db/other")?.every((byte) => byte === 0)).toBe(true);
    expect(next.visibleBytes(PATH)).toEqual(filled(9, 200_000));
    next.dispose();
  };
  for (let warm = 0; warm < 3; warm += 1) round();
  const mappings = realMappingCount();
  for (let index = 0; index < 50; index += 1) round();
  expect(realMappingCount()).toBe(mappings);
});
