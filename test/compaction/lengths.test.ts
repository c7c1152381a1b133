/** Keys and values of every length that decides how a frame is built are copied as they are. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { Emdb, type OpenOptions } from "../../src/index.ts";
import { COPIED_FRAME_BYTES_MAX, KEY_BYTES_MAX, RING_FRAME_BYTES_MAX } from "../../src/limits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(60_000);

const KEYS = [1, 40, 4000, 4100, COPIED_FRAME_BYTES_MAX - 100, COPIED_FRAME_BYTES_MAX, 40_000, KEY_BYTES_MAX];
const VALUES = [0, 100, 4096, 4097, COPIED_FRAME_BYTES_MAX, RING_FRAME_BYTES_MAX];
const ways: readonly (readonly [string, OpenOptions | undefined])[] = [
  ["in a file", {}],
  ["in an encrypted file", { encryption: { key: new Uint8Array(32).fill(1) } }],
  ["in memory", undefined],
];

function bytesOf(length: number, first: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(length % 251);
  if (length > 0) bytes[0] = first;
  return bytes;
}

test.each(ways)("a compaction and a backup of records of many lengths %s", async (_, options) => {
  using folder = temporaryFolder();
  const open = (path: string): Emdb => (options === undefined ? Emdb.openInMemory() : Emdb.open(path, options));
  using db = open(folder.file("data.emdb"));
  const records = KEYS.flatMap((keyBytes) =>
    VALUES.map((valueBytes, index) => [bytesOf(keyBytes, index), bytesOf(valueBytes, 7)] as const),
  );
  const expectAll = (held: Emdb): void => {
    expect(held.len()).toBe(records.length);
    for (const [key, value] of records) {
      if (Buffer.compare(held.get(key) ?? new Uint8Array([1]), value) !== 0)
        throw new Error(`the value of ${value.length} bytes under a key of ${key.length}`);
    }
  };
  const gone = KEYS.map((keyBytes) => bytesOf(keyBytes, 99));
  db.insertMany(records);
  db.insertMany(gone.map((key) => [key, "gone"] as const));
  // Their removals are copied too, as long as somebody may ask for what was before them.
  const held = db.iter();
  held.next();
  db.removeMany(gone);
  await db.compact();
  expectAll(db);
  expect([...held].length).toBe(records.length + gone.length - 1);
  await db.backupTo(folder.file("copy.emdb"));
  using copy = Emdb.open(folder.file("copy.emdb"), options ?? {});
  expectAll(copy);
  expect((await copy.verify()).problems).toEqual([]);
});
