/** Copying a queue of deadlines in parts while it goes on: no record that stays is missing, whatever happens between two parts. */

import { expect, test } from "bun:test";
import { EmdbError } from "../../src/errors.ts";
import { pinned } from "../../src/ffi/memory.ts";
import { ExpiryAdoption } from "../../src/keydir/expiry-adoption.ts";
import { DEADLINES_PART_BYTES_MAX, ExpiryCopy } from "../../src/keydir/expiry-copy.ts";
import { CHILDREN, ENTRY_BYTES, ExpiryPages, FIRST } from "../../src/keydir/expiry-pages.ts";
import { HASH_BITS } from "../../src/keydir/hash.ts";
import { Random } from "../sim/random.ts";
import { DeadlineFixture } from "./deadline-fixture.ts";

class CopyFixture extends DeadlineFixture {
  readonly #memory = pinned(DEADLINES_PART_BYTES_MAX);
  readonly copy = new ExpiryCopy(this.heap);
  /** The entries of the copy, as slot and deadline. */
  readonly copied: [string, number][] = [];

  drop(key: number): void {
    if (!this.deadlines.delete(key)) return;
    this.remove(key);
    this.queue.count(this.space, -1, 0);
  }

  nameOf(key: number): string {
    const { low, high } = this.slotOf(key);
    return `${low}/${high}`;
  }

  /** Takes the first entries out as a sweep does: their records go, or all is taken back. */
  sweep(count: number, isTakenBack: boolean): void {
    const byName = new Map([...this.deadlines.keys()].map((key) => [this.nameOf(key), key]));
    const taken: [number, number, number][] = [];
    for (let left = count; left > 0 && this.queue.takeDue(this.space, Infinity); left -= 1) {
      const { low, high, deadlineMs } = this.queue;
      const key = byName.get(`${low}/${high}`);
      if (key === undefined) continue;
      if (isTakenBack) taken.push([deadlineMs, low, high]);
      else this.drop(key);
    }
    for (const [deadlineMs, low, high] of taken) this.queue.restore(this.space, deadlineMs, low, high);
  }

  step(): "more" | "end" | "unknown" {
    const state = this.copy.next(this.queue.queueOf(this.space), this.#memory.address);
    for (let entry = 0; entry < this.copy.entries; entry += 1) {
      const [low, high] = [this.#memory.u32[entry * 4 + 2]!, this.#memory.u32[entry * 4 + 3]!];
      this.copied.push([`${low}/${high}`, this.#memory.f64[entry * 2]!]);
    }
    return state;
  }
}

/** Spreads the keys that count up. */
const hashOf = (key: number): number => Math.imul(key, 0x9e3779b1) >>> (32 - HASH_BITS);

test.each([331, 332, 333, 334, 335, 336])(
  "a record that stays from the first part to the last is in the copy with its deadline (seed %d)",
  (seed) => {
    const random = new Random(seed);
    using fixture = new CopyFixture();
    const deadline = (): number => 1e12 + random.below(random.chance(0.5) ? 1e6 : 100);
    const count = 6000 + random.below(4000);
    for (let key = 0; key < count; key += 1) fixture.put(key, hashOf(key), deadline());
    for (let round = 0; round < 3; round += 1) {
      fixture.copied.length = 0;
      const before = new Map([...fixture.deadlines.keys()].map((key) => [key, fixture.nameOf(key)]));
      while (fixture.step() === "more") {
        for (let left = random.below(300); left > 0; left -= 1) {
          const key = random.below(count * 1.2);
          if (random.chance(0.5)) fixture.put(key, hashOf(key), deadline());
          else fixture.drop(key);
        }
        fixture.sweep(random.below(100), random.chance(0.5));
      }
      const copied = new Map(fixture.copied);
      let stayed = 0;
      for (const [key, name] of before) {
        if (!fixture.deadlines.has(key) || fixture.nameOf(key) !== name) continue;
        stayed += 1;
        if (copied.get(name) !== fixture.deadlines.get(key)) throw new Error(`record ${key} is not in the copy`);
      }
      expect(stayed).toBeGreaterThan(1000);
      expect(fixture.copied.length).toBeLessThan(2 * count);
    }
  },
);

test("a copy of a queue that nobody changes has each entry once, and adopted in any order it sweeps in order", () => {
  const random = new Random(337);
  using fixture = new CopyFixture();
  for (let key = 0; key < 5000; key += 1) fixture.put(key, hashOf(key), 1e12 + random.below(1e6));
  const { bytes } = fixture.queue.facts(fixture.space);
  while (fixture.step() === "more");
  expect(fixture.copied.length).toBe(5000);
  expect(new Map(fixture.copied).size).toBe(5000);
  expect(fixture.queue.facts(fixture.space).bytes).toBe(bytes);
  const adoption = new ExpiryAdoption(fixture.heap);
  const memory = pinned(5000 * ENTRY_BYTES);
  for (let index = 4999; index >= 0; index -= 1) {
    const other = random.below(index + 1);
    const [one, two] = [fixture.copied[index]!, fixture.copied[other]!];
    [fixture.copied[index], fixture.copied[other]] = [two, one];
    const [low = 0, high = 0] = two[0].split("/").map(Number);
    memory.f64[index * 2] = two[1];
    memory.u32[index * 4 + 2] = low;
    memory.u32[index * 4 + 3] = high;
  }
  adoption.begin(5000);
  expect(adoption.add(memory, { at: 0, bytes: 3333 * ENTRY_BYTES }, Infinity)).toBe(true);
  expect(adoption.add(memory, { at: 3333 * ENTRY_BYTES, bytes: 1667 * ENTRY_BYTES }, Infinity)).toBe(true);
  fixture.queue.adopt(fixture.space, adoption.finish());
  expect(fixture.queue.facts(fixture.space)).toMatchObject({ entries: 5000, live: 5000 });
  let last = 0;
  let swept = 0;
  while (fixture.queue.takeDue(fixture.space, Infinity)) {
    if (fixture.queue.deadlineMs < last) throw new Error("a deadline came after a later one");
    last = fixture.queue.deadlineMs;
    swept += 1;
  }
  expect(swept).toBe(5000);
});

test("a queue that is made anew between two parts is copied from its beginning, one that nobody keeps is unknown", () => {
  using fixture = new CopyFixture();
  const { queue, space } = fixture;
  for (let key = 0; key < 4000; key += 1) fixture.put(key, hashOf(key), 1e12 + key);
  expect(fixture.step()).toBe("more");
  queue.begin(space);
  for (const [key, deadlineMs] of fixture.deadlines) {
    const { low, high } = fixture.slotOf(key);
    queue.count(space, 1, 0);
    queue.enter(space, deadlineMs, low, high);
  }
  fixture.copied.length = 0;
  while (fixture.step() === "more");
  expect(new Map(fixture.copied).size).toBe(4000);
  expect(fixture.step()).toBe("more");
  queue.forget(space);
  expect(fixture.step()).toBe("unknown");
});

test("a journal that nobody reads is given up, and one that finds no memory makes the copy unknown and fails no change", () => {
  using fixture = new CopyFixture();
  const { queue, space, heap } = fixture;
  for (let key = 0; key < 4000; key += 1) fixture.put(key, hashOf(key), 1e12 + key);
  const { bytes } = heap;
  // The copying thread has died here.
  expect(fixture.step()).toBe("more");
  for (let round = 0; round < 270_000; round += 1) {
    queue.takeDue(space, Infinity);
    queue.restore(space, queue.deadlineMs, queue.low, queue.high);
  }
  expect(heap.bytes - bytes).toBeLessThan(6 * 1024 * 1024);
  expect(fixture.step()).toBe("unknown");
  expect(fixture.step()).toBe("more");
  heap.takePage = () => {
    throw new EmdbError("EMDB_FULL", "no memory");
  };
  heap.takeUnit = heap.takePage;
  fixture.sweep(500, false);
  Reflect.deleteProperty(heap, "takePage");
  Reflect.deleteProperty(heap, "takeUnit");
  expect(queue.facts(space).live).toBe(3500);
  expect(fixture.step()).toBe("unknown");
});

test.each([
  ["behind what is copied", false],
  ["in front of it", true],
])(
  "a record whose entry was dropped while a batch had replaced it, and put back %s, is in the copy",
  (_, isLastFirst) => {
    using fixture = new CopyFixture();
    const { queue, space, keydir } = fixture;
    for (let key = 0; key < 6000; key += 1) fixture.put(key, hashOf(key), 1e12 + key);
    for (let part = 0; part < 3; part += 1) expect(fixture.step()).toBe("more");
    const slots = [...fixture.deadlines.keys()].map((key) => ({ key, ...fixture.slotOf(key) }));
    const find = (key: number): void => {
      const { hash, units } = fixture.model.get(key)!;
      if (fixture.find(hash, units) < 0) throw new Error(`key ${key} is lost`);
    };
    const replaced = slots.slice(2000);
    // The search for stale entries is at one that was not copied yet: it is dropped where it lies.
    const pages = new ExpiryPages(fixture.heap);
    pages.open(queue.queueOf(space));
    pages.cursor = FIRST + 4700;
    pages.save();
    for (const { key } of replaced.toReversed()) {
      find(key);
      keydir.replace(1_000_000 + key, true);
      fixture.model.get(key)!.units = 1_000_000 + key;
      queue.count(space, -1, 0);
    }
    expect(queue.facts(space).entries).toBeLessThan(4000);
    // What is put back first comes where copied entries were.
    for (const slot of isLastFirst ? replaced.toReversed() : replaced) {
      find(slot.key);
      keydir.replace(slot.low, false);
      fixture.model.get(slot.key)!.units = slot.low;
      queue.count(space, 1, 0);
      queue.restore(space, 1e12 + slot.key, slot.low, slot.high);
    }
    while (fixture.step() === "more");
    const copied = new Map(fixture.copied);
    for (let key = 0; key < 6000; key += 1) {
      if (copied.get(fixture.nameOf(key)) !== 1e12 + key) throw new Error(`record ${key} is not in the copy`);
    }
  },
);

/** Entries that one part takes. */
const PART = DEADLINES_PART_BYTES_MAX / ENTRY_BYTES;

/** Copies what is left; throws unless all that is there by then is in the copy. */
function copyRest(fixture: CopyFixture): void {
  while (fixture.step() === "more");
  const copied = new Map(fixture.copied);
  for (const [key, deadlineMs] of fixture.deadlines) {
    if (copied.get(fixture.nameOf(key)) !== deadlineMs) throw new Error(`record ${key} is not in the copy`);
  }
}

test("the last entry, the only one that is not copied yet, fills the gap of the first, and is in the copy", () => {
  using fixture = new CopyFixture();
  for (let key = 0; key <= PART; key += 1) fixture.put(key, hashOf(key), 1e12 + key);
  expect(fixture.step()).toBe("more");
  expect(fixture.copied.length).toBe(PART);
  fixture.sweep(1, false);
  expect(fixture.deadlines.size).toBe(PART);
  copyRest(fixture);
});

test("the entry that would be copied next rises into the place of a copied one, and is in the copy", () => {
  using fixture = new CopyFixture();
  // From the entry that is copied next up to the root: each is the least of its family.
  const path = new Set<number>();
  for (let index = FIRST + PART; index >= FIRST; index = Math.floor(index / CHILDREN) + FIRST - 1) path.add(index);
  for (let key = 0; key < 2 * PART; key += 1) {
    const index = key + FIRST;
    fixture.put(key, hashOf(key), path.has(index) ? index : 1e6 + index);
  }
  expect(fixture.step()).toBe("more");
  fixture.sweep(1, false);
  expect(fixture.deadlines.has(0)).toBe(false);
  copyRest(fixture);
});
