/** What goes wrong on demand in the simulation: errors, failing syncs, full disks, Windows, memory, the clock. */

import { afterEach, describe, expect, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { copy } from "../../src/ffi/memory.ts";
import { Machine } from "./machine.ts";
import { hasStrictMemory } from "./real-memory.ts";
import type { Draw } from "./draw.ts";
import type { Fault } from "./faults.ts";
import type { SyncFailure } from "./inode.ts";
import type { MachineOptions } from "./machine.ts";
import type { SimulatedSystem } from "./system.ts";

const PATH = "/db/file";
const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

function up(
  options: Partial<MachineOptions> = {},
  faults: readonly Fault[] = [],
): { machine: Machine; system: SimulatedSystem } {
  const machine = new Machine(options);
  machines.push(machine);
  return { machine, system: machine.boot({ faults }) };
}

function write(system: SimulatedSystem, file: number, text: string): number {
  const bytes = new TextEncoder().encode(text);
  return system.write(file, bytes, { position: 0, bytes: bytes.length });
}

function textAfter(machine: Machine, draw: Draw): string {
  const next = Machine.restore(machine.capture(), draw);
  machines.push(next);
  return new TextDecoder().decode(next.visibleBytes(PATH));
}

describe("a fault", () => {
  test("comes at its call, once, and that call does nothing", () => {
    const { machine, system } = up({}, [{ atCall: 1, errno: "ENOSPC", repeat: "once" }]);
    const file = system.open(PATH, "create");
    expect(write(system, file, "abc")).toBe(-Errno.ENOSPC);
    expect(machine.visibleBytes(PATH)).toHaveLength(0);
    expect(write(system, file, "abc")).toBe(3);
    expect(system.faults.firedCount).toBe(1);
  });

  test("comes for ever, at calls of its name or at all", () => {
    const same = up({}, [{ atCall: 1, errno: "EIO", repeat: "same" }]).system;
    const file = same.open(PATH, "create");
    expect([write(same, file, "a"), same.size(file), write(same, file, "a"), same.sync(file)]).toEqual([-5, 0, -5, 0]);
    const all = up({}, [{ atCall: 1, errno: "EROFS", repeat: "all" }]).system;
    const other = all.open(PATH, "create");
    expect([write(all, other, "a"), all.size(other), all.sync(other)]).toEqual([-30, -30, -30]);
  });

  test("can leave a part of a write behind, or the whole deed", () => {
    const partial = up({}, [{ atCall: 1, errno: "EIO", repeat: "once", partial: 0.5 }]);
    expect(write(partial.system, partial.system.open(PATH, "create"), "abcdef")).toBe(-Errno.EIO);
    expect(partial.machine.visibleBytes(PATH)).toHaveLength(3);
    const done = up({}, [{ atCall: 0, errno: "EIO", repeat: "once", hasEffect: true }]);
    expect(done.system.open(PATH, "create")).toBe(-Errno.EIO);
    expect(done.machine.visibleBytes(PATH)).toHaveLength(0);
    expect(done.system.held()).toEqual([]);
  });

  test("of a close has closed all the same", () => {
    const { system } = up({}, [{ atCall: 1, errno: "EIO", repeat: "once" }]);
    expect(system.close(system.open(PATH, "create"))).toBe(-Errno.EIO);
    expect(system.held()).toEqual([]);
  });
});

describe("a failing sync", () => {
  function failed(syncFailure: SyncFailure): {
    machine: Machine;
    system: SimulatedSystem;
    file: number;
    result: number;
  } {
    const { machine, system } = up({ syncFailure, seed: 5 }, [{ atCall: 5, errno: "EIO", repeat: "once" }]);
    const file = system.open(PATH, "create");
    system.syncFolder("/db");
    write(system, file, "aaaa");
    system.sync(file);
    write(system, file, "bbbb");
    return { machine, system, file, result: system.sync(file) };
  }

  test("leaves clean pages that the next sync calls durable, and that are not", () => {
    const lost = new Set<string>();
    for (let seed = 0; seed < 20; seed += 1) {
      const { machine, system } = up({ seed }, [{ atCall: 3, errno: "EIO", repeat: "once" }]);
      const file = system.open(PATH, "create");
      system.syncFolder("/db");
      write(system, file, "bbbb");
      expect([system.sync(file), system.sync(file)]).toEqual([-Errno.EIO, 0]);
      expect(new TextDecoder().decode(machine.visibleBytes(PATH))).toBe("bbbb");
      lost.add(textAfter(machine, { kind: "all" }));
      expect(textAfter(machine, { kind: "kill" })).toBe("bbbb");
      expect(machine.hasLostAcknowledged).toBe(false);
    }
    expect([...lost].sort()).toEqual(["\0\0\0\0", "bbbb"]);
  });

  test("can revert the cache to what the disk has", () => {
    const { machine, result } = failed("revert");
    expect(result).toBe(-Errno.EIO);
    expect(new TextDecoder().decode(machine.visibleBytes(PATH))).toBe("aaaa");
  });

  test("can say so one call late", () => {
    const { machine, system, file, result } = failed("late");
    expect([result, system.sync(file), system.sync(file)]).toEqual([0, -Errno.EIO, 0]);
    expect(machine.hasLostAcknowledged).toBe(true);
  });

  test("can take along what was durable before", () => {
    const { machine, result } = failed("takes-acknowledged");
    expect(result).toBe(-Errno.EIO);
    expect(textAfter(machine, { kind: "all" })).toBe("\0\0\0\0");
    expect(machine.hasLostAcknowledged).toBe(true);
  });

  test("that only a later handle's sync covers counts as lost by the disk", () => {
    const { machine, system } = failed("clean");
    expect(machine.hasLostAcknowledged).toBe(false);
    system.sync(system.open(PATH, "write"));
    expect(machine.hasLostAcknowledged).toBe(true);
  });
});

describe("a full disk", () => {
  test("takes what fits, fails, and takes no more until something is given back", () => {
    const { machine, system } = up({ spaceBytesMax: 10 });
    const file = system.open(PATH, "create");
    expect(write(system, file, "0123456789ab")).toBe(-Errno.ENOSPC);
    expect(machine.visibleBytes(PATH)).toHaveLength(10);
    const other = system.open("/db/other", "create");
    expect(write(system, other, "x")).toBe(-Errno.ENOSPC);
    expect(system.truncate(file, 5)).toBe(0);
    expect(write(system, other, "x")).toBe(1);
  });

  test("does not refuse a write into allocated space, and refuses an allocation that does not fit", () => {
    const { system } = up({ spaceBytesMax: 10 });
    const file = system.open(PATH, "create");
    expect(system.allocate(file, 11)).toBe(-Errno.ENOSPC);
    expect(system.allocate(file, 8)).toBe(0);
    expect(write(system, system.open("/db/other", "create"), "xyz")).toBe(-Errno.ENOSPC);
    expect(write(system, file, "01234567")).toBe(8);
  });

  test("gets the space of a removed file back when nobody has it open", () => {
    const { system } = up({ spaceBytesMax: 4 });
    const file = system.open(PATH, "create");
    write(system, file, "abcd");
    system.unlink(PATH);
    const other = system.open("/db/other", "create");
    expect(write(system, other, "x")).toBe(-Errno.ENOSPC);
    system.close(file);
    expect(write(system, other, "x")).toBe(1);
  });
});

describe("in Windows mode", () => {
  test("a mapped file is not replaced, removed or cut, and no mapping reaches past the end", () => {
    const { system } = up({ isWindows: true });
    const file = system.open(PATH, "create");
    write(system, file, "abcd");
    expect(system.canMapPastEnd).toBe(false);
    expect(system.map(file, 5)).toBe(-Errno.EINVAL);
    const address = system.map(file, 4);
    system.close(system.open("/db/new", "create"));
    expect(system.rename("/db/new", PATH)).toBe(-Errno.EBUSY);
    expect(system.unlink(PATH)).toBe(-Errno.EBUSY);
    expect(system.truncate(file, 1)).toBe(-Errno.EBUSY);
    expect(system.unmap(address, 4)).toBe(0);
    expect(system.rename("/db/new", PATH)).toBe(0);
  });

  test("what was removed is empty once nobody has it open, mapped or not", () => {
    for (const keepsOpenNames of [false, true]) {
      const { machine, system } = up({ isWindows: true, keepsOpenNames });
      const files = [system.open(PATH, "create"), system.open(PATH, "read")];
      write(system, files[0]!, "abcd");
      system.unlink(PATH);
      const address = system.map(files[0]!, 4);
      const mapped = (): string => {
        const bytes = new Uint8Array(4);
        copy(bytes, address, 4);
        return Buffer.from(bytes).toString();
      };
      system.close(files[0]!);
      expect(mapped()).toBe("abcd");
      system.close(files[1]!);
      expect(mapped()).not.toBe("abcd");
      expect([system.unmap(address, 4), system.status(PATH)]).toEqual([0, -Errno.ENOENT]);
      machine.dispose();
    }
  });

  test("names are durable at once", () => {
    const { machine, system } = up({ isWindows: true });
    system.close(system.open(PATH, "create"));
    expect(machine.durableBytes(PATH)).toHaveLength(0);
  });
});

describe("a process", () => {
  test("has its clock, chance and threads under control", () => {
    const { machine, system } = up({ nowMs: 1000 });
    machine.advance(-400);
    expect(system.now()).toBe(600);
    machine.setNow(9);
    expect(system.now()).toBe(9);
    expect(system.monotonic()).toBeLessThan(system.monotonic());
    system.liveThreads.add(7);
    expect([system.isThreadAlive(1), system.isThreadAlive(7), system.isThreadAlive(8)]).toEqual([true, true, false]);
    const [a, b] = [new Uint8Array(16), new Uint8Array(16)];
    system.random(a);
    new Machine({ nowMs: 1000 }).boot().random(b);
    expect(a).toEqual(b);
  });

  test("sees other chance after a crash than before it", () => {
    const { machine, system } = up();
    const [a, b] = [new Uint8Array(16), new Uint8Array(16)];
    system.random(a);
    Machine.restore(machine.capture(), { kind: "none" }).boot().random(b);
    expect(a).not.toEqual(b);
  });

  test("has a lock until its handle is closed", () => {
    const { machine, system } = up();
    const file = system.open(PATH, "create");
    const other = machine.boot({ processId: 2 });
    const theirs = other.open(PATH, "write");
    expect([system.lock(file), system.lock(file), other.lock(theirs)]).toEqual([0, 0, -Errno.EWOULDBLOCK]);
    system.close(file);
    expect(other.lock(theirs)).toBe(0);
    expect([other.unlock(theirs), other.processId()]).toEqual([0, 2]);
  });

  test("is told what no correct caller does", () => {
    const { system } = up();
    const file = system.open(PATH, "create");
    system.close(file);
    expect(system.read(file, new Uint8Array(1), { position: 0, bytes: 1 })).toBe(-Errno.EBADF);
    expect(system.unmap(4096, 4096)).toBe(-Errno.EINVAL);
    expect(system.release(4096, 4096)).toBe(-Errno.EINVAL);
    expect(system.misuses).toHaveLength(3);
  });

  test("has a trace of numbered calls", () => {
    const { system } = up();
    const file = system.open(PATH, "create");
    write(system, file, "abc");
    expect(system.trace.lines()).toEqual([`0 open ${PATH} create = ${file}`, `1 write ${file} 0+3 = 3`]);
    expect(system.callCount).toBe(2);
  });

  test("gets zeroed memory, and what it does not release is held", () => {
    const { system } = up();
    const address = system.reserve(65536);
    expect(system.commit(address, 8192)).toBe(0);
    expect(system.commit(address + 1, 4096)).toBe(-Errno.EINVAL);
    expect(system.held()).toEqual(["1 reservations of memory"]);
    expect(system.decommit(address, 4096)).toBe(0);
    expect(system.release(address, 65536)).toBe(0);
    expect(system.held()).toEqual([]);
  });
});

describe("strict memory", () => {
  const script = (touch: string): string => `
    import { Machine } from "${import.meta.dir}/machine.ts";
    import { copyOut } from "${import.meta.dir}/real-memory.ts";
    const system = new Machine({ memory: "strict" }).boot();
    const file = system.open("${PATH}", "create");
    system.write(file, new Uint8Array(5000).fill(1), { position: 0, bytes: 5000 });
    const address = system.map(file, 65536);
    const reserved = system.reserve(65536);
    const into = new Uint8Array(100);
    copyOut(into, address + 4900);
    if (into[99] !== 1) process.exit(3);
    ${touch};
    process.exit(42);`;
  const end = (touch: string): number | string => {
    const { exitCode, signalCode } = Bun.spawnSync([process.execPath, "-e", script(touch)]);
    return signalCode ?? exitCode;
  };

  test.skipIf(!hasStrictMemory)("lets a process read what is mapped and written", () => {
    expect(end("system.unmap(address, 65536)")).toBe(42);
  });

  test.skipIf(!hasStrictMemory).each([
    ["behind the page of the file's end", "copyOut(into, address + 8192)"],
    ["a mapping that was undone", "system.unmap(address, 65536); copyOut(into, address)"],
    ["a part of the file that was cut off", "system.truncate(file, 100); copyOut(into, address + 4096)"],
    ["memory that is only reserved", "copyOut(into, reserved)"],
  ])("kills a process that reads %s", (_, touch) => {
    expect(["SIGSEGV", "SIGBUS", "SIGTRAP", "SIGILL", "SIGABRT"]).toContain(String(end(touch)));
  });
});
