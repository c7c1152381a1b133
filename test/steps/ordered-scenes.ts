/** What a writer is at, with the ordered index, when it dies: each a change that reshapes a small tree in its own way. */

import type { Opened } from "../../src/engine/assemble.ts";
import type { Bytes } from "../../src/engine/contract.ts";
import type { Engine } from "../../src/engine/engine.ts";

/** Keys of a tree of four levels; those that came in order have left full nodes behind. */
const FULL = 216;
/** The next key in order needs a new root, over one leaf and over inner nodes. */
const FULL_LEAF = 6;
const FULL_ROOT = 36;
/** Without so many of the first keys the next removal takes the root away. */
const LAST_OF_ROOT = 29;

export interface Scene {
  /** How many keys there are, and whether they came in order: nodes are full then. */
  readonly keys: number;
  readonly isInOrder: boolean;
  /** What the survivor writes last before the writer begins: its copies of the nodes around that key are of the present. */
  readonly touched: number | undefined;
  /** Before that, by the writer to come or the survivor. */
  readonly prepare?: (writer: Opened, survivor: Opened, clock: Clock) => void;
  /** It writes one thing after the other: some of them are there then. */
  readonly isStepwise?: true;
  /** What the writer dies of. */
  readonly run: (writer: Opened) => void;
}

export interface Clock {
  nowMs: number;
}

/** In groups with long beginnings of their own: separators are short and long ones. */
export function keyOf(index: number): string {
  return `${"group".repeat(1 + (Math.floor(index / 60) % 3))} ${String(index).padStart(5, "0")}`;
}

function put(engine: Engine, index: number, value: Bytes, expiresAtMs = 0): void {
  engine.insert(engine.defaultSpace, keyOf(index), value, expiresAtMs);
}

function keysOf(from: number, end: number, step = 2): string[] {
  return Array.from({ length: Math.ceil((end - from) / step) }, (_, at) => keyOf(from + at * step));
}

const values = (keys: readonly string[]): string[] => keys.map((key) => `new ${key}`);

function insertMany({ engine }: Opened, keys: readonly string[]): void {
  engine.insertMany(engine.defaultSpace, keys, values(keys), 0);
}

function removeMany({ engine }: Opened, keys: readonly string[]): void {
  engine.removeMany(engine.defaultSpace, keys);
}

/** Tombstones that nobody needs any more when the hold is closed, which is behind the removals. */
function bury(opened: Opened, keys: readonly string[]): void {
  const { engine } = opened;
  const hold = engine.snapshots.hold(engine.defaultSpace);
  removeMany(opened, keys);
  engine.snapshots.close(hold);
}

export const SCENES: Readonly<Record<string, Scene>> = {
  "an overwrite": { keys: 60, isInOrder: false, touched: 40, run: ({ engine }) => put(engine, 40, "new") },
  "a new key": { keys: 60, isInOrder: false, touched: 40, run: ({ engine }) => put(engine, 41, "new") },
  "the first key": {
    keys: 0,
    isInOrder: true,
    touched: undefined,
    run: ({ engine }) => put(engine, 41, "new"),
  },
  "the first key after a clear": {
    keys: 60,
    isInOrder: true,
    touched: undefined,
    prepare: (_, { engine }) => engine.clear(engine.defaultSpace),
    run: ({ engine }) => put(engine, 41, "new"),
  },
  "a new key that makes a root over a leaf": {
    keys: FULL_LEAF,
    isInOrder: true,
    touched: 4,
    run: ({ engine }) => put(engine, 2 * FULL_LEAF, "new"),
  },
  "a new key that makes a root over inner nodes": {
    keys: FULL_ROOT,
    isInOrder: true,
    touched: 2 * FULL_ROOT - 2,
    run: ({ engine }) => put(engine, 2 * FULL_ROOT, "new"),
  },
  "a new key in a full tree": {
    keys: FULL,
    isInOrder: true,
    touched: 40,
    run: ({ engine }) => put(engine, 41, "new"),
  },
  "a new key at the end of a full tree": {
    keys: FULL,
    isInOrder: true,
    touched: 2 * FULL - 2,
    run: ({ engine }) => put(engine, 2 * FULL, "new"),
  },
  "a removal": {
    keys: 60,
    isInOrder: true,
    touched: 40,
    run: ({ engine }) => void engine.remove(engine.defaultSpace, keyOf(40)),
  },
  "a removal that takes the root away": {
    keys: FULL_ROOT + 1,
    isInOrder: true,
    touched: 2 * LAST_OF_ROOT + 2,
    prepare: ({ engine }) => {
      for (let at = 0; at < LAST_OF_ROOT; at += 1) engine.remove(engine.defaultSpace, keyOf(2 * at));
    },
    run: ({ engine }) => void engine.remove(engine.defaultSpace, keyOf(2 * LAST_OF_ROOT)),
  },
  "the removal of all but one of a leaf": {
    keys: FULL,
    isInOrder: true,
    touched: 2,
    prepare: (_, survivor) => removeMany(survivor, keysOf(4, 10)),
    run: (writer) => removeMany(writer, keysOf(2, 12)),
  },
  "removals that empty leaves and inner nodes": {
    keys: FULL,
    isInOrder: true,
    touched: 90,
    run: (writer) => removeMany(writer, keysOf(24, 160)),
  },
  "a batch of a few writes": {
    keys: FULL,
    isInOrder: true,
    touched: 40,
    run: ({ engine }) => {
      const space = engine.defaultSpace;
      const write = { space, value: "new", expiresAtMs: 0 };
      const [added, other, replaced, removed] = [41, 43, 40, 44].map((index) => ({ ...write, key: keyOf(index) }));
      engine.writeBatch([added!, other!, replaced!, { ...removed!, value: undefined }]);
    },
  },
  "a batch that fills leaves in order": {
    keys: FULL,
    isInOrder: true,
    touched: 40,
    run: (writer) => insertMany(writer, keysOf(31, 120, 3)),
  },
  "a batch that fills a namespace which it creates": {
    keys: 60,
    isInOrder: true,
    touched: 40,
    run: ({ engine }) => {
      const space = { newName: "born" };
      const writes = keysOf(0, 20).map((key) => ({ space, key, value: "new", expiresAtMs: 0 }));
      engine.writeBatch([...writes, { space: engine.defaultSpace, key: keyOf(41), value: "new", expiresAtMs: 0 }]);
    },
  },
  "a clear": { keys: 60, isInOrder: true, touched: 40, run: ({ engine }) => engine.clear(engine.defaultSpace) },
  "the drop of a namespace": {
    keys: 60,
    isInOrder: true,
    touched: 40,
    prepare: (_, { engine }) => {
      const space = engine.spaceNamed("there");
      for (const key of keysOf(0, 60)) engine.insert(space, key, "in it", 0);
    },
    run: ({ engine }) => void engine.dropSpace("there"),
  },
  "a sweep": {
    keys: 60,
    isInOrder: true,
    touched: 40,
    prepare: (_, { engine }, clock) => {
      for (let index = 10; index < 60; index += 1) put(engine, index, "due", clock.nowMs + 10);
      clock.nowMs += 20;
    },
    run: ({ engine }) => void engine.sweepExpired(engine.defaultSpace),
  },
  "a write that comes across old tombstones": {
    keys: FULL,
    isInOrder: true,
    touched: 40,
    prepare: (writer) => bury(writer, keysOf(8, 240)),
    run: ({ engine }) => put(engine, 240, "new"),
  },
  "a compaction's way through the index": {
    keys: FULL,
    isInOrder: true,
    touched: 40,
    prepare: (writer, survivor) => {
      bury(survivor, keysOf(60, 120));
      if (!writer.work.tryTake()) throw new Error("nobody else is at long work");
      for (const _ of writer.compaction.copySteps());
    },
    run: (writer) => {
      for (const _ of writer.compaction.relocationSteps());
      writer.work.give();
    },
  },
};
