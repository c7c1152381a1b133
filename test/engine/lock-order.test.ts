/**
 * The order of the calls by which the lock is taken, let go of and broken: whatever call of one process others come before,
 * at most one of them has the lock afterwards. Each other one acts between two calls of the first, at every place.
 */

import { describe, expect, test } from "bun:test";
import { EmdbError } from "../../src/errors.ts";
import { LockFile, breakLock } from "../../src/engine/files/lock-file.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { Machine } from "../sim/machine.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { faulty } from "./engine-fixture.ts";
import { openFile, type OpenedEngine } from "./open-engine.ts";

/** Processes that see one disk, and where the database is. */
interface Place extends Disposable {
  readonly path: string;
  boot(): System;
}

function simulated(): Place {
  const machine = new Machine();
  return { path: "/db/store", boot: () => machine.boot(), [Symbol.dispose]: () => machine.dispose() };
}

/** Locks are of open files: one process is as good as several. */
function real(): Place {
  const folder = temporaryFolder();
  return { path: folder.file("store"), boot: hostSystem, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

const SIMULATED = { name: "simulated", open: simulated };
/** Windows lets nobody remove a file that somebody has open. */
const isWindows = process.platform === "win32";
const PLACES = isWindows ? [SIMULATED] : [SIMULATED, { name: "real", open: real }];

/** A call that fails while the log is being made, and one when it is there. */
const FAILURES = ["syncFolder", "reserve"] as const;

/** A system before one of whose calls, counted from 0, somebody else acts. */
class Interruption {
  readonly system: System;
  #left = Number.POSITIVE_INFINITY;
  #act = (): void => undefined;

  constructor(system: System, refuses?: keyof System) {
    this.system = faulty(system, (call) => {
      if (this.#left === 0) this.#act();
      this.#left -= 1;
      return call === refuses ? -Errno.EIO : undefined;
    });
  }

  /** Counts from now on. */
  before(call: number, act: () => void): void {
    this.#left = call;
    this.#act = act;
  }

  /** Whether there were so many calls. */
  get hasCome(): boolean {
    return this.#left < 0;
  }
}

/** Lets `run` be interrupted before each of its calls, one after the other; gives how many there are. */
function atEachCall(open: () => Place, run: (place: Place, call: number) => Interruption): number {
  for (let call = 0; ; call += 1) {
    using place = open();
    if (!run(place, call).hasCome) return call;
  }
}

/** What one got; undefined if the lock is somebody else's. */
function unlessLocked<T>(attempt: () => T): T | undefined {
  try {
    return attempt();
  } catch (error) {
    if (error instanceof EmdbError && error.code === "EMDB_LOCKED") return undefined;
    throw error;
  }
}

function take({ path, boot }: Place, system = boot()): LockFile | undefined {
  return unlessLocked(() => LockFile.take(system, path));
}

/** One of those who took the lock has it, or one who comes now. */
function expectOne(place: Place, taken: readonly (LockFile | undefined)[], call: number): void {
  const held = [...taken, take(place)].filter((lock) => lock !== undefined);
  expect([call, held.map((lock) => lock.isOurs)]).toEqual([call, [true]]);
  for (const lock of held) lock.release(false);
}

describe.each(PLACES)("on files that are $name, one alone has the lock when others come", ({ name, open }) => {
  // No emulator has an engine's memory for the simulation.
  const isWithoutMemory = name === "simulated" && (isWindows || emulator !== undefined);

  test("while a failed open lets go of the lock that it had made", () => {
    const calls = atEachCall(open, (place, call) => {
      const first = new Interruption(place.boot());
      const lock = LockFile.take(first.system, place.path);
      let other: LockFile | undefined;
      first.before(call, () => (other = take(place)));
      lock.release(true);
      expectOne(place, [other], call);
      return first;
    });
    expect(calls).toBeGreaterThan(2);
  });

  test("while somebody removes what a dead holder has left", () => {
    const calls = atEachCall(open, (place, call) => {
      LockFile.take(place.boot(), place.path).release(false);
      const first = new Interruption(place.boot());
      let other: LockFile | undefined;
      first.before(call, () => (other = take(place)));
      unlessLocked(() => breakLock(first.system, place.path, false));
      expectOne(place, [other], call);
      return first;
    });
    expect(calls).toBeGreaterThan(8);
  });

  test.each(["nobody", "somebody"])(
    "while one takes it, who finds it let go of and removed, and %s after it",
    (who) => {
      const calls = atEachCall(open, (place, call) => {
        const before = LockFile.take(place.boot(), place.path);
        const first = new Interruption(place.boot());
        let other: LockFile | undefined;
        first.before(call, () => {
          before.release(true);
          if (who === "somebody") other = take(place);
        });
        const lock = take(place, first.system);
        if (first.hasCome) expectOne(place, [lock, other], call);
        else before.release(false);
        return first;
      });
      expect(calls).toBeGreaterThan(5);
    },
  );

  test.skipIf(isWithoutMemory).each(FAILURES)(
    "while a database is made and its %s fails: none is made beside another's lock",
    (fails) => {
      const calls = atEachCall(open, (place, call) => {
        const first = new Interruption(place.boot(), fails);
        let other: LockFile | undefined;
        first.before(call, () => (other = take(place)));
        expect(() => openFile(first.system, place.path)).toThrow(EmdbError);
        const later = unlessLocked(() => openFile(place.boot(), place.path));
        expect([call, other?.isOurs ?? true, later === undefined]).toEqual([call, true, other !== undefined]);
        later?.leave();
        other?.release(true);
        return first;
      });
      expect(calls).toBeGreaterThan(20);
    },
  );

  test.skipIf(isWithoutMemory).each(FAILURES)(
    "while a database is made and its %s fails: the one that another makes then stays",
    (fails) => {
      const calls = atEachCall(open, (place, call) => {
        const first = new Interruption(place.boot(), fails);
        let other: OpenedEngine | undefined;
        first.before(call, () => (other = unlessLocked(() => openFile(place.boot(), place.path))));
        expect(() => openFile(first.system, place.path)).toThrow(EmdbError);
        const later = unlessLocked(() => openFile(place.boot(), place.path));
        expect([call, later === undefined]).toEqual([call, other !== undefined]);
        const one = (other ?? later)!;
        one.engine.insert(one.engine.defaultSpace, "key", "value", 0);
        one.leave();
        const again = openFile(place.boot(), place.path, { createIfMissing: false });
        expect([call, again.engine.count(again.engine.defaultSpace)]).toEqual([call, 1]);
        again.leave();
        return first;
      });
      expect(calls).toBeGreaterThan(20);
    },
  );
});
