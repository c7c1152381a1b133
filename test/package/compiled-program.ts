/**
 * The program that `compiled.test.ts` compiles into one executable.
 *
 *   write <path>   opens, writes and flushes 1000 records, says so, then writes without a flush until it is killed
 *   check <path>   reopens: the flushed records are whole, none is wrong, writing goes on, and a close is clean
 */

import { Emdb } from "emdb";

const FLUSHED = 1000;
const valueOf = (index: number): string => `value ${index} `.repeat(1 + (index % 20));

function write(path: string): void {
  const db = Emdb.open(path);
  for (let index = 0; index < FLUSHED; index++) db.insert(`key ${index}`, valueOf(index));
  db.flushSync();
  console.log(`flushed ${FLUSHED}`);
  let next = FLUSHED;
  setInterval(() => {
    for (const end = next + 100; next < end; next++) db.insert(`key ${next}`, valueOf(next));
  }, 1);
}

function check(path: string): void {
  using db = Emdb.open(path, { createIfMissing: false });
  const count = db.len();
  if (count < FLUSHED) throw new Error(`${count} records are left of ${FLUSHED} flushed ones`);
  for (let index = 0; index < count; index++) {
    if (db.getText(`key ${index}`) !== valueOf(index)) throw new Error(`record ${index} of ${count} is not as written`);
  }
  db.insert("after", "the crash");
  db.flushSync();
  console.log(`sound ${db.len() - 1}`);
}

const [mode, path = ""] = process.argv.slice(2);
if (mode === "write") write(path);
else if (mode === "check") check(path);
else throw new Error(`no such mode: ${mode}`);
