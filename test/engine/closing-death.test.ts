/**
 * The last thread out dies at a system call of its close: whoever attaches behind it reads everything, and lets go of what
 * that one had not come to, so that the database opens again.
 */

import { expect, test } from "bun:test";
import type { Environment, Opened } from "../../src/engine/assemble.ts";
import type { SharedBase } from "../../src/engine/threads/base.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import type { System } from "../../src/ffi/system.ts";
import { Machine, type MachineOptions } from "../sim/machine.ts";
import { faulty } from "./engine-fixture.ts";
import { openFile, type Config } from "./open-engine.ts";

const PATH = "/db/store";
const [CLOSER, FOLLOWER] = [1, 2];
/** What may be lost: the one thing that the dead one was letting go of. */
const LOST_MAX = 1;

class Death extends Error {}

/** A thread that may die before one of its calls, counted from 0. What it does to shared memory from then on is taken back. */
class Mortal {
  readonly system: System;
  calls = -Infinity;
  diesAt = Infinity;
  shared: Uint8Array | undefined;
  #kept: Uint8Array | undefined;

  constructor(system: System) {
    this.system = faulty(system, (call) => {
      if (call === "isThreadAlive") return undefined;
      if (this.#kept === undefined && this.calls++ === this.diesAt) this.#kept = this.shared!.slice();
      if (this.#kept !== undefined) throw new Death();
      return undefined;
    });
  }

  get hasDied(): boolean {
    return this.#kept !== undefined;
  }

  leave(opened: Opened, diesAt: number): void {
    this.calls = 0;
    this.diesAt = diesAt;
    this.shared = new Uint8Array(opened.base.buffer);
    try {
      opened.leave();
    } catch (error) {
      if (!this.hasDied) throw error;
    }
    if (this.#kept !== undefined) this.shared.set(this.#kept);
  }
}

function follower(system: System, dead: Mortal, canMap = true): Environment {
  const own = faulty(system, (call, args) => {
    if (call === "map" && !canMap) return -Errno.ENOMEM;
    if (call === "threadId") return FOLLOWER;
    if (call === "isThreadAlive") return Number(args[0] !== CLOSER || !dead.hasDied);
    return undefined;
  });
  return { system: own, defer: () => undefined, hasWorkers: false };
}

function readAll(opened: Opened): string {
  const { engine } = opened;
  return [...engine.snapshot(engine.defaultSpace)].map(({ key }) => Buffer.from(key).toString()).join();
}

/** What a thread sees that comes after the death, and lets go of everything. */
function follow(environment: Environment, base: SharedBase): string {
  try {
    const opened = attachTo(environment, base);
    const seen = readAll(opened);
    opened.leave();
    return seen;
  } catch (error) {
    if (error instanceof EmdbError) return error.code;
    throw error;
  }
}

/** What the next open shows. */
function reopened(system: System, config: Partial<Config>): string {
  try {
    const again = openFile(system, PATH, config);
    const seen = readAll(again);
    again.leave();
    return seen;
  } catch (error) {
    if (error instanceof EmdbError) return error.code;
    throw error;
  }
}

const WAYS: readonly (readonly [string, Partial<MachineOptions>, Partial<Config>])[] = [
  ["plain", {}, {}],
  ["encrypted", {}, { encryption: { key: new Uint8Array(32).fill(7) } }],
  ["on Windows", { isWindows: true }, {}],
  ["that writes through", {}, { flushPlan: { kind: "write-through" } }],
];

test.each(WAYS)("a death at any call of the last close of a database %s is made good", (_, options, config) => {
  let [followed, locked] = [0, 0];
  for (let diesAt = 0; ; diesAt += 1) {
    const machine = new Machine(options);
    const system = machine.boot();
    const mortal = new Mortal(system);
    const opened = openFile(mortal.system, PATH, config);
    opened.engine.core.becomeShared();
    const { engine } = opened;
    engine.insert(engine.defaultSpace, "key", "value", 0);
    mortal.leave(opened, diesAt);
    if (!mortal.hasDied) break;
    // One that finds no address space is refused, and counts as nobody.
    const first = follow(follower(system, mortal, false), opened.base);
    const seen = first === "EMDB_IO" ? follow(follower(system, mortal), opened.base) : first;
    expect([diesAt, seen]).toEqual([diesAt, seen === "key" ? "key" : "EMDB_CLOSED"]);
    if (seen === "key") followed += 1;
    const held = system.held();
    expect([diesAt, held.length <= LOST_MAX, held]).toEqual([diesAt, true, held]);
    expect([diesAt, system.misuses]).toEqual([diesAt, []]);
    const again = reopened(system, config);
    if (again === "EMDB_LOCKED") locked += 1;
    else expect([diesAt, again]).toEqual([diesAt, "key"]);
    system.kill();
    machine.dispose();
  }
  expect(followed).toBeGreaterThan(5);
  // Right before the lock is let go of, which is the last thing.
  expect(locked).toBeLessThanOrEqual(1);
});
