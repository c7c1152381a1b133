/** What an open with a sound image reads of the log does not grow with the records in it, by system calls or through the mapping. */

import { copyFileSync, readFileSync, statSync, truncateSync } from "node:fs";
import { expect, setDefaultTimeout, test } from "bun:test";
import { hostSystem } from "../../src/ffi/host.ts";
import type { OpenMode, System } from "../../src/ffi/system.ts";
import { LOG_TAIL } from "../../src/log/log-words.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import type { Config } from "./open-engine.ts";

setDefaultTimeout(120_000);

const FEW = 2000;
const MANY = emulator === undefined ? 64_000 : 8000;
/** Records behind the image, every other one of a key that is in it. */
const BEHIND = 50;
/** Where a record's older version is far off its distance takes more bytes. */
const DISTANCE_BYTES = BEHIND * 8;
const encryption = { key: new Uint8Array(32).fill(7) };

const WAYS: readonly { readonly name: string; readonly config: Partial<Config> }[] = [
  { name: "a plain one", config: {} },
  { name: "an ordered one", config: { rangeScans: true } },
  { name: "one that is only read", config: { readOnly: true } },
  { name: "one sealed with AES", config: { encryption } },
  { name: "one sealed with ChaCha20", config: { encryption, cipher: "chacha20-poly1305" } },
  { name: "a sealed, ordered one", config: { encryption, rangeScans: true } },
  { name: "a sealed one that is only read", config: { encryption, readOnly: true } },
];

/** Makes a database of so many records, which is closed, or has died with something behind its image. */
async function make(path: string, count: number, { config, isClosed }: { config: Partial<Config>; isClosed: boolean }) {
  const made = new EngineFixture(isClosed ? path : `${path}-alive`, hostSystem(), { ...config, readOnly: false });
  const { engine, opened, sync } = made;
  const keys = Array.from({ length: count }, (_, index) => `key ${index}`);
  const values = keys.map(() => new Uint8Array(150));
  engine.insertMany(engine.defaultSpace, keys, values, 0);
  if (!isClosed) {
    await opened.checkpoint!.run();
    for (let index = 0; index < BEHIND; index += 1)
      engine.insert(engine.defaultSpace, index % 2 === 0 ? `new ${index}` : `key ${index * 37}`, "behind", 0);
    sync.flush();
    for (const name of ["", ".hint"]) copyFileSync(`${path}-alive${name}`, path + name);
    // What is reserved is read, and there is more of it the longer the log is.
    truncateSync(path, engine.core.control.log.numbers[LOG_TAIL]);
  }
  made.close();
}

/** A system that counts the bytes that are read of each file. */
function counting(system: System): { readonly system: System; readonly bytes: Map<string, number> } {
  const paths = new Map<number, string>();
  const bytes = new Map<string, number>();
  const counted = faulty(system, (call, args) => {
    if (call === "open") {
      const [path, mode] = args as [string, OpenMode];
      const handle = system.open(path, mode);
      paths.set(handle, path);
      return handle;
    }
    if (call !== "read") return undefined;
    const [handle, into, span] = args as Parameters<System["read"]>;
    const count = system.read(handle, into, span);
    const path = paths.get(handle)!;
    bytes.set(path, (bytes.get(path) ?? 0) + count);
    return count;
  });
  return { system: counted, bytes };
}

/** Bytes of a file that this process has looked at through its mappings, where the system tells. */
function lookedAt(path: string): number {
  if (process.platform !== "linux" || emulator !== undefined) return 0;
  const mappings = readFileSync("/proc/self/smaps", "utf8").split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/);
  const ours = mappings.filter((mapping) => mapping.split("\n", 1)[0]!.endsWith(` ${path}`));
  expect(ours).not.toBeEmpty();
  return ours.reduce((sum, mapping) => sum + 1024 * Number(/^Rss: +(\d+) kB$/m.exec(mapping)![1]), 0);
}

/** What an open reads; the database is the one that was made. */
function costOf(path: string, config: Partial<Config>, records: { readonly all: number; readonly replayed: number }) {
  const { system, bytes } = counting(hostSystem());
  using fixture = new EngineFixture(path, system, config);
  const cost = { log: bytes.get(path)!, image: bytes.get(`${path}.hint`)!, mapped: lookedAt(path) };
  const { engine, opened } = fixture;
  expect(opened.base.recovery).toMatchObject({ usedCheckpoint: true, replayedRecords: records.replayed });
  expect(engine.count(engine.defaultSpace)).toBe(records.all);
  return cost;
}

test.each(WAYS)("to open $name that was closed takes as much of the log with many records as with few", async (way) => {
  const { config } = way;
  using folder = temporaryFolder();
  const [few, many] = [folder.file("few"), folder.file("many")];
  await make(few, FEW, { config, isClosed: true });
  await make(many, MANY, { config, isClosed: true });
  const cost = costOf(many, config, { all: MANY, replayed: 0 });
  expect(cost.log).toBe(costOf(few, config, { all: FEW, replayed: 0 }).log);
  expect(cost.mapped).toBeLessThan(statSync(many).size / 4);
  // Once, but for pieces that overlap.
  expect(cost.image).toBeLessThan(statSync(`${many}.hint`).size * 1.3);
});

test.each(WAYS)("to open $name that has died takes of the log what is behind the image", async ({ config }) => {
  using folder = temporaryFolder();
  const [few, many] = [folder.file("few"), folder.file("many")];
  await make(few, FEW, { config, isClosed: false });
  await make(many, MANY, { config, isClosed: false });
  const added = BEHIND / 2;
  const cost = costOf(many, config, { all: MANY + added, replayed: BEHIND });
  const { log } = costOf(few, config, { all: FEW + added, replayed: BEHIND });
  expect(cost.log).toBeLessThanOrEqual(log + DISTANCE_BYTES);
  expect(cost.mapped).toBeLessThan(statSync(many).size / 4);
});
