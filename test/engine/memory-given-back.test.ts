/** Index memory comes back: after clears and drops with both indexes, from what others were reading, and from threads that left. */

import { expect, test } from "bun:test";
import { attachTo, openMemory } from "../../src/engine/open/open.ts";
import { statsOf } from "../../src/engine/stats.ts";
import type { Opened } from "../../src/engine/assemble.ts";
import { PAGE_BYTES } from "../../src/ffi/heap.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { CONFIG } from "./open-engine.ts";

const COUNT = 100_000;
const keysOf = (name: string, count = COUNT): string[] =>
  Array.from({ length: count }, (_, index) => `${name} ${index}`);

test.each(["clear", "dropNamespace", "removeMany"] as const)("with the ordered index, after %s", (how) => {
  using db = Emdb.openInMemory({ rangeScans: true });
  const space = db.namespace("space");
  const keys = keysOf("key");
  space.insertMany(keys.map((key) => [key, "value"] as const));
  const full = db.stats().indexBytes;
  if (how === "clear") space.clear();
  else if (how === "removeMany") space.removeMany(keys);
  else db.dropNamespace("space");
  db.insert("another", "write");
  expect(db.stats().indexBytes).toBeLessThan(full / 4);
});

/** Two threads of one database, here in one thread, which each say that they are idle when `turn` is called. */
class Two implements Disposable {
  #put: (() => void)[] = [];
  readonly #environment = {
    system: hostSystem(),
    defer: (work: () => void) => void this.#put.push(work),
    hasWorkers: false,
  };
  readonly first: Opened;

  constructor(rangeScans: boolean) {
    this.first = openMemory(this.#environment, { ...CONFIG, rangeScans });
    this.first.engine.core.becomeShared();
  }

  attach(): Opened {
    return attachTo(this.#environment, this.first.base);
  }

  turn(): void {
    for (const work of this.#put.splice(0)) work();
  }

  get indexBytes(): number {
    return statsOf(this.first.engine, this.first.base).indexBytes;
  }

  [Symbol.dispose](): void {
    this.first.leave();
  }
}

function fill({ engine }: Opened, keys: readonly string[]): void {
  engine.insertMany(
    engine.defaultSpace,
    keys,
    keys.map(() => "value"),
    0,
  );
}

test.each([false, true])("beside another thread, with the ordered index: %p", (rangeScans) => {
  using two = new Two(rangeScans);
  const { engine } = two.first;
  const other = two.attach();
  const keys = keysOf("key");
  fill(two.first, keys);
  const full = two.indexBytes;
  two.turn();
  other.engine.get(other.engine.defaultSpace, "key 1");
  engine.removeMany(engine.defaultSpace, keys);
  // What the other one may be reading stays.
  expect(two.indexBytes).toBeGreaterThan(full / 2);
  two.turn();
  for (let write = 0; write < 20; write++) engine.insert(engine.defaultSpace, `write ${write}`, "value", 0);
  expect(two.indexBytes).toBeLessThan(full / 4);
  other.leave();
});

/** A thread comes, writes and leaves; `meanwhile` is done before it removes what it wrote. */
function comeAndLeave(two: Two, life: number, meanwhile: () => void): void {
  const { engine, leave } = two.attach();
  const keys = keysOf(`life ${life}`, 5000);
  for (const key of keys) engine.insert(engine.defaultSpace, key, "value", 0);
  meanwhile();
  engine.removeMany(engine.defaultSpace, keys);
  leave();
}

test.each([false, true])("from threads that come, write and leave, with the ordered index: %p", (rangeScans) => {
  using two = new Two(rangeScans);
  fill(two.first, keysOf("kept", 1000));
  const bytes: number[] = [];
  for (let life = 0; life < 12; life++) {
    comeAndLeave(two, life, () => undefined);
    bytes.push(two.indexBytes);
    // Who looks is under way until then.
    two.turn();
  }
  expect(bytes.at(-1)!).toBeLessThan(bytes[2]! * 1.3);
});

test.each([false, true])(
  "from threads that leave while another one reads, with the ordered index: %p",
  (rangeScans) => {
    using two = new Two(rangeScans);
    fill(two.first, keysOf("kept", 1000));
    const bytes: number[] = [];
    for (let life = 0; life < 12; life++) {
      comeAndLeave(two, life, () => void two.first.engine.get(two.first.engine.defaultSpace, "kept 1"));
      two.turn();
      // What was left to whoever writes next is taken up by that.
      fill(two.first, keysOf("more", 5000));
      two.first.engine.removeMany(two.first.engine.defaultSpace, keysOf("more", 5000));
      bytes.push(two.indexBytes);
      two.turn();
    }
    expect(bytes.at(-1)!).toBeLessThan(bytes[2]! * 1.3);
  },
);

test("small batches of removals look at a part of a large index each, and give all of it back in the end", () => {
  const environment = { system: hostSystem(), defer: () => undefined, hasWorkers: false };
  const opened = openMemory(environment, CONFIG);
  const { engine } = opened;
  const keys = keysOf("key", 200_000);
  fill(opened, keys);
  const indexBytes = (): number => statsOf(engine, opened.base).indexBytes;
  const full = indexBytes();
  const { keydir } = engine.core;
  const shardOf = keydir.shardOf.bind(keydir);
  let looks = 0;
  keydir.shardOf = (...args) => {
    looks += 1;
    return shardOf(...args);
  };
  engine.removeMany(engine.defaultSpace, keys.slice(0, 200));
  expect(looks).toBeGreaterThan(0);
  expect(looks).toBeLessThanOrEqual(50);
  for (let from = 200; from < keys.length; from += 200)
    engine.removeMany(engine.defaultSpace, keys.slice(from, from + 200));
  engine.insert(engine.defaultSpace, "another", "write", 0);
  // A few free pages are kept, whatever the index holds.
  expect(indexBytes() - engine.core.heap.idlePages * PAGE_BYTES).toBeLessThan(full / 8);
  opened.leave();
});

test("a sweep looks for what it left in the index by itself, and leaves nothing of that to the next batch", () => {
  const environment = { system: hostSystem(), defer: () => undefined, hasWorkers: false };
  const opened = openMemory(environment, CONFIG);
  const { engine } = opened;
  const { defaultSpace } = engine;
  const [kept, due] = [keysOf("kept", 10_000), keysOf("due", 10_000)];
  fill(opened, kept);
  engine.insertMany(defaultSpace, due, due, engine.core.now() - 1);
  const { keydir } = engine.core;
  const shrinkSome = keydir.shrinkSome.bind(keydir);
  let looks = 0;
  keydir.shrinkSome = (...args) => {
    looks += 1;
    return shrinkSome(...args);
  };
  expect(engine.sweepExpired(defaultSpace)).toBe(due.length);
  expect(looks).toBeGreaterThan(0);
  looks = 0;
  expect(engine.removeMany(defaultSpace, kept.slice(0, 2))).toBe(2);
  expect(looks).toBe(0);
  opened.leave();
});

test("each database has a seed of its own for the hashes of its keys", () => {
  const environment = { system: hostSystem(), defer: () => undefined, hasWorkers: false };
  const seeds = Array.from({ length: 3 }, () => {
    const opened = openMemory(environment, CONFIG);
    opened.leave();
    return opened.base.seed.toHex();
  });
  expect(new Set([...seeds, "0".repeat(seeds[0]!.length)]).size).toBe(4);
});
