/** Keys that share all bits of the hash that the index keeps, removed and written again, have one slot each after a replay. */

import { expect, test } from "bun:test";
import { copyFileSync } from "node:fs";
import type { Opened } from "../../src/engine/assemble.ts";
import { EmdbError } from "../../src/errors.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { pinned } from "../../src/ffi/memory.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { faulty } from "./engine-fixture.ts";
import { openFile } from "./open-engine.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const PAIRS = 6;

/** Each open seeds its index anew; here all draw the same. */
const system = faulty(hostSystem(), (call, [into]) => {
  if (call !== "random") return undefined;
  (into as Uint8Array).fill(7);
  return 0;
});

const memory = pinned(32);
function hashOf({ engine }: Opened, key: string): number {
  memory.u8.set(Buffer.from(key));
  return engine.core.hash.at(memory, 0, key.length);
}

/** Pairs of keys with one hash each; of some thirty thousand keys there are some. */
function pairsIn(opened: Opened): (readonly [string, string])[] {
  const seen = new Map<number, string>();
  const pairs: (readonly [string, string])[] = [];
  for (let index = 0; pairs.length < PAIRS; index += 1) {
    const key = `key ${index}`;
    const hash = hashOf(opened, key);
    const other = seen.get(hash);
    if (other !== undefined) pairs.push([other, key]);
    seen.set(hash, key);
  }
  return pairs;
}

/** How many slots name a frame of a key. */
function slotsOf(opened: Opened, key: string): number {
  const { core, spaces, defaultSpace } = opened.engine;
  let slots = 0;
  if (!core.keydir.seek(spaces.root(spaces.byId(defaultSpace.id)!), hashOf(opened, key))) return 0;
  while (core.keydir.next()) {
    core.lookup.loadAnyAt(core.keydir.units * 8);
    if (Buffer.from(core.lookup.keyCopy()).toString() === key) slots += 1;
  }
  return slots;
}

test.each([0, 1])(
  "a key that comes back when nothing says so takes the slot of its own removal, whichever was first (%d)",
  async (first) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const opened = openFile(system, path);
    const { engine } = opened;
    const { core, defaultSpace: space } = engine;
    const pairs = pairsIn(opened);
    for (const key of pairs.flat()) engine.insert(space, key, "before", 0);
    const fillers = Array.from({ length: 400 }, (_, index) => `filler ${index}`);
    engine.insertMany(space, fillers, fillers, 0);
    // One batch, so that replay keeps the removals for a while; this index has forgotten them, and what comes back names none.
    engine.removeMany(space, [...pairs.flatMap((pair) => (first === 0 ? pair : pair.toReversed())), ...fillers]);
    expect(pairs.map((pair) => slotsOf(opened, pair[1]))).toEqual(pairs.map(() => 0));
    for (const pair of pairs) engine.insert(space, pair[1], "again", 0);
    opened.sync?.flush();
    const copy = folder.file("copy.emdb");
    copyFileSync(path, copy);
    const again = openFile(system, copy);
    expect(pairs.map((pair) => slotsOf(again, pair[1]))).toEqual(pairs.map(() => 1));
    for (const [gone, back] of pairs) {
      expect(again.engine.get(space, gone)).toBeUndefined();
      expect(again.engine.get(space, back)).toEqual(new TextEncoder().encode("again"));
    }
    expect((await verifyDatabase(again, {})).problems).toEqual([]);
    expect(core.visible).toBe(again.engine.core.visible);
    again.leave();
    opened.leave();
  },
);

test.each([false, true])(
  "a key whose first version was taken back opens beside the removal of another one of its hash (encrypted: %p)",
  async (isEncrypted) => {
    const encryption = isEncrypted ? { key: new Uint8Array(32).fill(3) } : undefined;
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const opened = openFile(system, path, { encryption });
    const { engine } = opened;
    const { defaultSpace: space } = engine;
    const pairs = pairsIn(opened);
    for (const [gone] of pairs) engine.insert(space, gone, "before", 0);
    // Longer than what goes through the ring: the batch is in the file when it fails, and leaves removals that name nothing.
    const long = { space, key: "long", value: new Uint8Array(1_100_000), expiresAtMs: 0 };
    const failing = {
      ...long,
      get value(): Uint8Array {
        throw new EmdbError("EMDB_ABORTED", "given up");
      },
    };
    const first = pairs.map(([, back]) => ({ space, key: back, value: "early", expiresAtMs: 0 }));
    expect(() => engine.writeBatch([...first, long, failing])).toThrow("given up");
    for (const [gone] of pairs) engine.remove(space, gone);
    for (const [, back] of pairs) engine.insert(space, back, "late", 0);
    opened.sync?.flush();
    const copy = folder.file("copy.emdb");
    copyFileSync(path, copy);
    const again = openFile(system, copy, { encryption });
    for (const [gone, back] of pairs) {
      expect(again.engine.get(space, gone)).toBeUndefined();
      expect(again.engine.get(space, back)).toEqual(new TextEncoder().encode("late"));
    }
    expect((await verifyDatabase(again, {})).problems).toEqual([]);
    again.leave();
    opened.leave();
  },
);
