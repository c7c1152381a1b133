/** The queue of deadlines against a sorted array, over a hash index with made-up positions. */

import { expect, test } from "bun:test";
import { EmdbError } from "../../src/errors.ts";
import { PAGE_BYTES, UNIT_BYTES } from "../../src/ffi/heap.ts";
import { pinned } from "../../src/ffi/memory.ts";
import { ExpiryAdoption } from "../../src/keydir/expiry-adoption.ts";
import { DEADLINES_PART_BYTES_MAX, ExpiryCopy } from "../../src/keydir/expiry-copy.ts";
import { ENTRY_BYTES } from "../../src/keydir/expiry-pages.ts";
import { HASHES } from "../../src/keydir/hash.ts";
import { TWO_32 } from "../../src/log/frame.ts";
import { Random } from "../sim/random.ts";
import { DeadlineFixture } from "./deadline-fixture.ts";
import { hasHeapPages } from "./fixture.ts";

/** Records with deadlines in an index, and the queue beside it. */
class QueueFixture extends DeadlineFixture {
  drop(key: number): void {
    this.remove(key);
    if (this.deadlines.delete(key)) this.queue.count(this.space, -1, 0);
  }

  /** Takes everything due by a moment and removes it; the keys, in the order in which they came. */
  sweep(nowMs: number): number[] {
    const byUnits = new Map([...this.model].map(([key, entry]) => [entry.units, key]));
    const swept: number[] = [];
    let beforeMs = -Infinity;
    while (this.queue.takeDue(this.space, nowMs)) {
      const { low, high, deadlineMs } = this.queue;
      if (deadlineMs < beforeMs) throw new Error(`a deadline of ${deadlineMs} came after one of ${beforeMs}`);
      beforeMs = deadlineMs;
      if (!this.queue.isHeld(this.space, low, high)) continue;
      const key = byUnits.get((high & 15) * TWO_32 + low);
      if (key === undefined) throw new Error("an entry is held whose record is not there");
      swept.push(key);
      this.drop(key);
    }
    return swept;
  }

  due(nowMs: number): number[] {
    return [...this.deadlines].filter(([, deadlineMs]) => deadlineMs <= nowMs).map(([key]) => key);
  }
}

const sorted = (keys: readonly number[]): number[] => keys.toSorted((one, other) => one - other);

test.each([301, 302, 303, 304])(
  "what is due comes in order of the deadline, each record once, through overwrites and removals (seed %d)",
  (seed) => {
    const random = new Random(seed);
    using fixture = new QueueFixture();
    const hashes = Array.from({ length: 3000 }, () => random.below(random.chance(0.1) ? 50 : HASHES));
    let nowMs = 1_700_000_000_000;
    for (let step = 0; step < 40_000; step += 1) {
      const key = random.below(3000);
      const what = random.below(100);
      if (what < 70) fixture.put(key, hashes[key]!, nowMs + random.below(what < 20 ? 10 : 20_000) - 5);
      else if (what < 98) fixture.drop(key);
      else nowMs += random.below(50);
      if (what === 99) {
        const due = sorted(fixture.due(nowMs));
        expect(sorted(fixture.sweep(nowMs))).toEqual(due);
      }
      const { entries, live } = fixture.queue.facts(fixture.space);
      if (live !== fixture.deadlines.size)
        throw new Error(`${live} counted, ${fixture.deadlines.size} there (${step})`);
      if (entries < live || entries > 1.8 * live + 600)
        throw new Error(`${entries} entries for ${live} (step ${step})`);
    }
    const left = sorted([...fixture.deadlines.keys()]);
    expect(sorted(fixture.sweep(Infinity))).toEqual(left);
    expect(fixture.queue.facts(fixture.space)).toEqual({ isUnknown: false, entries: 0, live: 0, bytes: 64 });
  },
);

test.each([
  ["rising", (index: number): number => index],
  ["falling", (index: number): number => 60_000 - index],
  ["all equal", (): number => 7],
  ["saw-toothed", (index: number): number => index % 100],
])("deadlines that come %s leave in order", (_, deadlineOf) => {
  const random = new Random(305);
  using fixture = new QueueFixture();
  for (let key = 0; key < 60_000; key += 1) fixture.put(key, random.below(HASHES), deadlineOf(key));
  expect(fixture.sweep(30_000).length).toBe(
    [...Array(60_000).keys()].filter((key) => deadlineOf(key) <= 30_000).length,
  );
  fixture.sweep(60_000);
  expect(fixture.deadlines.size).toBe(0);
});

test("a record with a deadline costs at most 24 bytes of queue, overwritten however often", () => {
  const random = new Random(306);
  using fixture = new QueueFixture();
  const hashes = Array.from({ length: 20_000 }, () => random.below(HASHES));
  for (let key = 0; key < 20_000; key += 1) fixture.put(key, hashes[key]!, 1e12 + key);
  expect(fixture.queue.facts(fixture.space).bytes / 20_000).toBeLessThan(17.5);
  let most = 0;
  for (let round = 0; round < 6; round += 1) {
    for (let key = 0; key < 20_000; key += 1) {
      fixture.put(round % 2 === 0 ? key : random.below(20_000), hashes[key]!, 1e12 + random.below(1e6));
      if (key % 100 === 0) most = Math.max(most, fixture.queue.facts(fixture.space).bytes);
    }
  }
  expect(most / 20_000).toBeLessThan(24);
});

test("keys that are inserted and removed over and over leave no heap of entries behind", () => {
  using fixture = new QueueFixture();
  for (let round = 0; round < 20_000; round += 1) {
    fixture.put(round % 3, 5, 1e12);
    fixture.drop(round % 3);
  }
  expect(fixture.queue.facts(fixture.space).entries).toBeLessThan(300);
});

test.skipIf(!hasHeapPages)(
  "after all have left, the queue has given its pages back, and freeing it gives back the rest",
  () => {
    const random = new Random(307);
    using fixture = new QueueFixture();
    const bytesAfter: number[] = [];
    for (let round = 0; round < 4; round += 1) {
      for (let key = 0; key < 50_000; key += 1) fixture.put(key, random.below(HASHES), key);
      expect(fixture.queue.facts(fixture.space).bytes).toBeGreaterThan(50_000 * 16);
      if (round % 2 === 0) expect(fixture.sweep(50_000).length).toBe(50_000);
      else for (let key = 0; key < 50_000; key += 1) fixture.drop(key);
      expect(fixture.queue.facts(fixture.space).entries).toBeLessThan(300);
      if (round % 2 === 1) fixture.queue.begin(fixture.space);
      bytesAfter.push(fixture.heap.bytes);
    }
    expect(bytesAfter[3]!).toBeLessThan(bytesAfter[0]! * 1.05);
  },
);

test("a detached queue is the same when it is attached again, and nothing is entered into an unknown one", () => {
  using fixture = new QueueFixture();
  const { queue, space, heap } = fixture;
  const random = new Random(309);
  for (let key = 0; key < 1000; key += 1) fixture.put(key, random.below(HASHES), key);
  const before = queue.facts(space);
  const detached = queue.detach(space, false);
  expect(queue.facts(space).entries).toBe(0);
  queue.count(space, 1, 0);
  queue.enter(space, 1, 1, 1);
  const idle = heap.idlePages;
  queue.attach(space, detached);
  expect(queue.facts(space)).toEqual(before);
  // What stood in its place has given its page back.
  expect(heap.idlePages).toBe(idle + 1);
  queue.forget(space);
  expect(queue.isUnknown(space)).toBe(true);
  fixture.put(2001, 2001, 1);
  fixture.drop(2001);
  queue.restore(space, 1, 5, 5);
  expect(queue.facts(space)).toEqual({ isUnknown: true, entries: 0, live: 0, bytes: 0 });
  expect(queue.takeDue(space, Infinity)).toBe(false);
});

/** What a thread that was ended sees of its last call. */
class Ended extends Error {}

/** A death before one of these is one between any two changes of the heap: `unitAddress` is asked for before a head is saved. */
const FATAL = [
  "read32",
  "write32",
  "takePage",
  "takePages",
  "takeUnit",
  "givePage",
  "giveUnit",
  "unitAddress",
] as const;
const WORK_STEPS = 4;

/** Ends the work at an access to the heap, counted from 1; false when there is none with that number. */
function dieAt(heap: QueueFixture["heap"], access: number, work: () => void): boolean {
  let left = access;
  for (const name of FATAL) {
    const original = heap[name].bind(heap) as (...args: number[]) => never;
    Object.defineProperty(heap, name, {
      configurable: true,
      value: (...args: number[]): unknown => {
        left -= 1;
        if (left <= 0) throw new Ended();
        return original(...args);
      },
    });
  }
  try {
    work();
  } catch (error) {
    if (!(error instanceof Ended)) throw error;
  } finally {
    for (const name of FATAL) Reflect.deleteProperty(heap, name);
  }
  return left <= 0;
}

const enter = ({ queue, space }: QueueFixture, step: number): void => queue.enter(space, step, step, step);
const take = ({ queue, space }: QueueFixture): boolean => queue.takeDue(space, Infinity);

test.each<[string, number, (fixture: QueueFixture, step: number) => unknown]>([
  ["enters the first deadlines", 0, enter],
  ["needs a page more", 247, enter],
  ["needs a longer table", 4087, enter],
  ["takes the last deadlines", 3, take],
  ["gives a page back", 763, take],
  ["gives a queue with its journal up", 300, ({ queue, space }) => queue.forget(space)],
])(
  "a writer that %s and dies at any access to the heap leaves a queue that can be freed, and no page in two hands",
  (_, count, work) => {
    const random = new Random(308);
    let hasDied = true;
    for (let access = 1; hasDied; access += 1) {
      using fixture = new QueueFixture();
      const { heap, queue, space } = fixture;
      if (count === 0) queue.count(space, 1, 0);
      for (let key = 0; key < count; key += 1) fixture.put(key, random.below(HASHES), random.below(1000));
      const isCopied = access % 2 === 0 && count > 0;
      if (isCopied) new ExpiryCopy(heap).next(queue.queueOf(space), pinned(DEADLINES_PART_BYTES_MAX).address);
      hasDied = dieAt(heap, access, () => {
        for (let step = 0; step < WORK_STEPS; step += 1) work(fixture, step);
      });
      expect(queue.facts(space).entries).toBeLessThanOrEqual(count + WORK_STEPS);
      queue.forget(space);
      const pages = new Set(Array.from({ length: 60 }, () => heap.takePage()));
      const units = new Set(Array.from({ length: 200 }, () => heap.takeUnit()));
      const isTaken = (unit: number): boolean => pages.has(Math.floor((unit * UNIT_BYTES) / PAGE_BYTES));
      expect([access, pages.size, units.size, [...units].some(isTaken)]).toEqual([access, 60, 200, false]);
      queue.begin(space);
      fixture.deadlines.clear();
      for (let key = 5000; key < 5010; key += 1) fixture.put(key, random.below(HASHES), key - 5000);
      expect(queue.takeDue(space, 0)).toBe(true);
      fixture.check();
    }
  },
);

test("a queue of any size that is adopted in any order sweeps in order", () => {
  const random = new Random(310);
  const memory = pinned(100 * ENTRY_BYTES);
  using fixture = new QueueFixture();
  const { queue, space } = fixture;
  const adoption = new ExpiryAdoption(fixture.heap);
  for (let count = 1; count <= 100; count += 1) {
    // The last of them first, too: the heap's last family is then the only one out of order.
    for (const isLastFirst of [true, false]) {
      for (let index = 0; index < count; index += 1) {
        memory.f64[index * 2] = isLastFirst && index === count - 1 ? 1 : 2 + (isLastFirst ? index : random.below(50));
        memory.u32[index * 4 + 2] = index + 1;
        memory.u32[index * 4 + 3] = 0;
      }
      adoption.begin(count);
      expect(adoption.add(memory, { at: 0, bytes: count * ENTRY_BYTES }, Infinity)).toBe(true);
      queue.adopt(space, adoption.finish());
      const swept: number[] = [];
      while (queue.takeDue(space, Infinity)) swept.push(queue.deadlineMs);
      expect(swept.length).toBe(count);
      expect(swept).toEqual(swept.toSorted((one, other) => one - other));
    }
  }
});

test("what is put back and finds no memory makes the queue unknown, and fails nothing", () => {
  using fixture = new QueueFixture();
  const { queue, space, heap } = fixture;
  // As many entries as a page takes.
  for (let key = 0; key < 249; key += 1) fixture.put(key, key, key + 1);
  const { low, high } = fixture.slotOf(0);
  heap.takePage = () => {
    throw new EmdbError("EMDB_FULL", "no memory");
  };
  queue.restore(space, 1, low, high);
  expect(queue.isUnknown(space)).toBe(true);
  // A fault of ours is no want of memory.
  queue.begin(space);
  queue.count(space, 1, 0);
  heap.takePage = () => {
    throw new Ended();
  };
  heap.takeUnit = heap.takePage;
  expect(() => queue.restore(space, 1, low, high)).toThrow(Ended);
});

/** The last position before a compaction; each frame has then moved by so many units. */
const MOVED = 100_000;
const present = (units: number): number => (units < MOVED ? units + MOVED : units);

test.each([311, 312, 313])("a queue that is led over in parts names each record where it is now (seed %d)", (seed) => {
  const random = new Random(seed);
  using fixture = new QueueFixture();
  const { queue, space, keydir } = fixture;
  for (let key = 0; key < 3000; key += 1) fixture.put(key, random.below(HASHES), random.below(5000));
  queue.present = present;
  fixture.skipTo(2 * MOVED);
  for (const entry of fixture.model.values()) {
    expect(fixture.find(entry.hash, entry.units)).toBeGreaterThan(0);
    entry.units = present(entry.units);
    keydir.replace(entry.units, false);
  }
  let nowMs = 0;
  let next = 3000;
  for (let from = 0; from >= 0; from = queue.relocate(space, { from, count: 200 })) {
    for (let left = 40; left > 0; left -= 1) {
      if (random.chance(0.5)) fixture.put((next += 1), random.below(HASHES), random.below(5000));
      else fixture.drop(random.below(3000));
    }
    // Stale ones are dropped meanwhile, and what is due goes: entries move up, and the last ones far down.
    nowMs += 60;
    while (queue.takeDue(space, nowMs)) {
      const { low, high } = queue;
      if (!queue.isHeld(space, low, high)) continue;
      const units = present((high & 15) * TWO_32 + low);
      const [key] = [...fixture.model].find(([, entry]) => entry.units === units)!;
      fixture.drop(key);
    }
  }
  queue.present = undefined;
  const left = sorted([...fixture.deadlines.keys()]);
  expect(left.length).toBeGreaterThan(500);
  expect(sorted(fixture.sweep(Infinity))).toEqual(left);
});

test("what left a queue in a batch by its old position is put back by its present one", () => {
  using fixture = new QueueFixture();
  const { queue, space, keydir } = fixture;
  fixture.put(1, 7, 10);
  queue.present = present;
  const entry = fixture.model.get(1)!;
  expect(fixture.find(entry.hash, entry.units)).toBeGreaterThan(0);
  entry.units = present(entry.units);
  keydir.replace(entry.units, false);
  queue.beginBatch();
  expect([queue.takeDue(space, 10), queue.facts(space).entries]).toEqual([true, 0]);
  const { low, high } = fixture.slotOf(1);
  expect(present((queue.high & 15) * TWO_32 + queue.low)).toBe((high & 15) * TWO_32 + low);
  queue.restore(space, 10, low, high);
  expect(queue.facts(space).entries).toBe(1);
});

test("an entry whose frame has not been copied is stale, also beside a removal of which that is so as well", () => {
  using fixture = new QueueFixture();
  const { queue, space } = fixture;
  fixture.put(1, 7, 10);
  const { low, high } = fixture.slotOf(1);
  fixture.remove(1, 0);
  queue.present = () => 0;
  expect(queue.isHeld(space, low, high)).toBe(false);
});

test("what is due at a moment is due at its own deadline, and not before", () => {
  using fixture = new QueueFixture();
  const { queue, space } = fixture;
  for (let key = 0; key < 20; key += 1) fixture.put(key, key, 100);
  for (const [nowMs, due] of [
    [99, 0],
    [100, 20],
  ] as const) {
    let visits = 0;
    queue.eachDue(space, { nowMs, most: Infinity }, () => (visits += 1));
    expect([visits, queue.isDue(space, nowMs)]).toEqual([due, due > 0]);
  }
});
