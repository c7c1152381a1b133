/**
 * A thread dies at every single step of an operation; the others see the operation whole or not at all, go on at once,
 * and find the same after a reopen.
 */

import { expect, test } from "bun:test";
import { copyFileSync, rmSync } from "node:fs";
import type { SharedBase } from "../../src/engine/threads/base.ts";
import { Control } from "../../src/engine/threads/control.ts";
import { Emdb } from "../../src/index.ts";
import { emulator, sampleOf } from "../support/platform.ts";
import { roomyFolder } from "../support/temporary-folder.ts";
import { operations, shown, type Content, type OperationName } from "./operations.ts";
import { expectSoon } from "./soon.ts";
import { Thread } from "./thread.ts";

const BASE = 1200;
/** Steps of one operation that are tried, spread over all of them. */
const STEPS_MAX = process.env["EMDB_SOAK"] !== undefined ? 1000 : emulator === undefined ? 20 : 2;
/** The last of them, each of which is tried. */
const LAST_STEPS = emulator === undefined ? 8 : 1;
const TIMEOUT_MS = 240_000;
/**
 * A thread that has not come to its step by then never will. Generous, since on a machine with ten times as many busy
 * threads as processors a new Worker was seen to take 8 s to its first step, and was well.
 */
const STANDSTILL_MS = 100_000;

function fill(db: Emdb): void {
  db.clear();
  for (const name of db.listNamespaces()) db.dropNamespace(name);
  db.insertMany(Array.from({ length: BASE }, (_, index) => [`base ${index}`, `value ${index}`] as const));
  const there = db.namespace("there");
  there.insert("a", "1");
  there.insert("b", "2");
}

/** What the default key space holds; a walk, the gets and the count must agree on it. */
function contentOf(db: Emdb): Content {
  const content: Content = {};
  for (const [key, value] of db.iter()) content[Buffer.from(key).toString()] = shown(Buffer.from(value).toString());
  const keys = Object.keys(content);
  expect(db.len()).toBe(keys.length);
  for (const [index, value] of db.getMany(keys).entries()) {
    const got = shown(Buffer.from(value ?? []).toString());
    if (got !== content[keys[index]!])
      throw new Error(`${keys[index]} is ${content[keys[index]!]} in a walk, ${got} got`);
  }
  return content;
}

function namespacesOf(db: Emdb): Record<string, Content> {
  return Object.fromEntries(
    db.listNamespaces().map((name) => {
      const space = db.namespace(name);
      const content = Object.fromEntries(
        [...space.iter()].map(([key, value]) => [Buffer.from(key).toString(), Buffer.from(value).toString()]),
      );
      expect(space.len()).toBe(Object.keys(content).length);
      return [name, content];
    }),
  );
}

interface Run {
  readonly share: ReturnType<Emdb["share"]>;
  readonly operation: OperationName;
  readonly step: number;
  readonly hasPending?: boolean;
}

/** Lets a thread do the operation up to a step and ends it there; false when there is no such step. Counts the steps. */
async function dieAt({
  share,
  operation,
  step,
  hasPending = false,
}: Run): Promise<{ hasDied: boolean; steps: number }> {
  const report = new SharedArrayBuffer(16);
  const words = new Int32Array(report);
  const thread = new Thread("dying-worker.ts", { share, operation, step, hasPending, report });
  const outcome = Atomics.waitAsync(words, 0, 0, STANDSTILL_MS);
  // A thread that fails says so, and is not waited for.
  const said = outcome.async ? await Promise.race([outcome.value, thread.said()]) : outcome.value;
  const shared = new Control((share as SharedBase).buffer);
  const state = `report ${words.join(" ")}, flags ${shared.flags.join(" ")}, rows ${shared.reclaim.subarray(0, 8).join(" ")}`;
  await thread.kill();
  expect(thread.failure).toBeUndefined();
  if (said === "timed-out") throw new Error(`the thread stands still before step ${step}: ${state}`);
  return { hasDied: words[0] === 1, steps: words[1]! };
}

/** Which states of the namespaces an operation may leave. */
const NAMESPACES = [
  { there: { a: "1", b: "2" } },
  { there: { a: "1", b: "2" }, made: {} },
  { there: { a: "1", b: "2" }, filled: {} },
  { there: { a: "1", b: "2" }, filled: { first: "in it" } },
  { there: { a: "1", b: "2" }, born: { first: "in it", second: "in it" } },
  {},
];

function expectBeforeOrAfter(db: Emdb, operation: OperationName, isInFile: boolean): void {
  const before = Object.fromEntries(Array.from({ length: BASE }, (_, index) => [`base ${index}`, `value ${index}`]));
  const after = { ...before };
  operations[operation].expect(after);
  const content = contentOf(db);
  const isBefore = content["new"] === undefined && Bun.deepEquals(content, before);
  if (!isBefore) expect(content).toEqual(after);
  if (!isInFile) return;
  const namespaces = namespacesOf(db);
  expect(NAMESPACES).toContainEqual(namespaces);
  if (operation === "a transaction that creates a namespace") expect("born" in namespaces).toBe(!isBefore);
}

/** How many nanoseconds the next write took. */
function goOn(db: Emdb): number {
  const started = Bun.nanoseconds();
  db.insert("afterwards", "written");
  const took = Bun.nanoseconds() - started;
  db.flushSync();
  expect(db.getText("afterwards")).toBe("written");
  expect(db.remove("afterwards")).toBeDefined();
  return took;
}

/** The log as it is on the disk, without an image, shows what the running database shows. */
function expectSameInCopy(db: Emdb, { path, copy }: { readonly path: string; readonly copy: string }): void {
  copyFileSync(path, copy);
  rmSync(`${copy}.hint`, { force: true });
  const again = Emdb.open(copy);
  expect(again.recovery.usedCheckpoint).toBe(false);
  expect([contentOf(again), namespacesOf(again)]).toEqual([contentOf(db), namespacesOf(db)]);
  again.closeSync();
  rmSync(copy);
}

/** Whether a flush comes between the death and the next write, and how the database is opened. */
const AFTER_DEATH = [
  { after: "a write right after a death", hasFlush: false, options: {} },
  { after: "a write right after a death in write-through", hasFlush: false, options: { flushPolicy: "write-through" } },
  { after: "a flush right after a death", hasFlush: true, options: {} },
] as const;
const APPENDING: readonly OperationName[] = [
  "insert",
  "remove",
  "a value too long for the ring",
  "a batch that grows the index",
  "a transaction with a long value",
  "a batch that ends with a long value",
  "creating a namespace",
  "a transaction that creates a namespace",
];

for (const [way, { after, hasFlush, options }] of AFTER_DEATH.entries()) {
  test.each(way === 0 ? APPENDING : sampleOf(APPENDING, 3))(
    `${after} at any step of %s leaves a log that can be read from its beginning`,
    async (operation) => {
      using folder = roomyFolder();
      const path = folder.file("data.emdb");
      using db = Emdb.open(path, options);
      fill(db);
      const { steps } = await dieAt({ share: db.share(), operation, step: 0 });
      const spreadCount = Math.ceil(STEPS_MAX / 2);
      const stride = Math.max(1, steps / spreadCount);
      // The last steps are those between the frames and their publication.
      const spread = Array.from({ length: spreadCount }, (_, index) => Math.floor(1 + index * stride));
      const last = Array.from({ length: Math.min(LAST_STEPS, steps) }, (_, back) => steps - back);
      const dieAndGoOn = async (step: number): Promise<number> => {
        fill(db);
        await dieAt({ share: db.share(), operation, step, hasPending: hasFlush });
        // Takes the lock over, and writes what is there.
        if (hasFlush) {
          db.flushSync();
          // What nobody could see is not made durable either.
          expectSameInCopy(db, { path, copy: folder.file(`flushed ${step}.emdb`) });
        } else db.remove("nothing");
        expectBeforeOrAfter(db, operation, true);
        const took = goOn(db);
        db.flushSync();
        expectSameInCopy(db, { path, copy: folder.file(`copy ${step}.emdb`) });
        return took;
      };
      for (const step of new Set([...spread, ...last])) await expectSoon(() => dieAndGoOn(step));
    },
    TIMEOUT_MS,
  );
}

for (const isInFile of [true, false]) {
  const where = isInFile ? "a file" : "memory";
  const names = Object.keys(operations) as OperationName[];
  // In memory a death leaves what it leaves in a file, without the file.
  test.each(isInFile ? names : sampleOf(names, 3))(
    `a thread that dies at any step of %s leaves a database in ${where} whole`,
    async (operation) => {
      using folder = roomyFolder();
      const path = folder.file("data.emdb");
      const open = (): Emdb => (isInFile ? Emdb.open(path) : Emdb.openInMemory());
      let db = open();
      fill(db);
      const whole = await dieAt({ share: db.share(), operation, step: 0 });
      expect(whole.hasDied).toBe(false);
      const stride = Math.max(1, whole.steps / STEPS_MAX);
      const dieAndGoOn = async (step: number): Promise<number> => {
        fill(db);
        if (step % 2 === 0) db.flushSync();
        await dieAt({ share: db.share(), operation, step });
        expectBeforeOrAfter(db, operation, isInFile);
        const took = goOn(db);
        expectBeforeOrAfter(db, operation, isInFile);
        const seen = [contentOf(db), namespacesOf(db)];
        if (!isInFile || step % 3 !== 0) return took;
        db.closeSync();
        db = open();
        expect([contentOf(db), namespacesOf(db)]).toEqual(seen);
        return took;
      };
      for (let at = 1; at <= whole.steps; at += stride) await expectSoon(() => dieAndGoOn(Math.floor(at)));
      db.closeSync();
    },
    TIMEOUT_MS,
  );
}
