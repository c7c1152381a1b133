/** What views, streams, closed databases and those in memory hold on to, and what not. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { openMemory } from "../../src/engine/open/open.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb, EmdbError } from "../../src/index.ts";
import type { Codec } from "../../src/api/types.ts";
import { held } from "../support/memory.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { faulty } from "./engine-fixture.ts";
import { CONFIG } from "./open-engine.ts";
import { turn } from "../support/turns.ts";

setDefaultTimeout(60_000);
const MIB = 1024 * 1024;

// The first one: arrays that earlier databases have left, and only the stack still names, go at any time.
test("what an open database holds is seen", () => {
  using first = Emdb.openInMemory();
  const before = held().arrays;
  const others = Array.from({ length: 4 }, () => Emdb.openInMemory());
  expect(held().arrays - before).toBeGreaterThan(4 * 3);
  expect([first, ...others].every(({ isOpen }) => isOpen)).toBe(true);
  for (const other of others) other.closeSync();
});

test("a view of a value far into the file maps its own pages", () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"));
  for (let index = 0; index < 16; index++) db.insert(`before ${index}`, new Uint8Array(MIB));
  db.insert("long", new Uint8Array(MIB).fill(3));
  db.flushSync();
  let view = db.getZeroCopy("long");
  expect([view?.length, view?.at(-1)]).toEqual([MIB, 3]);
  // Of 64 KiB, the largest that a system has.
  expect(view!.buffer.byteLength).toBeLessThanOrEqual(MIB + 2 * 65_536);
  view = undefined;
  for (let round = 0; round < 5; round++) Bun.gc(true);
});

test("a database in memory opens no file, whatever is done with it", () => {
  const system = faulty(hostSystem(), (call) => {
    if (call === "open") throw new Error("a file is opened");
    return undefined;
  });
  const opened = openMemory({ system, defer: () => undefined, hasWorkers: false }, { ...CONFIG, rangeScans: true });
  const { engine } = opened;
  for (let index = 0; index < 5000; index++) engine.insert(engine.defaultSpace, `key ${index}`, "value", 0);
  for (let index = 0; index < 5000; index += 2) engine.remove(engine.defaultSpace, `key ${index}`);
  opened.compaction.runSync();
  engine.clear(engine.defaultSpace);
  opened.compaction.runSync();
  expect(engine.count(engine.defaultSpace)).toBe(0);
  opened.leave();
});

test("a database in memory for which there is no memory at any one call holds nothing", () => {
  const config = { ...CONFIG, encryption: { key: new Uint8Array(32).fill(7) }, rangeScans: true };
  let refusals = 0;
  for (let at = 0; ; at++) {
    const reserved = new Map<unknown, unknown>();
    let calls = 0;
    const known = hostSystem();
    const system = faulty(known, (call, args) => {
      if (call !== "reserve" && call !== "commit" && call !== "release") return undefined;
      if (call !== "release" && calls++ === at) return -Errno.ENOMEM;
      if (call === "release") reserved.delete(args[0]);
      if (call !== "reserve") return undefined;
      const address = known.reserve(args[0] as number);
      reserved.set(address, args[0]);
      return address;
    });
    try {
      openMemory({ system, defer: () => undefined, hasWorkers: false }, config).leave();
    } catch (error) {
      expect(error).toBeInstanceOf(EmdbError);
      refusals += 1;
    }
    expect([at, ...reserved.values()]).toEqual([at]);
    if (calls <= at) break;
  }
  expect(refusals).toBeGreaterThan(0);
});

/** Files of a folder that this process has open though they have no name any more. */
function nameless(folder: string): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith(folder) && target.endsWith("(deleted)");
    } catch {
      return false;
    }
  }).length;
}

test("a stream decodes what was asked for, and holds nothing once it was cancelled", async () => {
  using folder = temporaryFolder();
  await using db = Emdb.open(folder.file("data.emdb"));
  let decoded = 0;
  const counting: Codec<string> = {
    encode: (value) => new TextEncoder().encode(value),
    decode: (bytes) => {
      decoded += 1;
      return new TextDecoder().decode(bytes);
    },
  };
  const space = db.namespace("typed", { value: counting });
  for (let index = 0; index < 500; index++) space.insert(`key ${index}`, `value ${index}`);
  const reader = space.stream().getReader();
  await turn();
  expect(decoded).toBe(0);
  expect((await reader.read()).done).toBe(false);
  await turn();
  expect(decoded).toBe(1);
  await db.compact();
  if (process.platform === "linux") expect(nameless(folder.path)).toBe(1);
  await reader.cancel();
  await db.compact();
  await turn();
  if (process.platform === "linux") expect(nameless(folder.path)).toBe(0);
});

const AUTO = { autoCompact: { ratio: 0.1, minBytes: 1 } };

const WAYS = [
  ["memory", {}],
  ["memory", { rangeScans: true }],
  ["memory", AUTO],
  ["memory", { defaultTtlMs: 1000, sweepIntervalMs: 1000 }],
  ["file", {}],
  ["file", { rangeScans: true }],
  ["file", { encryption: { key: new Uint8Array(32).fill(7) } }],
  ["file", AUTO],
  ["file", { defaultTtlMs: 1000, sweepIntervalMs: 1000 }],
] as const;
/** Lives at first, by which the stack has come to name what it will, and those that are counted. */
const FEW = emulator === undefined ? 10 : 5;
const MANY = emulator === undefined ? 50 : 20;

/** What so many lives of a database leave behind, with no turn of the event loop. */
function leftBy(life: () => unknown): ReturnType<typeof held> {
  const lives = (count: number): ReturnType<typeof held> => {
    for (let index = 0; index < count; index++) life();
    return held();
  };
  const before = lives(FEW);
  const after = lives(MANY);
  return { bytes: after.bytes - before.bytes, arrays: after.arrays - before.arrays };
}

test.each(WAYS)("what was closed before the event loop turns is let go of: in %s, %p", (place, options) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const kept: unknown[] = [];
  const life = (isShared: boolean): readonly unknown[] => {
    const db = place === "file" ? Emdb.open(path, options) : Emdb.openInMemory(options);
    const space = db.namespace("space");
    if (isShared) Emdb.attach(db.share()).closeSync();
    db.insert("key", "value");
    space.insert("key", "value");
    db.closeSync();
    return [db, space];
  };
  const expectNothing = ({ bytes, arrays }: ReturnType<typeof held>): void => {
    // The stack may still name the last ones. With the ordered index one that is open has 1.7 MB.
    expect(arrays).toBeLessThan(4 * MANY);
    expect(bytes).toBeLessThan((MANY / 5) * MIB);
  };
  expectNothing(leftBy(() => life(false)));
  expectNothing(leftBy(() => life(true)));
  // Nor by a handle that is kept.
  expectNothing(leftBy(() => kept.push(life(false))));
  expect(kept.length).toBeGreaterThan(MANY);
});
