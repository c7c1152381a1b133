/** What the engine's tests share: a database's whole state as text, small logs with known states, and typed failures. */

import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "bun:test";
import { EmdbError, type EmdbErrorCode } from "../../src/errors.ts";
import { Emdb } from "../../src/index.ts";
import type { Keyspace } from "../../src/api/types.ts";
import { removeTree, temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { turn } from "../support/turns.ts";

/** Far enough away for every clock that a test may run under. */
export const LATER_MS = 4_000_000_000_000;

function spaceState(space: Keyspace): string[] {
  const records: string[] = [];
  for (const [key, value] of space.iter()) {
    const got = space.get(key);
    if (got === undefined || Buffer.compare(got, value) !== 0) throw new Error("get disagrees with the walk");
    records.push(`${key.toHex()}=${digest(value)}@${space.expiresAt(key)}`);
  }
  if (records.length !== space.len()) throw new Error(`${records.length} records walked, len says ${space.len()}`);
  return records.sort();
}

function digest(value: Uint8Array): string {
  return value.length <= 64 ? value.toHex() : `${value.length}:${Bun.hash(value).toString(16)}`;
}

/** Every key space with every record, deadlines included; walks, gets and counts are compared on the way. */
export function stateOf(db: Emdb): string {
  const spaces = db.listNamespaces().map((name) => [name, spaceState(db.namespace(name))]);
  return JSON.stringify([["", spaceState(db)], ...spaces]);
}

/** A log, and the state that each of its steps led to. */
export interface Story {
  /** The file as it was closed in good order. */
  readonly closed: Uint8Array;
  /** The file as a crash right after the last step would leave it: written to the end, flushed up to `flushedEnd`. */
  readonly crashed: Uint8Array;
  readonly flushedEnd: number;
  /** The first is the empty database. */
  readonly steps: readonly { readonly end: number; readonly state: string }[];
}

export type Step = (db: Emdb) => void;

/** Runs steps on a new database at `path`, flushes before the last `unflushed` of them, and tells what came of it. */
export async function tell(path: string, steps: readonly Step[], unflushed = 0): Promise<Story> {
  const db = Emdb.open(path);
  const told = [{ end: db.stats().logicalSizeBytes, state: stateOf(db) }];
  let flushedEnd = 0;
  for (const [index, step] of steps.entries()) {
    if (index === steps.length - unflushed) {
      db.flushSync();
      flushedEnd = db.stats().logicalSizeBytes;
    }
    step(db);
    told.push({ end: db.stats().logicalSizeBytes, state: stateOf(db) });
  }
  if (unflushed === 0) {
    db.flushSync();
    flushedEnd = db.stats().logicalSizeBytes;
  }
  await turn();
  const crashed = new Uint8Array(readFileSync(path));
  db.closeSync();
  return { closed: new Uint8Array(readFileSync(path)), crashed, flushedEnd, steps: told };
}

/** The state that a log which is whole up to `end` shows: that of the last step that ends there or before. */
export function stateAt(story: Story, end: number): { readonly end: number; readonly state: string } {
  const step = story.steps.findLast((one) => one.end <= end);
  if (step === undefined) throw new Error(`no step ends before ${end}`);
  return step;
}

/** Puts a log in place as a crash left it, before the close that has made an image of a later one. */
export function crashTo(path: string, bytes: Uint8Array): void {
  writeFileSync(path, bytes);
  rmSync(`${path}.hint`, { force: true });
}

/** What came of an open. */
export type Outcome =
  | { readonly kind: "open"; readonly state: string; readonly tornBytes: number; readonly missingBytes: number }
  | { readonly kind: "error"; readonly code: EmdbErrorCode; readonly offset: number | undefined };

/** Opens, looks at everything, closes. Whatever is thrown must be an EmdbError. */
export function tryOpen(path: string): Outcome {
  let db: Emdb;
  try {
    db = Emdb.open(path, { createIfMissing: false });
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
    return { kind: "error", code: error.code, offset: error.offset };
  }
  try {
    return {
      kind: "open",
      state: stateOf(db),
      tornBytes: db.recovery.tornBytes,
      missingBytes: db.recovery.missingBytes,
    };
  } finally {
    db.closeSync();
  }
}

/** Puts a log at a path, without what an earlier one left beside it: the log alone then decides. */
export function place(path: string, bytes: Uint8Array): void {
  for (const sidecar of [".hint", ".lock"]) rmSync(path + sidecar, { force: true });
  writeFileSync(path, bytes);
}

/** As `temporaryFolder`, in memory where the platform has such a folder: for tests that open thousands of files. */
export function fastFolder(): TemporaryFolder {
  if (!existsSync("/dev/shm")) return temporaryFolder();
  const path = mkdtempSync("/dev/shm/emdb-test-");
  return { path, file: (name) => join(path, name), [Symbol.dispose]: () => removeTree(path) };
}

/** Opens what must not open: nothing on the disk has changed by it, and nothing was left. */
export function expectRefused(path: string, code: EmdbErrorCode): Extract<Outcome, { kind: "error" }> {
  const before = snapshotOf(path);
  const outcome = tryOpen(path);
  if (outcome.kind !== "error" || outcome.code !== code) {
    throw new Error(`expected ${code}, got ${JSON.stringify(outcome).slice(0, 300)}`);
  }
  if (snapshotOf(path) !== before) throw new Error("a refused open changed the disk");
  return outcome;
}

function snapshotOf(path: string): string {
  const folder = path.slice(0, Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")));
  const names = readdirSync(folder).sort();
  return `${names.join()} ${existsSync(path) ? Bun.hash(readFileSync(path)).toString(16) : "none"}`;
}

/** Writes a file with nothing beside it, opens it, and expects this state. */
export function expectOpens(path: string, bytes: Uint8Array, state: string): { readonly tornBytes: number } {
  place(path, bytes);
  const outcome = tryOpen(path);
  if (outcome.kind !== "open") throw new Error(`expected to open, got ${JSON.stringify(outcome)}`);
  expect(outcome.state).toBe(state);
  return outcome;
}

/** Expects a call to throw an `EmdbError` with this code. */
export function expectCode(code: EmdbErrorCode, call: () => unknown): EmdbError {
  let thrown: unknown;
  try {
    call();
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(EmdbError);
  expect((thrown as EmdbError).code).toBe(code);
  return thrown as EmdbError;
}

/** A small log with everything in it: single writes, batches, removes, clears, namespaces, deadlines. */
export const EVERYTHING: readonly Step[] = [
  (db) => db.insert("alpha", "1"),
  (db) => db.insert("beta", new Uint8Array(40).fill(7)),
  (db) => db.insert("alpha", "second version", { expiresAtMs: LATER_MS }),
  (db) => db.insertMany(["b1", "b2", "b3", "b4"].map((key): [string, string] => [key, `batch ${key}`])),
  (db) => void db.remove("beta"),
  (db) => void db.namespace("named"),
  (db) => db.namespace("named").insert("alpha", "in the namespace"),
  (db) => void db.removeMany(["b1", "b3", "none"]),
  (db) => {
    db.transaction((tx) => {
      tx.insert("t1", "x");
      tx.namespace("named").insert("t2", "y", { expiresAtMs: LATER_MS });
      tx.remove("b2");
    });
  },
  (db) => void db.namespace("other"),
  (db) =>
    db.namespace("other").insertMany([
      ["k", "v"],
      ["l", "w"],
    ]),
  (db) => db.namespace("named").clear(),
  (db) => db.namespace("named").insert("after", "clear"),
  (db) => void db.dropNamespace("other"),
  (db) => db.insert("", ""),
  (db) =>
    db.insertMany([
      ["user.1", "a"],
      ["user.2", "b"],
      ["user.3", "c"],
    ]),
  (db) => void db.deleteGroup("user"),
  (db) => db.insert("beta", "again"),
  (db) => db.insert("alpha", "third"),
];
