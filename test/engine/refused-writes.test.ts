/**
 * A write that writes through is refused, and may be in the file all the same, with its end: what it was told and what a flush
 * says behind it agree with what is there after a loss of power.
 */

import { afterEach, describe, expect, test } from "bun:test";
import { SWAP, SWAP_INSTALLS, SWAP_NONE } from "../../src/engine/threads/control.ts";
import { EmdbError } from "../../src/index.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { Machine } from "../sim/machine.ts";
import type { Draw } from "../sim/draw.ts";
import type { SimulatedSystem } from "../sim/system.ts";
import { openFile, type Config, type OpenedEngine } from "./open-engine.ts";

const PATH = "/db/store";
const WRITE_THROUGH = { flushPlan: { kind: "write-through" } } as const;
const KEY = new Uint8Array(32).fill(5);
const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

function openOn(changes: Partial<Config> = {}): {
  readonly machine: Machine;
  readonly system: SimulatedSystem;
  readonly opened: OpenedEngine;
} {
  const machine = new Machine();
  machines.push(machine);
  const system = machine.boot();
  return { machine, system, opened: openFile(system, PATH, { ...WRITE_THROUGH, ...changes }) };
}

/** From here on writes are refused; those before `arriving` is over arrive all the same. */
function fillUp(system: SimulatedSystem, arriving: number): { heal(): void } {
  const real = system.write.bind(system);
  let left = arriving;
  system.write = (...args) => {
    if (left-- > 0) real(...args);
    return -Errno.ENOSPC;
  };
  return { heal: () => void (system.write = real) };
}

const codeOf = (error: unknown): string => (error instanceof EmdbError ? error.code : String(error));

function told(body: () => void): string {
  try {
    body();
    return "done";
  } catch (error) {
    return codeOf(error);
  }
}

/** What is there after a crash, whatever of the page cache has reached the disk. */
function afterCrash(machine: Machine, draw: Draw["kind"], changes: Partial<Config>): string {
  const next = Machine.restore(machine.capture(), { kind: draw } as Draw);
  machines.push(next);
  const { engine } = openFile(next.boot(), PATH, { ...WRITE_THROUGH, ...changes });
  return [...engine.snapshot(engine.defaultSpace)]
    .map(({ key }) => Buffer.from(key).toString())
    .sort()
    .join();
}

const WRITES: Readonly<Record<string, (opened: OpenedEngine) => void>> = {
  "one record": ({ engine }) => engine.insert(engine.defaultSpace, "refused", "x", 0),
  "a batch": ({ engine }) => engine.insertMany(engine.defaultSpace, ["refused", "also"], ["x", "y"], 0),
  "a batch of which some was written before": ({ engine }) => {
    const value = new Uint8Array(400_000).fill(1);
    const keys = Array.from({ length: 12 }, (_, index) => `refused ${index}`);
    engine.insertMany(
      engine.defaultSpace,
      keys,
      keys.map(() => value),
      0,
    );
  },
};

describe.each(Object.keys(WRITES))("%s that arrives and is refused", (name) => {
  describe.each([
    ["plain", {}],
    ["encrypted", { encryption: { key: KEY } }],
  ] as const)("%s", (_, changes) => {
    test.each(["none", "all", "kill"] as const)("is not there once a flush has succeeded (%s)", async (draw) => {
      for (let arriving = 1; arriving <= 4; arriving++) {
        const { machine, system, opened } = openOn(changes);
        const { engine } = opened;
        const expectKept = (more = ""): void => expect(afterCrash(machine, draw, changes)).toBe(`kept${more}`);
        engine.insert(engine.defaultSpace, "kept", "x", 0);
        const disk = fillUp(system, arriving);
        expect(told(() => WRITES[name]!(opened))).toBe("EMDB_FULL");
        expect(engine.count(engine.defaultSpace)).toBe(1);
        if ((await opened.commit!.flush().then(() => "done", codeOf)) === "done") expectKept();
        if (told(() => opened.sync!.flush()) === "done") expectKept();
        disk.heal();
        await opened.commit!.flush();
        expectKept();
        engine.insert(engine.defaultSpace, "later", "x", 0);
        opened.sync!.flush();
        expectKept(",later");
      }
    });
  });
});

test("a flush beside a disk that is full and has taken nothing resolves", async () => {
  const { machine, system, opened } = openOn();
  const { engine } = opened;
  engine.insert(engine.defaultSpace, "kept", "x", 0);
  fillUp(system, 0);
  expect(told(() => engine.insert(engine.defaultSpace, "refused", "x", 0))).toBe("EMDB_FULL");
  opened.sync!.flush();
  await opened.commit!.flush();
  expect(afterCrash(machine, "all", {})).toBe("kept");
});

test("a flush does not succeed while what was refused can be neither read nor taken out of the file", () => {
  const { machine, system, opened } = openOn();
  const { engine, sync } = opened;
  engine.insert(engine.defaultSpace, "kept", "x", 0);
  const disk = fillUp(system, 1);
  const read = system.read.bind(system);
  system.read = () => -Errno.EIO;
  expect(told(() => engine.insert(engine.defaultSpace, "refused", "x", 0))).toBe("EMDB_FULL");
  expect(told(() => sync!.flush())).toBe("EMDB_FULL");
  expect(afterCrash(machine, "all", {})).toBe("kept,refused");
  disk.heal();
  system.read = read;
  sync!.flush();
  expect(afterCrash(machine, "all", {})).toBe("kept");
});

test("whoever was robbed of the lock meanwhile takes nothing out of the file, which may be the robber's", () => {
  const { system, opened } = openOn();
  const { engine } = opened;
  engine.insert(engine.defaultSpace, "kept", "x", 0);
  const disk = fillUp(system, 1);
  expect(told(() => engine.insert(engine.defaultSpace, "refused", "x", 0))).toBe("EMDB_FULL");
  disk.heal();
  const [status, write] = [system.status.bind(system), system.write.bind(system)];
  let writes = 0;
  system.status = (path) => (path.endsWith(".lock") ? -Errno.ENOENT : status(path));
  system.write = (...args) => ((writes += 1), write(...args));
  expect([told(() => opened.sync!.flush()), writes]).toEqual(["EMDB_LOCKED", 0]);
  system.kill();
});

test("a flush takes nothing out of the file while a swap is not ended, and all of it behind that", () => {
  const { system, opened } = openOn();
  const { engine, sync } = opened;
  const disk = fillUp(system, 1);
  expect(told(() => engine.insert(engine.defaultSpace, "refused", "x", 0))).toBe("EMDB_FULL");
  disk.heal();
  const real = system.write.bind(system);
  let writes = 0;
  system.write = (...args) => ((writes += 1), real(...args));
  // Its base may be the new file's by then, and the file the one before.
  Atomics.store(engine.core.control.flags, SWAP, SWAP_INSTALLS);
  sync!.flush();
  expect([writes, engine.core.tail.holdsRefused]).toEqual([0, true]);
  Atomics.store(engine.core.control.flags, SWAP, SWAP_NONE);
  sync!.flush();
  expect([writes, engine.core.tail.holdsRefused]).toEqual([1, false]);
});

describe("where writing through is a sync by itself", () => {
  function openLacking(): ReturnType<typeof openOn> {
    const machine = new Machine();
    machines.push(machine);
    const system = Object.assign(machine.boot(), { lacksWriteThrough: true });
    const open = system.open.bind(system);
    system.open = (path, mode) => open(path, mode === "write-through" ? "write" : mode);
    return { machine, system, opened: openFile(system, PATH, WRITE_THROUGH) };
  }

  test("what is made no record any more is that on the disk too before a flush succeeds", () => {
    const { machine, system, opened } = openLacking();
    const { engine } = opened;
    engine.insert(engine.defaultSpace, "kept", "x", 0);
    const disk = fillUp(system, 1);
    expect(told(() => WRITES["one record"]!(opened))).toBe("EMDB_FULL");
    // The system writes by itself what it has had for long.
    machine.syncInode(machine.inodeAt(PATH)!, engine.core.file!.handle);
    expect(afterCrash(machine, "none", {})).toBe("kept,refused");
    disk.heal();
    opened.sync!.flush();
    expect(afterCrash(machine, "none", {})).toBe("kept");
  });

  test("one that fails for want of room is final like any other", () => {
    const { system, opened } = openLacking();
    const { engine } = opened;
    engine.insert(engine.defaultSpace, "kept", "x", 0);
    const real = system.sync.bind(system);
    system.sync = () => -Errno.ENOSPC;
    expect(told(() => WRITES["one record"]!(opened))).toBe("EMDB_IO");
    system.sync = real;
    expect(told(() => opened.sync!.flush())).toBe("EMDB_POISONED");
    expect(told(() => engine.insert(engine.defaultSpace, "later", "x", 0))).toBe("EMDB_POISONED");
  });
});
