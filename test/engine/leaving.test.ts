/**
 * Two threads close at one moment: one has decided that it is not the last, and is held up there while the other ends the
 * log, unmaps and closes everything. What the first one did through a handle after that would meet another file.
 */

import { expect, test } from "bun:test";
import type { EmdbError } from "../../src/errors.ts";
import type { Environment, Opened } from "../../src/engine/assemble.ts";
import {
  CLOSING,
  CLOSING_DONE,
  SNAPSHOTS,
  SNAPSHOT_ROWS,
  STATE,
  STATE_POISONED,
} from "../../src/engine/threads/control.ts";
import { attachTo, openFile } from "../../src/engine/open/open.ts";
import { isAnotherStaying } from "../../src/engine/threads/rows.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { faulty } from "./engine-fixture.ts";
import { GROUP } from "./flush-subject.ts";
import { CONFIG, openFile as reopen, type Config } from "./open-engine.ts";
import { turn } from "../support/turns.ts";

/** What asks nothing of the database's files and memory. */
const HARMLESS = new Set(["now", "monotonic", "threadId", "isThreadAlive", "processId"]);
/** Longer than any piece of long work goes on without a pause. */
const TICK_MS = 1000;
const RECORDS = 400;

/** A thread with a system, a clock and an event loop of its own, as far as an engine can tell. */
class Party {
  /** What it has asked of the system. */
  readonly calls: string[] = [];
  readonly #work = new Set<() => void>();
  #ms = 0;

  get environment(): Environment {
    const later = (work: () => void): (() => void) => {
      this.#work.add(work);
      return () => void this.#work.delete(work);
    };
    const system = faulty(hostSystem(), (call) => {
      if (!HARMLESS.has(call)) this.calls.push(call);
      return call === "monotonic" ? (this.#ms += TICK_MS) : undefined;
    });
    return { system, defer: later, later, hasWorkers: false };
  }

  /** Runs what was put off, and what follows from it. */
  async turn(): Promise<void> {
    const all = [...this.#work];
    this.#work.clear();
    for (const work of all) work();
    await turn();
  }
}

/** Lets `other` leave at the moment at which `first` has decided how it leaves, and calls `onLeft` then. */
function leaveAmid(first: Opened, other: Opened, onLeft: () => void): void {
  const { mutex, control } = first.engine.core;
  const unlock = mutex.unlock.bind(mutex);
  let isDecided = false;
  mutex.unlock = () => {
    unlock();
    if (isDecided || mutex.isHeld || isAnotherStaying(control, other.engine.core.row)) return;
    isDecided = true;
    try {
      other.leave();
    } catch (error) {
      expect(error).toEqual(expect.objectContaining({ code: "EMDB_POISONED" }));
    }
    onLeft();
  };
  first.leave();
}

type Role = "opened" | "attached";

/** A database in two threads, of which the one with a role leaves first and is held up. */
class Pair implements Disposable {
  readonly #folder = temporaryFolder();
  readonly party = new Party();
  readonly path = this.#folder.file("data.emdb");
  readonly first: Opened;
  readonly #other: Opened;

  constructor(role: Role, config: Partial<Config> = {}) {
    const [own, others] = [this.party.environment, new Party().environment];
    const how = { path: this.path, createFolders: false, config: { ...CONFIG, ...config } };
    const opened = openFile(role === "opened" ? own : others, how);
    opened.engine.core.becomeShared();
    const attached = attachTo(role === "opened" ? others : own, opened.base);
    [this.first, this.#other] = role === "opened" ? [opened, attached] : [attached, opened];
    const { engine } = this.first;
    for (let index = 0; index < RECORDS; index++) engine.insert(engine.defaultSpace, `key ${index}`, "value", 0);
  }

  /** The first one leaves; returns what it has asked of the system since the other one was done, also in its next turns. */
  async leave(): Promise<readonly string[]> {
    this.leaveNow();
    for (let turns = 0; turns < 3; turns += 1) await this.party.turn();
    return this.party.calls;
  }

  leaveNow(): void {
    const { calls } = this.party;
    leaveAmid(this.first, this.#other, () => (calls.length = 0));
    expect(Atomics.load(this.first.engine.core.control.flags, CLOSING)).toBe(CLOSING_DONE);
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

const encryption = { key: new Uint8Array(32).fill(7) };
const WAYS: readonly (readonly [string, Partial<Config>])[] = [
  ["flushes that each sync", {}],
  ["flushes in groups", GROUP],
  ["write-through", { flushPlan: { kind: "write-through" } }],
  ["ranges", { rangeScans: true }],
  ["encryption", { encryption }],
  ["encryption and ranges", { encryption, rangeScans: true }],
  ["a sweep and compactions by itself", { sweepIntervalMs: 1000, autoCompact: { ratio: 0.1, bytesMin: 1 } }],
];

test.each(WAYS)(
  "who is not the last one out asks nothing of the system once that is decided: with %s",
  async (_, config) => {
    for (const role of ["opened", "attached"] as const) {
      using pair = new Pair(role, config);
      const { engine } = pair.first;
      const walk = engine.snapshot(engine.defaultSpace)[Symbol.iterator]();
      expect(walk.next().done).toBe(false);
      const flush = pair.first.commit!.flush();
      expect(await pair.leave()).toEqual([]);
      await flush;
      // It gives what it has read already.
      expect([...walk].length).toBeLessThan(RECORDS - 1);
      expect(pair.party.calls).toEqual([]);
      const again = reopen(hostSystem(), pair.path, config);
      expect([again.base.cleanEnd > 0, again.base.recovery.tornBytes]).toEqual([true, 0]);
      again.leave();
    }
  },
);

const WORKS: readonly (readonly [string, (opened: Opened, target: string) => Promise<unknown>])[] = [
  ["checkpoint", (opened) => opened.checkpoint!.run()],
  ["compaction", (opened) => opened.compaction.run({})],
  ["backup", (opened, target) => opened.backup.run(target, {})],
  ["verify", (opened) => verifyDatabase(opened, {})],
];

test.each(WORKS)(
  "a %s that a close ends, at any of its pauses, has nothing left to give back behind that",
  async (_, begin) => {
    let turns = 0;
    for (let outcome: unknown = "EMDB_CLOSED"; outcome === "EMDB_CLOSED"; turns += 1) {
      using pair = new Pair("attached", { rangeScans: true });
      const ended = begin(pair.first, `${pair.path}-copy`).then(
        () => "done",
        (error: unknown) => (error as EmdbError).code,
      );
      for (let index = 0; index < turns; index += 1) await pair.party.turn();
      expect(await pair.leave()).toEqual([]);
      outcome = await ended;
    }
    expect(turns).toBeGreaterThan(3);
  },
);

test("who is not the last one out hears of a sync that failed, and nothing of the close of the last one", () => {
  for (const isPoisoned of [false, true]) {
    using pair = new Pair("attached");
    if (isPoisoned) Atomics.or(pair.first.engine.core.control.flags, STATE, STATE_POISONED);
    const leave = (): void => pair.leaveNow();
    if (isPoisoned) expect(leave).toThrow(expect.objectContaining({ code: "EMDB_POISONED" }));
    else leave();
  }
});

test("getMany of a thread that has left is refused, and lets go of no moment of who has its row now", () => {
  using folder = temporaryFolder();
  const { environment } = new Party();
  const opened = openFile(environment, { path: folder.file("data.emdb"), createFolders: false, config: CONFIG });
  opened.engine.core.becomeShared();
  const left = attachTo(environment, opened.base);
  left.leave();
  const next = attachTo(environment, opened.base);
  const { core } = next.engine;
  expect(core.row).toBe(left.engine.core.row);
  const walk = next.engine.snapshot(next.engine.defaultSpace);
  const words = (): number[] => [core.control.numbers[SNAPSHOT_ROWS + core.row]!, core.control.flags[SNAPSHOTS]!];
  const before = words();
  expect(() => left.engine.getMany(left.engine.defaultSpace, ["key"])).toThrow("the database is closed");
  expect([before[1], words()]).toEqual([1, before]);
  walk.return();
  next.leave();
  opened.leave();
});

test("a getMany whose keys close the database as they are read is refused", () => {
  const db = Emdb.openInMemory();
  db.share();
  function* keys(): Generator<string> {
    yield "key";
    db.closeSync();
  }
  expect(() => db.getMany(keys())).toThrow("the database handle is closed");
});
