/**
 * Reads beside what another thread takes back: a batch that grew the index before it failed, and a clear that failed. The
 * reader is stopped where its first look has been, and the writer begins, fails and takes back there.
 */

import { describe, expect, test } from "bun:test";
import { attachTo } from "../../src/engine/open/open.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import type { Config } from "./open-engine.ts";

const ENVIRONMENT = { system: hostSystem(), defer: () => undefined, hasWorkers: false };
const KEY = new Uint8Array(32).fill(7);
const durable = Array.from({ length: 2000 }, (_, index) => `old-${String(index).padStart(20, "0")}`);
const added = Array.from({ length: 40_000 }, (_, index) => `new-${String(index).padStart(20, "0")}`);

/** A writer and a reader on one database; `fail` makes the writer overwrite everything, grow, run out of space and take it back, once. */
class Beside implements Disposable {
  readonly engine: Engine;
  readonly reader: Engine;
  hasFailed = false;
  /** How often the disk still gives space. */
  #steps = Infinity;
  readonly #folder = temporaryFolder();
  readonly #fixture: EngineFixture;

  constructor(changes: Partial<Config> = {}) {
    const system = faulty(hostSystem(), (call) =>
      call === "allocate" && --this.#steps < 0 ? -Errno.ENOSPC : undefined,
    );
    this.#fixture = new EngineFixture(this.#folder.file("data.emdb"), system, changes);
    const { engine, opened, sync } = this.#fixture;
    this.engine = engine;
    engine.core.becomeShared();
    this.reader = attachTo(ENVIRONMENT, opened.base).engine;
    engine.insertMany(engine.defaultSpace, durable, durable, 0);
    sync.flush();
  }

  readonly fail = (): void => {
    if (this.hasFailed) return;
    this.hasFailed = true;
    const { engine } = this;
    const keys = [...durable, ...added];
    const values = keys.map(() => "x");
    const root = engine.spaces.root(engine.defaultSpace);
    this.#steps = 3;
    expect(() => void engine.insertMany(engine.defaultSpace, keys, values, 0)).toThrow(EmdbError);
    this.#steps = Infinity;
    expect(engine.spaces.root(engine.defaultSpace)).not.toBe(root);
    // Others stand in the places of what was taken back.
    engine.insertMany(engine.defaultSpace, added.slice(0, 2000), durable, 0);
  };

  /** Lets the writer fail behind the next call of a method, and something be done then. */
  failBehind<K extends string>(
    target: Record<K, (...args: never[]) => unknown>,
    name: K,
    then: () => void = () => undefined,
  ): void {
    const method = target[name];
    target[name] = (...args: never[]): unknown => {
      const result = method.apply(target, args);
      target[name] = method;
      this.fail();
      then();
      return result;
    };
  }

  [Symbol.dispose](): void {
    this.#fixture[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

const textOf = (bytes: Uint8Array | undefined): string | undefined =>
  bytes?.toString() && Buffer.from(bytes).toString();

describe.each<[string, Partial<Config>]>([
  ["plain", {}],
  ["encrypted", { encryption: { key: KEY } }],
  ["with verifyReads", { verifyReads: true }],
])("%s: beside a batch that grew the index and failed", (_, changes) => {
  test("get finds what is there", () => {
    for (const key of [durable[1]!, durable[999]!]) {
      using both = new Beside(changes);
      const { reader } = both;
      // All of a thread's engines share the memory of the key at hand.
      both.failBehind(reader.spaces, "rootAt", () => reader.core.key.load(key));
      expect(textOf(reader.get(reader.defaultSpace, key))).toBe(key);
      expect(both.hasFailed).toBe(true);
      expect(reader.get(reader.defaultSpace, "nothing")).toBeUndefined();
    }
  });

  test("getMany finds all that is there", () => {
    using both = new Beside(changes);
    const { reader } = both;
    // Behind the first group: all of a thread's engines share the memory in which a group's keys lie.
    const { prefetch } = reader.core;
    const { touchBuckets } = prefetch;
    prefetch.touchBuckets = (root, keys, first) => {
      if (first > 0) both.fail();
      return touchBuckets.call(prefetch, root, keys, first);
    };
    expect(reader.getMany(reader.defaultSpace, durable).map(textOf)).toEqual(durable);
    expect(both.hasFailed).toBe(true);
  });

  test("a walk gives what was there when it began", () => {
    using both = new Beside(changes);
    const { reader } = both;
    const walk = reader.snapshot(reader.defaultSpace);
    both.failBehind(reader.core.keydir, "shardOf");
    const seen = [...walk].map(({ key }) => textOf(key)!);
    expect(both.hasFailed).toBe(true);
    expect(seen.sort()).toEqual(durable);
  });
});

describe.each<[string, Partial<Config>]>([
  ["plain", {}],
  ["encrypted", { encryption: { key: KEY } }],
])("%s: beside a clear behind its moment", (_, changes) => {
  test.each(["clear", "overwrite, clear", "overwrite, clear, insert", "clear, insert", "remove"])(
    "getMany shows one moment: %s",
    (steps) => {
      using both = new Beside(changes);
      const { engine, reader } = both;
      const space = engine.defaultSpace;
      const keys = durable.slice(0, 200);
      const write = (value: string): void => {
        const values = keys.map(() => value);
        engine.insertMany(space, keys, values, 0);
      };
      const { prefetch } = reader.core;
      const { touchBuckets } = prefetch;
      let hasHappened = false;
      prefetch.touchBuckets = (root, some, first) => {
        if (first > 0 && !hasHappened) {
          hasHappened = true;
          if (steps.includes("overwrite")) write("another");
          if (steps.includes("clear")) engine.clear(space);
          if (steps.includes("insert")) write("a third");
          if (steps === "remove") engine.removeMany(space, keys);
        }
        return touchBuckets.call(prefetch, root, some, first);
      };
      expect(reader.getMany(reader.defaultSpace, keys).map(textOf)).toEqual(keys);
      expect(hasHappened).toBe(true);
    },
  );

  test("getMany shows one moment: clear, insert of some, before it has looked which index there is", () => {
    using both = new Beside(changes);
    const { engine, reader } = both;
    const keys = durable.slice(0, 200);
    // All of a thread's engines share the memory of the key at hand: it is loaded behind this.
    const { log } = reader.core;
    const { takeRetreats } = log;
    log.takeRetreats = () => {
      log.takeRetreats = takeRetreats;
      engine.clear(engine.defaultSpace);
      engine.insert(engine.defaultSpace, keys[100]!, "another", 0);
      return takeRetreats.call(log);
    };
    expect(reader.getMany(reader.defaultSpace, keys).map(textOf)).toEqual(keys);
    expect(log.takeRetreats).toBe(takeRetreats);
  });
});

describe("beside a clear that failed", () => {
  /** Lets a reader look between the clear and its being taken back, and go on behind that. */
  function across<T>(look: (reader: Engine) => T, goOn: (reader: Engine, seen: T) => void): void {
    using folder = temporaryFolder();
    using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem(), { rangeScans: true });
    const { engine, opened } = fixture;
    engine.core.becomeShared();
    const reader = attachTo(ENVIRONMENT, opened.base).engine;
    engine.insert(engine.defaultSpace, "key", "value", 0);
    expect(textOf(reader.get(reader.defaultSpace, "key"))).toBe("value");
    const { bury } = engine.spaces;
    let seen: T | undefined;
    engine.spaces.bury = (space, lsn) => {
      bury.call(engine.spaces, space, lsn);
      seen = look(reader);
      throw new EmdbError("EMDB_FULL", "the disk is full");
    };
    expect(() => engine.clear(engine.defaultSpace)).toThrow("the disk is full");
    engine.spaces.bury = bury;
    goOn(reader, seen as T);
  }

  /** The first read of a word gives what it was. */
  function once<A extends readonly unknown[], R>(
    target: Record<string, (...args: A) => R>,
    name: string,
    first: R,
  ): void {
    const method = target[name]!;
    target[name] = () => {
      target[name] = method;
      return first;
    };
  }

  test("get finds what is there", () => {
    across(
      (reader) => reader.spaces.root(reader.defaultSpace),
      (reader, root) => {
        expect(root).toBe(0);
        once(reader.spaces as never, "root", root);
        expect(textOf(reader.get(reader.defaultSpace, "key"))).toBe("value");
      },
    );
  });

  test("a walk and a range begin with the clears that count", () => {
    for (const records of [
      (reader: Engine) => reader.snapshot(reader.defaultSpace),
      (reader: Engine) => reader.range(reader.defaultSpace, { isReverse: false }),
    ]) {
      across(
        (reader) => reader.spaces.clears(reader.defaultSpace),
        (reader, clears) => {
          expect(clears).toBe(1);
          once(reader.spaces as never, "clears", clears);
          expect([...records(reader)].map(({ key }) => textOf(key))).toEqual(["key"]);
        },
      );
    }
  });
});
