/** Records that lie side by side in the log are brought into the cache as one piece, of which nothing is behind the log. */

import { statSync } from "node:fs";
import { expect, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { fastFolder } from "./fixture.ts";

const PAGE_BYTES = 4096;

const LENGTHS = [...Array.from({ length: 9 }, () => 470), 1];

/** Ten records, the last one short, behind one of some bytes; how long the file is then. */
function write(path: string, bytesBefore: number): number {
  const db = Emdb.open(path, { rangeScans: true });
  db.insert("before", new Uint8Array(bytesBefore));
  db.insertMany(LENGTHS.map((bytes, index) => [`key ${index}`, new Uint8Array(bytes).fill(index)] as const));
  db.closeSync();
  return statSync(path).size;
}

test("a range whose last record is the log's last reads nothing behind the file", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  const missing = PAGE_BYTES - (write(folder.file("first.emdb"), 8) % PAGE_BYTES);
  expect(write(path, 8 + missing) % PAGE_BYTES).toBe(0);
  using db = Emdb.open(path, { readOnly: true, rangeScans: true });
  const all = [...db.range({ gt: "before", limit: 10 })];
  expect(all.map(([key]) => new TextDecoder().decode(key))).toEqual(LENGTHS.map((_, index) => `key ${index}`));
  expect(all.map(([, value]) => [value.length, value[0]!])).toEqual(LENGTHS.map((length, index) => [length, index]));
  expect([...db.range({ gt: "before", reverse: true, limit: 10 })]).toEqual(all.toReversed());
});
