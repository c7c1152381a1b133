/** A database in memory that is not closed goes when nothing of it can be reached any more, and not before. */

import { expect, test } from "bun:test";
import { Emdb, type EmdbShare } from "../../src/index.ts";
import { Thread } from "./thread.ts";
import { canCount, resourcesIn } from "./resources.ts";

const DATABASES = 60;
/** The collector looks at the stack for what may be an address, and so may keep a few. */
const KEPT_MAX = 10;
const ROUNDS_MAX = 60;

const large = (): number => resourcesIn("/nowhere").largeMappings;

/** Collects, and lets the event loop turn, until something holds. */
async function until(holds: () => boolean): Promise<boolean> {
  for (let round = 0; round < ROUNDS_MAX && !holds(); round += 1) {
    Bun.gc(true);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return holds();
}

/** A database with some records, of which only one part is kept. */
function partOf<T>(part: (db: Emdb) => T): T {
  const db = Emdb.openInMemory({ rangeScans: true });
  db.insertMany(Array.from({ length: 500 }, (_, index) => [`key ${index}`, `value ${index}`] as const));
  db.namespace("named").insert("a", "in it");
  return part(db);
}

test.skipIf(!canCount)("databases that were only dropped give their memory back", async () => {
  const before = large();
  for (let index = 0; index < DATABASES; index += 1) partOf((db) => db.len());
  expect(large()).toBeGreaterThan(before + DATABASES);
  expect(await until(() => large() <= before + 2 * KEPT_MAX)).toBe(true);
});

test("what is left of a database keeps it: a namespace, an iterator, a range, a view, a stream, a compaction", async () => {
  const parts = Array.from({ length: 8 }, () => ({
    namespace: partOf((db) => db.namespace("named")),
    iterator: partOf((db) => db.iter()[Symbol.iterator]()),
    range: partOf((db) => db.range({ gte: "key 100" })[Symbol.iterator]()),
    focus: partOf((db) => db.focus("some")),
    stream: partOf((db) => db.stream().getReader()),
    compaction: partOf((db) => db.compact().then(() => db.len())),
    get: partOf((db) => db.get.bind(db)),
  }));
  for (let index = 0; index < DATABASES; index += 1) partOf((db) => db.len());
  await until(() => false);
  for (const { namespace, iterator, range, focus, stream, compaction, get } of parts) {
    expect(namespace.getText("a")).toBe("in it");
    expect([...iterator].length).toBe(500);
    expect(range.next().done).toBe(false);
    focus.set("one", "1");
    expect(focus.containsKey("one")).toBe(true);
    expect((await stream.read()).done).toBe(false);
    expect(await compaction).toBe(500);
    expect(get("key 7")).toEqual(new TextEncoder().encode("value 7"));
  }
});

test("one that is shared stays until it is closed", async () => {
  const shares: EmdbShare[] = Array.from({ length: 8 }, () => partOf((db) => db.share()));
  await until(() => false);
  const thread = new Thread("guest-worker.ts", { do: "attach", share: shares[3]! });
  expect(await thread.said()).not.toHaveProperty("failure");
  await thread.kill();
  for (const share of shares) {
    const db = Emdb.attach(share);
    expect(db.getText("key 7")).toBe("value 7");
    db.closeSync();
  }
});

test("a handle that is closed twice over, by hand and by the collector, closes once", async () => {
  for (let index = 0; index < DATABASES; index += 1) partOf((db) => db.closeSync());
  const db = partOf((one) => one);
  await until(() => false);
  expect(db.len()).toBe(500);
  db.closeSync();
});
