/**
 * A process of its own for the tests of this folder: `child.ts <what> <path>`. It says "ready", waits for a line,
 * does it, says how that went in one line, and ends when its input does.
 */

import { writeSync } from "node:fs";
import { EmdbError } from "../../src/errors.ts";
import { Emdb } from "../../src/index.ts";

const [what = "", path = ""] = process.argv.slice(2);
const input = console[Symbol.asyncIterator]();

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** The code of what `body` throws, or what it says. */
function outcomeOf(body: () => string): string {
  try {
    return body();
  } catch (error) {
    return error instanceof EmdbError ? error.code : String(error);
  }
}

const held: Emdb[] = [];
const actions: Readonly<Record<string, () => string>> = {
  open() {
    held.push(Emdb.open(path));
    return "open";
  },
  /** Begins to wait when it has said so. */
  "open when free"() {
    writeSync(1, `${outcomeOf(() => (Emdb.open(path, { lockTimeoutMs: 20 }), "open"))}\n`);
    held.push(Emdb.open(path, { lockTimeoutMs: Infinity }));
    return `open ${held[0]!.getText("last")}`;
  },
  "write and hold"() {
    const db = Emdb.open(path);
    held.push(db);
    db.insert("flushed", "by the child");
    db.flushSync();
    return "written";
  },
  /** Flushed batches one after another, each of two records that belong together, until the process is ended. */
  "write for ever"() {
    const db = Emdb.open(path);
    held.push(db);
    let round = 0;
    const more = (): void => {
      for (let count = 0; count < 20; count += 1) {
        round += 1;
        const value = String(round).padEnd(30 + (round % 300), ".");
        db.insertMany([
          ["left", value],
          ["right", value],
          [`key ${round % 500}`, value],
        ]);
        if (round % 3 === 0) db.flushSync();
      }
      setImmediate(more);
    };
    setImmediate(more);
    return "writing";
  },
  /** A batch that has reached the file but for its end, by a process that then stands still until it is killed. */
  "write half a batch"() {
    const db = Emdb.open(path);
    db.insert("flushed", "by the child");
    db.flushSync();
    const entries = Array.from({ length: 20 }, (_, index): [string, string] => [
      `key ${index}`,
      "x".repeat(index % 9 === 8 ? 50_000 : 100),
    ]);
    db.insertMany(entries);
    // No turn of the event loop writes the rest.
    writeSync(1, "half\n");
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    return "woken";
  },
  "read and hold"() {
    const db = Emdb.open(path, { readOnly: true });
    held.push(db);
    return `${db.len()} ${db.getText("flushed")}`;
  },
  inspect() {
    const db = Emdb.open(path, { readOnly: true });
    const state = [...db].map(([key, value]) => `${key.toHex()}=${value.toHex()}`).sort();
    db.closeSync();
    return `${state.length} ${Bun.hash(state.join()).toString(16)}`;
  },
};

say("ready");
await input.next();
const outcome = outcomeOf(actions[what] ?? (() => `no action ${what}`));
// The mark behind what was flushed is there when it is told.
await Promise.resolve();
say(outcome);
await input.next();
for (const db of held) db.closeSync();
process.exit(0);
