/** A walk shows the moment it began, whatever is written under it, and lets go of what it held. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { ATTACHED_MAX } from "../../src/limits.ts";
import type { Opened } from "../../src/engine/assemble.ts";
import { GRAVES, SNAPSHOTS, SNAPSHOT_ROWS } from "../../src/engine/threads/control.ts";
import { attachTo, openMemory } from "../../src/engine/open/open.ts";
import { ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Random } from "../sim/random.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import { expectCode, stateOf } from "./fixture.ts";
import { CONFIG } from "./open-engine.ts";
import { turn } from "../support/turns.ts";

setDefaultTimeout(120_000);
const SCALE = emulator === undefined ? 1 : 0.1;

const numbered = (count: number, value: string): [string, string][] =>
  Array.from({ length: count }, (_, index): [string, string] => [`key ${index}`, value]);

/** What a walk yields from here on, as a Map. */
function rest(walk: Iterable<[Uint8Array, Uint8Array]>): Map<string, string> {
  const decoder = new TextDecoder();
  const seen = new Map<string, string>();
  for (const [key, value] of walk) {
    const name = decoder.decode(key);
    if (seen.has(name)) throw new Error(`${name} is walked twice`);
    seen.set(name, decoder.decode(value));
  }
  return seen;
}

describe.each(["in memory", "in a file"])("%s", (where) => {
  /** A database and its end. */
  function open(): { db: Emdb } & Disposable {
    if (where === "in memory") {
      const db = Emdb.openInMemory();
      return { db, [Symbol.dispose]: () => db.closeSync() };
    }
    const folder = temporaryFolder();
    const db = Emdb.open(folder.file("data.emdb"));
    return {
      db,
      [Symbol.dispose]() {
        db.closeSync();
        folder[Symbol.dispose]();
      },
    };
  }

  const changes: readonly { readonly name: string; readonly change: (db: Emdb) => void }[] = [
    {
      name: "inserts",
      change: (db) =>
        db.insertMany(numbered(3000, "new").map(([key, value]): [string, string] => [`new ${key}`, value])),
    },
    { name: "overwrites", change: (db) => db.insertMany(numbered(2000, "changed")) },
    {
      name: "overwrites of overwrites",
      change: (db) => {
        for (let n = 0; n < 5; n += 1) db.insertMany(numbered(500, `${n}`));
      },
    },
    { name: "removes", change: (db) => void db.removeMany(numbered(2000, "").map(([key]) => key)) },
    {
      name: "removes and inserts of the same keys",
      change: (db) => {
        db.removeMany(numbered(2000, "").map(([key]) => key));
        db.insertMany(numbered(900, "back"));
      },
    },
    { name: "clear", change: (db) => db.clear() },
    {
      name: "clear, inserts, clear",
      change: (db) => {
        db.clear();
        db.insertMany(numbered(700, "x"));
        db.clear();
        db.insertMany(numbered(10, "y"));
      },
    },
    {
      name: "a transaction",
      change: (db) =>
        db.transaction((tx) => {
          for (const [key] of numbered(50, "")) tx.insert(key, "tx");
          tx.remove("key 60");
        }),
    },
  ];

  test.each(changes)("a walk at its start, in its middle and at its end does not see $name", async ({ change }) => {
    using opened = open();
    const { db } = opened;
    db.insertMany(numbered(2000, "old"));
    const walks = [db.iter(), db.iter(), db.iter()];
    const begun = rest(walks[1]!.take(1000));
    const nearly = rest(walks[2]!.take(1999));
    change(db);
    await turn();
    const whole = rest(walks[0]!);
    expect(whole).toEqual(new Map(numbered(2000, "old")));
    // `take` ends what it takes from; the walks that were cut short are over.
    expect([begun.size, nearly.size]).toEqual([1000, 1999]);
    for (const part of [begun, nearly]) for (const [key, value] of part) expect(whole.get(key)).toBe(value);
  });

  test("a walk that is half done goes on as it began, through splits of the index under it", () => {
    using opened = open();
    const { db } = opened;
    const count = 5000;
    db.insertMany(numbered(count, "old"));
    const walk = db.iter();
    const seen = new Map<string, string>();
    let added = 0;
    for (let step = walk.next(); step.done !== true; step = walk.next()) {
      const key = new TextDecoder().decode(step.value[0]);
      if (seen.has(key)) throw new Error(`${key} is walked twice`);
      seen.set(key, new TextDecoder().decode(step.value[1]));
      for (let more = 0; more < 10 * SCALE; more += 1) db.insert(`added ${added++}`, "new");
      if (seen.size % 3 === 0) db.insert(`key ${seen.size}`, "changed");
      if (seen.size % 5 === 0) db.remove(`key ${count - seen.size}`);
    }
    expect(seen).toEqual(new Map(numbered(count, "old")));
    expect(added).toBeGreaterThanOrEqual(50_000 * SCALE);
  });

  test("a walk that is half done goes on as it began, while the index shrinks and merges under it", () => {
    using opened = open();
    const { db } = opened;
    const count = Math.round(30_000 * SCALE);
    db.insertMany(numbered(count, "old"));
    const walk = db.keys();
    const seen = new Set<string>();
    for (let taken = 0; taken < count / 3; taken += 1) seen.add(new TextDecoder().decode(walk.next().value));
    db.removeMany(numbered(count, "").map(([key]) => key));
    expect(db.len()).toBe(0);
    for (const key of walk) seen.add(new TextDecoder().decode(key));
    expect(seen.size).toBe(count);
  });

  test("a walk of a namespace goes on after the namespace was dropped, and after it was made anew", () => {
    using opened = open();
    const { db } = opened;
    const space = db.namespace("space");
    space.insertMany(numbered(2000, "old"));
    const walks = [space.iter(), space.iter()];
    walks[1]!.next();
    db.dropNamespace("space");
    db.namespace("space").insertMany(numbered(300, "new"));
    expect(rest(walks[0]!)).toEqual(new Map(numbered(2000, "old")));
    expect(rest(walks[1]!).size).toBe(1999);
    expectCode("EMDB_NAMESPACE_DROPPED", () => space.iter().next());
    expect(rest(db.namespace("space").iter())).toEqual(new Map(numbered(300, "new")));
  });

  test("walks of many moments each show their own", () => {
    using opened = open();
    const { db } = opened;
    const random = new Random(121);
    const moments: { walk: Iterable<[Uint8Array, Uint8Array]>; expected: Map<string, string> }[] = [];
    const now = new Map<string, string>();
    for (let step = 0; step < 3000; step += 1) {
      const key = `key ${random.below(300)}`;
      if (random.chance(0.3)) {
        db.remove(key);
        now.delete(key);
      } else {
        db.insert(key, `value ${step}`);
        now.set(key, `value ${step}`);
      }
      if (step % 200 === 0) moments.push({ walk: db.iter(), expected: new Map(now) });
      if (step === 1500) {
        db.clear();
        now.clear();
      }
    }
    while (moments.length > 0) {
      const [moment] = moments.splice(random.below(moments.length), 1);
      expect(rest(moment!.walk)).toEqual(moment!.expected);
    }
    expect(rest(db.iter())).toEqual(now);
  });

  test("closing while a walk is open makes its next step EMDB_CLOSED, and its return harmless", () => {
    using opened = open();
    const { db } = opened;
    db.insertMany(numbered(100, "x"));
    const [begun, fresh, values] = [db.iter(), db.iter(), db.values()];
    begun.next();
    db.closeSync();
    for (const walk of [begun, fresh, values]) expectCode("EMDB_CLOSED", () => walk.next());
    for (const walk of [begun, fresh, values]) expect(walk.return?.()).toEqual({ done: true, value: undefined });
    expectCode("EMDB_CLOSED", () => db.iter());
  });
});

test("a walk that ends, is left early or throws lets go of its snapshot", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using fixture = new EngineFixture(path, hostSystem());
  const { engine } = fixture;
  const space = engine.defaultSpace;
  /** Threads that hold a snapshot. */
  const open = (): number => engine.core.control.flags[SNAPSHOTS]!;
  for (let key = 0; key < 3000; key += 1) engine.insert(space, `key ${key}`, "x", 0);
  expect([...engine.snapshot(space)].length).toBe(3000);
  expect(open()).toBe(0);
  for (const _ of engine.snapshot(space)) {
    expect(open()).toBe(1);
    break;
  }
  expect(open()).toBe(0);
  const two = [engine.snapshot(space), engine.snapshot(space)];
  for (const walk of two) {
    expect(open()).toBe(1);
    walk.return?.();
    walk.return?.();
  }
  expect(open()).toBe(0);
  engine.sweepExpired(space);
  expect(open()).toBe(0);
});

test("once no walk needs it, a cleared key space gives its index back", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine } = fixture;
  const space = engine.defaultSpace;
  const fill = (): void => {
    for (let key = 0; key < 5000; key += 1) engine.insert(space, `key ${key}`, "x", 0);
  };
  fill();
  const { bytes } = engine.core.heap;
  for (let round = 0; round < 8; round += 1) {
    const walk = engine.snapshot(space);
    walk.next();
    engine.clear(space);
    fill();
    walk.return?.();
  }
  expect(engine.core.heap.bytes).toBeLessThan(bytes * 3);
});

test("what was dropped under a walk over another key space gives its memory back when the walk ends", () => {
  using db = Emdb.openInMemory();
  db.insertMany(numbered(1000, "x"));
  const bytes: number[] = [];
  for (let round = 0; round < 6; round += 1) {
    const [longer, walk] = [db.keys(), db.iter()];
    longer.next();
    walk.next();
    const space = db.namespace(`round ${round}`);
    space.insertMany(numbered(20_000, "x"));
    db.dropNamespace(`round ${round}`);
    db.namespace("cleared").insertMany(numbered(20_000, "y"));
    db.namespace("cleared").clear();
    walk.return?.();
    longer.return?.();
    bytes.push(db.stats().indexBytes);
  }
  expect(bytes.at(-1)!).toBeLessThan(bytes[0]! * 1.2);
});

/** Two threads' engines on one database in memory. */
function twoInMemory(system = hostSystem()): { readonly own: Opened; readonly other: Opened } {
  const environment = { system, defer: (work: () => void): void => void setImmediate(work), hasWorkers: false };
  const own = openMemory(environment, CONFIG);
  own.engine.core.becomeShared();
  return { own, other: attachTo(environment, own.base) };
}

test("what was cleared under a walk that ends while another Worker writes gives its memory back all the same", () => {
  const { own, other: writer } = twoInMemory();
  const { engine } = own;
  const { defaultSpace, core } = engine;
  engine.insertMany(defaultSpace, ["one", "two"], ["1", "2"], 0);
  const walk = engine.snapshot(defaultSpace);
  walk.next();
  writer.engine.clear(writer.engine.defaultSpace);
  writer.engine.exclusively(() => walk.return());
  expect(core.control.flags[GRAVES]).toBe(1);
  const before = core.visible;
  while (core.control.flags[GRAVES] !== 0) {
    writer.engine.insert(writer.engine.defaultSpace, "key", "value", 0);
    expect(core.visible - before).toBeLessThan(2 ** 20);
  }
  writer.leave();
  own.leave();
});

test("who ends a walk beside an older one, which keeps what was cleared, goes over no namespaces", () => {
  const { own, other } = twoInMemory();
  const { engine } = own;
  const { defaultSpace, spaces } = engine;
  const { flags } = engine.core.control;
  engine.insert(defaultSpace, "key", "old", 0);
  const older = other.engine.snapshot(other.engine.defaultSpace);
  engine.clear(defaultSpace);
  engine.insert(defaultSpace, "key", "value", 0);
  let looks = 0;
  const empty = spaces.emptyAllGraves.bind(spaces);
  spaces.emptyAllGraves = (keepFrom) => {
    looks += 1;
    empty(keepFrom);
  };
  engine.getMany(defaultSpace, ["key"]);
  const newer = engine.snapshot(defaultSpace);
  engine.insert(defaultSpace, "key", "newer", 0);
  newer.return();
  expect([looks, flags[GRAVES]]).toEqual([0, 1]);
  expect([...older].map(({ value }) => Buffer.from(value).toString())).toEqual(["old"]);
  expect(flags[GRAVES]).toBe(0);
  other.leave();
  own.leave();
});

test("the end of a walk does not go over all that are open, and the oldest of these is noted", () => {
  const { engine, leave } = openMemory(
    { system: hostSystem(), defer: (work) => void setImmediate(work), hasWorkers: false },
    CONFIG,
  );
  const { snapshots, defaultSpace, core } = engine;
  const random = new Random(5);
  let looks = 0;
  let left = Array.from({ length: 1000 }, (_, index) => {
    if (index % 3 === 0) engine.insert(defaultSpace, "moves on", "x", 0);
    const hold = snapshots.hold(defaultSpace);
    const { lsn } = hold;
    const get = (): number => {
      looks += 1;
      return lsn;
    };
    return { hold: Object.defineProperty(hold, "lsn", { get }), lsn };
  });
  while (left.length > 0) {
    const end = left[random.chance(0.5) ? 0 : random.below(left.length)]!;
    left = left.filter((other) => other !== end);
    snapshots.close(end.hold);
    const oldest = left.reduce((least, { lsn }) => Math.min(least, lsn), Infinity);
    expect(core.control.numbers[SNAPSHOT_ROWS + core.row]).toBe(oldest);
  }
  expect(looks).toBeLessThan(2000);
  leave();
});

test("a walk that was dropped unfinished lets go once it is collected", async () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine } = fixture;
  const space = engine.defaultSpace;
  for (let key = 0; key < 100; key += 1) engine.insert(space, `key ${key}`, "x", 0);
  const first = engine.core.visible;
  const oldest = (): number => engine.core.control.numbers[SNAPSHOT_ROWS + engine.core.row]!;
  (() => {
    for (let walk = 0; walk < 50; walk += 1) {
      engine.snapshot(space).next();
      engine.insert(space, "moves on", "x", 0);
    }
  })();
  expect(oldest()).toBe(first);
  for (let round = 0; round < 50 && oldest() === first; round += 1) {
    Bun.gc(true);
    await turn();
  }
  // The collector may keep a few that the stack still seems to name, not the very first.
  expect(oldest()).toBeGreaterThan(first);
});

test("a removed key is not dug up by an insert of it while walks from before are open", () => {
  const db = Emdb.openInMemory();
  db.insert("a", "1");
  const first = db.iter();
  db.remove("a");
  const second = db.iter();
  db.insert("a", "2");
  const third = db.iter();
  db.insertMany(numbered(4000, "x"));
  db.removeMany(numbered(4000, "").map(([key]) => key));
  expect([...rest(first)]).toEqual([["a", "1"]]);
  expect([...rest(second)]).toEqual([]);
  expect([...rest(third)]).toEqual([["a", "2"]]);
  expect(stateOf(db)).toContain("61=32");
  db.closeSync();
});

describe("a walk of a thread that has died keeps nothing", () => {
  const DEAD = 2 ** 22 + 1;

  /** A database in memory, over which a thread walked that is dead by now. */
  function opened(): Opened {
    const system = faulty(hostSystem(), (call, [thread]) =>
      call === "isThreadAlive" && thread === DEAD ? 0 : undefined,
    );
    const { own, other } = twoInMemory(system);
    const { engine } = other;
    own.engine.insert(own.engine.defaultSpace, "key", "value", 0);
    engine.snapshot(engine.defaultSpace).next();
    const { flags, reclaim } = engine.core.control;
    Atomics.store(reclaim, ROW_THREAD_AT + engine.core.row, DEAD + 1);
    expect(Atomics.load(flags, SNAPSHOTS)).toBe(1);
    return own;
  }

  test.each(["clear", "drop"])("once there is a %s", (how) => {
    const own = opened();
    const { engine } = own;
    const { flags } = engine.core.control;
    const space = engine.spaceNamed("space");
    engine.insert(space, "key", "value", 0);
    if (how === "clear") engine.clear(space);
    else engine.dropSpace("space");
    expect([Atomics.load(flags, SNAPSHOTS), flags[GRAVES]]).toEqual([0, 0]);
    own.leave();
  });

  test("once enough has been written, of what was cleared before it died as well", () => {
    const own = opened();
    const { engine } = own;
    const { defaultSpace, core } = engine;
    const { flags, reclaim, numbers } = core.control;
    const [name, row] = [Atomics.load(reclaim, ROW_THREAD_AT + 1), SNAPSHOT_ROWS + 1];
    Atomics.store(reclaim, ROW_THREAD_AT + 1, Atomics.load(reclaim, ROW_THREAD_AT));
    engine.clear(defaultSpace);
    engine.insertMany(defaultSpace, ["one", "two"], ["1", "2"], 0);
    expect([numbers[row]! < Infinity, flags[GRAVES]]).toEqual([true, 1]);
    Atomics.store(reclaim, ROW_THREAD_AT + 1, name);
    const before = core.visible;
    for (let key = 0; Atomics.load(flags, SNAPSHOTS) > 0; key++) {
      engine.insert(defaultSpace, `key ${key}`, "value", 0);
      engine.remove(defaultSpace, `key ${key}`);
      expect(core.visible - before).toBeLessThan(2 ** 20);
    }
    expect([numbers[row], flags[GRAVES]]).toEqual([Infinity, 0]);
    own.leave();
  });
});

test("beside a walk a writer looks at the rows that threads have had, and sees a walk of the last of them", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine, opened } = fixture;
  const { control } = engine.core;
  const keys = Array.from({ length: 2000 }, (_, index) => `key ${index}`);
  engine.insertMany(engine.defaultSpace, keys, keys, 0);
  let looks = 0;
  const counted = new Proxy(control.numbers, {
    get: (target, name): unknown => {
      const row = Number(name) - SNAPSHOT_ROWS;
      if (row >= 0 && row < ATTACHED_MAX) looks += 1;
      return Reflect.get(target, name, target);
    },
  });
  const looksOfInserts = (count: number): number => {
    const plain = control.numbers;
    Object.defineProperty(control, "numbers", { value: counted, configurable: true });
    looks = 0;
    for (let index = 0; index < count; index++) engine.insert(engine.defaultSpace, `new ${index} ${count}`, "", 0);
    Object.defineProperty(control, "numbers", { value: plain, configurable: true });
    return looks;
  };
  const own = engine.snapshot(engine.defaultSpace);
  expect(looksOfInserts(10)).toBeLessThanOrEqual(20);
  own.return();
  engine.core.becomeShared();
  const others = Array.from({ length: 3 }, () =>
    attachTo({ system: hostSystem(), defer: () => undefined, hasWorkers: false }, opened.base),
  );
  const last = others.at(-1)!;
  expect(last.engine.core.row).toBe(3);
  const walk = last.engine.snapshot(last.engine.defaultSpace);
  expect(looksOfInserts(11)).toBeLessThanOrEqual(60);
  engine.removeMany(engine.defaultSpace, keys);
  for (const key of keys) engine.insert(engine.defaultSpace, `more ${key}`, "", 0);
  expect([...walk].filter(({ key }) => Buffer.from(key).toString().startsWith("key"))).toHaveLength(2000);
  for (const { leave } of others) leave();
});
