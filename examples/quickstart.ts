/**
 * A first look: `npx -y bun@1.4.5 run quickstart`.
 *
 * Puts every file of the installed `typescript` package into a database in `./quickstart-data`, reads all of it back
 * against the originals, overwrites and removes some, closes, reopens and checks again. The database stays there:
 * `npx -y bun@1.4.5 run quickstart package.json` prints one of its records.
 */

import { mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { Emdb } from "emdb";

const source = dirname(Bun.resolveSync("typescript/package.json", import.meta.dir));
const folder = process.env["EMDB_QUICKSTART_FOLDER"] ?? resolve("quickstart-data");
const path = join(folder, "typescript.emdb");
const run = "npx -y bun@1.4.5 run";

const OVERWRITTEN_COUNT = 20;
const REMOVED_COUNT = 10;

interface Row {
  readonly what: string;
  readonly records: number;
  readonly bytes: number;
  readonly ms: number;
}

/** Runs one step and notes how long it took. */
function timed<T>(work: () => T): { readonly result: T; readonly ms: number } {
  const started = performance.now();
  const result = work();
  return { result, ms: performance.now() - started };
}

/** Every file of the package: its path with forward slashes, and its bytes. */
function originals(): Map<string, Uint8Array> {
  const names = readdirSync(source, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(source.length + 1));
  return new Map(names.sort().map((name) => [name.replaceAll("\\", "/"), readFileSync(join(source, name))]));
}

/** Reads every record of the database and compares it with what it should be. */
function readAll(db: Emdb, expected: ReadonlyMap<string, Uint8Array>): number {
  const keys = [...expected.keys()];
  const values = db.getMany(keys);
  for (const [index, key] of keys.entries()) {
    const [value, original] = [values[index], expected.get(key)];
    if (value === undefined || original === undefined || Buffer.compare(value, original) !== 0) {
      throw new Error(`${key} is not what was put in`);
    }
  }
  if (db.len() !== expected.size) throw new Error(`there are ${db.len()} records, not ${expected.size}`);
  return keys.length;
}

const bytesOf = (entries: ReadonlyMap<string, Uint8Array>): number =>
  [...entries.values()].reduce((sum, value) => sum + value.length, 0);
const sizeOf = (bytes: number): string =>
  bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;

function print(rows: readonly Row[]): void {
  console.log(`\n${"".padEnd(26)}${"records".padStart(9)}${"bytes".padStart(12)}${"time".padStart(12)}`);
  for (const { what, records, bytes, ms } of rows) {
    const cells = [String(records), bytes === 0 ? "" : sizeOf(bytes), `${ms.toFixed(2)} ms`];
    console.log(`${what.padEnd(26)}${cells[0]?.padStart(9)}${cells[1]?.padStart(12)}${cells[2]?.padStart(12)}`);
  }
}

/** Loads, reads, changes; returns what the database holds then. */
function fill(db: Emdb, rows: Row[]): Map<string, Uint8Array> {
  const files = originals();
  const loaded = timed(() => db.insertMany(files));
  rows.push({ what: "load, one batch", records: loaded.result, bytes: bytesOf(files), ms: loaded.ms });

  const read = timed(() => readAll(db, files));
  rows.push({ what: "read all and compare", records: read.result, bytes: bytesOf(files), ms: read.ms });

  const expected = new Map(files);
  const keys = [...files.keys()];
  const fresh = new Map(keys.slice(0, OVERWRITTEN_COUNT).map((key) => [key, Buffer.from(`a new text for ${key}`)]));
  for (const [key, value] of fresh) expected.set(key, value);
  const overwritten = timed(() => {
    for (const [key, value] of fresh) db.insert(key, value);
  });
  rows.push({ what: "overwrite some", records: fresh.size, bytes: bytesOf(fresh), ms: overwritten.ms });

  const gone = keys.slice(OVERWRITTEN_COUNT, OVERWRITTEN_COUNT + REMOVED_COUNT);
  for (const key of gone) expected.delete(key);
  const removed = timed(() => db.removeMany(gone));
  rows.push({ what: "remove some", records: removed.result, bytes: 0, ms: removed.ms });
  return expected;
}

async function main(): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (const name of [path, `${path}.lock`, `${path}.hint`]) rmSync(name, { force: true });
  console.log(`The database is ${path}`);

  const rows: Row[] = [];
  const db = Emdb.open(path);
  const expected = fill(db, rows);
  const flushStarted = performance.now();
  await db.flush();
  rows.push({ what: "flush (durable now)", records: 0, bytes: 0, ms: performance.now() - flushStarted });
  await db.close();

  const opened = timed(() => Emdb.open(path));
  using again = opened.result;
  rows.push({ what: "open again", records: again.len(), bytes: 0, ms: opened.ms });
  const checked = timed(() => readAll(again, expected));
  rows.push({ what: "read all and compare", records: checked.result, bytes: bytesOf(expected), ms: checked.ms });

  print(rows);
  const { fileSizeBytes, deadBytes, indexBytes } = again.stats();
  console.log(`\nfile ${sizeOf(fileSizeBytes)}, of it overwritten or removed ${sizeOf(deadBytes)}`);
  console.log(`index ${sizeOf(indexBytes)} of memory`);
  console.log(`\nEverything is as it should be. The database stays in ${folder}`);
  console.log(`Print a record of it:   ${run} quickstart package.json`);
  console.log(`Run the tests:          ${run} test`);
}

/** Prints one record of the database that an earlier run left. */
function show(key: string): void {
  using db = Emdb.open(path, { createIfMissing: false, readOnly: true });
  const text = db.getText(key);
  if (text !== undefined) {
    console.log(text);
    return;
  }
  const some = [...db.keys().take(5)].map((one) => new TextDecoder().decode(one));
  console.error(`There is no record "${key}". Some that there are: ${some.join(", ")}`);
  process.exitCode = 1;
}

const [key] = process.argv.slice(2);
if (key === undefined) await main();
else show(key);
