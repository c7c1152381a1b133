/** What a writer is at, with the hash index, when it dies: each a change that lays tiny shards or their directory out anew. */

import type { Opened } from "../../src/engine/assemble.ts";
import { EmdbError } from "../../src/errors.ts";
import { keyOf, type Scene } from "./ordered-scenes.ts";

function keysOf(from: number, end: number, step = 2): string[] {
  return Array.from({ length: Math.ceil((end - from) / step) }, (_, at) => keyOf(from + at * step));
}

function insertEach({ engine }: Opened, keys: readonly string[], expiresAtMs = 0): void {
  for (const key of keys) engine.insert(engine.defaultSpace, key, `new ${key}`, expiresAtMs);
}

function insertMany({ engine }: Opened, keys: readonly string[]): void {
  engine.insertMany(
    engine.defaultSpace,
    keys,
    keys.map((key) => `new ${key}`),
    0,
  );
}

/** How deep the directory of the default key space is. */
function depthOf({ engine }: Opened): number {
  return engine.spaces.root(engine.defaultSpace) % 32;
}

/** Inserts until the directory is deeper than it was; returns how many keys that took. */
function deepen(writer: Opened): number {
  const before = depthOf(writer);
  let index = 1;
  for (; depthOf(writer) === before; index += 2) insertEach(writer, [keyOf(index)]);
  return index;
}

/** Between two of its stores the directory's entries disagree about a shard. */
export const MERGE = "a look at thin shards, which merges them";

const few = { keys: 60, isInOrder: true, touched: 40 } as const;
const many = { ...few, keys: 216 } as const;

export const INDEX_SCENES: Readonly<Record<string, Scene>> = {
  "new keys, one by one": {
    ...few,
    isStepwise: true,
    run: (writer) => insertEach(writer, keysOf(31, 71)),
  },
  "a batch with room made ahead": { ...few, run: (writer) => insertMany(writer, keysOf(1, 160)) },
  "a directory that becomes deeper": {
    ...many,
    isStepwise: true,
    run: (writer) => void deepen(writer),
  },
  "a directory that outgrows its unit": {
    ...many,
    isStepwise: true,
    prepare: (writer) => {
      for (let from = 1001; depthOf(writer) < 4; from += 2) insertEach(writer, [keyOf(from)]);
    },
    run: (writer) => void deepen(writer),
  },
  "removals, one by one": {
    ...many,
    isStepwise: true,
    prepare: (writer) => writer.engine.removeMany(writer.engine.defaultSpace, keysOf(100, 432)),
    run: ({ engine }) => {
      for (const key of keysOf(0, 90)) engine.remove(engine.defaultSpace, key);
    },
  },
  "a batch of removals that merges shards": {
    ...many,
    run: ({ engine }) => engine.removeMany(engine.defaultSpace, keysOf(6, 432)),
  },
  [MERGE]: {
    ...few,
    keys: 80,
    prepare: ({ engine }) => {
      const hold = engine.snapshots.hold(engine.defaultSpace);
      engine.removeMany(engine.defaultSpace, keysOf(6, 152));
      engine.snapshots.close(hold);
    },
    run: ({ engine }) => engine.removeMany(engine.defaultSpace, keysOf(152, 160)),
  },
  "a batch that fails when it has grown the index": {
    ...many,
    run: ({ engine }) => {
      const write = { space: engine.defaultSpace, value: "new", expiresAtMs: 0 };
      const failing = {
        ...write,
        key: keyOf(433),
        get value(): string {
          throw new EmdbError("EMDB_ABORTED", "given up");
        },
      };
      const writes = [...keysOf(1, 120), ...keysOf(0, 40)].map((key) => ({ ...write, key }));
      try {
        engine.writeBatch([...writes, failing]);
      } catch (error) {
        if (!(error instanceof EmdbError)) throw error;
      }
    },
  },
  "a clear and the first keys behind it": {
    ...many,
    isStepwise: true,
    run: (writer) => {
      writer.engine.clear(writer.engine.defaultSpace);
      insertEach(writer, keysOf(1, 9));
    },
  },
  "what a leave leaves to others": {
    ...few,
    isStepwise: true,
    run: (writer) => {
      const { mutex, reclaim } = writer.engine.core;
      insertEach(writer, keysOf(1, 80));
      mutex.lock();
      reclaim.finish();
      reclaim.leaveRest();
      mutex.unlock();
    },
  },
  "deadlines, one by one": {
    ...few,
    isStepwise: true,
    run: (writer) => insertEach(writer, keysOf(0, 60), 4e12),
  },
  "an image in one go": {
    ...few,
    prepare: (writer) => insertEach(writer, keysOf(1, 60), 4e12),
    run: (writer) => void writer.checkpoint?.runSync(),
  },
};
