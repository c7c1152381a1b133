/**
 * Images with sound checks that no writer made: what they say and the log does not is no image, or EMDB_CORRUPTED where it
 * is met. No log is changed for the worse by it.
 */

import { expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import {
  CHUNK_BODY_BYTES_AT,
  CHUNK_FACTS_AT,
  CHUNK_HEAD_BYTES,
  CHUNK_KIND_AT,
  CHUNK_LEAVES,
  CHUNK_POSITION_AT,
  CHUNK_SHARD,
  CHUNK_SPACE,
  CHUNK_SPACE_AT,
  HINT_HEADER_BYTES,
  chunkBytes,
  chunkCheck,
} from "../../src/engine/hint/hint-format.ts";
import { pinned, type Pinned } from "../../src/ffi/memory.ts";
import { Emdb } from "../../src/index.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { KIND_CLEAR, KIND_PUT, writeWide } from "../../src/log/frame.ts";
import { LEAF_HEAD_BYTES, padded } from "../../src/ordered/leaf-copy.ts";
import { HEADER_BYTES } from "../../src/ordered/node.ts";
import { crc32 } from "../../src/log/checksum.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { framesOf } from "../encryption/attack-fixture.ts";
import { expectRejects } from "../contract/fixture.ts";
import { expectCode } from "./fixture.ts";

// Offsets in the header.
const FLAGS_AT = 12;
const BYTES_AT = 72;
const PAGES_AT = 80;
const CHUNKS_AT = 88;
const SALT_AT = 92;
const CHECK_AT = HINT_HEADER_BYTES - 8;

interface Chunk {
  readonly memory: Pinned;
  readonly bytes: number;
}

function kindOf({ u32 }: Pinned): number {
  return u32[CHUNK_KIND_AT >> 2]!;
}

/** A closed database with an image, of which chunks are changed and their checks made good again. */
class Forge implements Disposable {
  readonly #folder = temporaryFolder();
  readonly path = this.#folder.file("data.emdb");
  readonly #rangeScans: boolean;

  constructor(fill: (db: Emdb) => void, rangeScans = false) {
    this.#rangeScans = rangeScans;
    const db = Emdb.open(this.path, { rangeScans });
    fill(db);
    db.closeSync();
  }

  file(name: string): string {
    return this.#folder.file(name);
  }

  get log(): Uint8Array {
    return new Uint8Array(readFileSync(this.path));
  }

  /** Puts other chunks in the place of those of the image. */
  arrange(order: (chunks: readonly Chunk[]) => readonly Chunk[]): this {
    const bytes = readFileSync(`${this.path}.hint`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const chunks: Chunk[] = [];
    for (let at = HINT_HEADER_BYTES; at < bytes.length;) {
      const length = chunkBytes(view.getUint32(at + CHUNK_BODY_BYTES_AT, true));
      const memory = pinned(length);
      memory.u8.set(bytes.subarray(at, at + length));
      chunks.push({ memory, bytes: length });
      at += length;
    }
    const arranged = order(chunks);
    const parts = [bytes.subarray(0, HINT_HEADER_BYTES)];
    let [place, pages] = [HINT_HEADER_BYTES, 0];
    for (const { memory, bytes: length } of arranged) {
      memory.i32[0] = chunkCheck(memory, { at: 0, bytes: length, salt: view.getUint32(SALT_AT, true), place });
      parts.push(Buffer.from(memory.u8.slice(0, length)));
      if (kindOf(memory) === CHUNK_SHARD) pages += memory.u32[(CHUNK_FACTS_AT + 8) >> 2]!;
      place += length;
    }
    view.setBigUint64(BYTES_AT, BigInt(place), true);
    view.setUint32(PAGES_AT, pages, true);
    view.setUint32(CHUNKS_AT, arranged.length, true);
    view.setInt32(CHECK_AT, crc32(bytes.subarray(0, CHECK_AT), 0), true);
    writeFileSync(`${this.path}.hint`, Buffer.concat(parts));
    return this;
  }

  /** Changes the header. */
  header(change: (view: DataView) => void): this {
    const bytes = readFileSync(`${this.path}.hint`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    change(view);
    view.setInt32(CHECK_AT, crc32(bytes.subarray(0, CHECK_AT), 0), true);
    writeFileSync(`${this.path}.hint`, bytes);
    return this;
  }

  /** Changes each chunk of a kind. */
  change(kind: number, change: (chunk: Pinned) => void): this {
    return this.arrange((chunks) => {
      for (const { memory } of chunks) if (kindOf(memory) === kind) change(memory);
      return chunks;
    });
  }

  /** Changes the low and high word of each slot that is taken. */
  slots(change: (low: number, high: number) => readonly [number, number]): this {
    return this.change(CHUNK_SHARD, ({ u32 }) => {
      const first = CHUNK_HEAD_BYTES >> 2;
      const end = first + (u32[CHUNK_BODY_BYTES_AT >> 2]! >> 2);
      for (let word = first; word < end; word += 2) {
        if (u32[word] !== 0) [u32[word], u32[word + 1]] = change(u32[word]!, u32[word + 1]!) as [number, number];
      }
    });
  }

  open(rangeScans = this.#rangeScans): Emdb {
    return Emdb.open(this.path, { rangeScans, createIfMissing: false });
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

function fill(db: Emdb): void {
  for (let index = 0; index < 20; index++) db.insert(`key ${index}`, `value ${index}`);
}

const counts: readonly { readonly name: string; readonly change: (chunk: Pinned) => void }[] = [
  { name: "more records than the log has room for", change: (chunk) => writeWide(chunk, 32, 2 ** 40) },
  { name: "more bytes of records than the log has", change: (chunk) => writeWide(chunk, 40, 2 ** 45) },
];

test.each(counts)("an image that counts $name is none", ({ change }) => {
  for (const rangeScans of [false, true]) {
    using forge = new Forge(fill);
    using db = forge.change(CHUNK_SPACE, change).open(rangeScans);
    expect(db.recovery.usedCheckpoint).toBe(false);
    expect([db.len(), db.stats().liveRecords]).toEqual([20, 20]);
  }
});

test("an image with more slots in a shard than its pages have is none", () => {
  using forge = new Forge(fill);
  forge.change(CHUNK_SHARD, ({ u32 }) => (u32[(CHUNK_FACTS_AT + 16) >> 2] = 513));
  using db = forge.open();
  expect(db.recovery.usedCheckpoint).toBe(false);
  expect(db.len()).toBe(20);
});

test("an ordered index is built of the slots that there are, whatever an image counts", () => {
  using forge = new Forge(fill);
  forge.change(CHUNK_SPACE, (chunk) => {
    for (const at of [32, 40, 48]) writeWide(chunk, at, 0);
  });
  {
    using db = forge.open();
    expect(db.recovery.usedCheckpoint).toBe(true);
    // The next image says 19 less than none, as far as it can.
    db.remove("key 0");
    db.flushSync();
    writeFileSync(forge.file("copy"), forge.log);
    writeFileSync(forge.file("copy.hint"), readFileSync(`${forge.path}.hint`));
  }
  using db = Emdb.open(forge.file("copy"), { rangeScans: true });
  expect(db.recovery.usedCheckpoint).toBe(true);
  expect([...db.range()].length).toBe(19);
});

/** The place of the first frame of a kind, in units. */
function unitsOf(log: Uint8Array, kind: number): number {
  const view = new DataView(log.buffer, log.byteOffset, log.length);
  return framesOf(log).find(({ lsn }) => (view.getUint32(lsn + 8, true) & 15) === kind)!.lsn / 8;
}

/** A cleared record, one of a dropped namespace, and twenty. */
function fillBehindMore(db: Emdb): void {
  const dropped = db.namespace("dropped");
  dropped.insert("gone", "with the namespace");
  db.dropNamespace("dropped");
  db.insert("gone", "by a clear");
  db.clear();
  fill(db);
}

interface Nonsense {
  readonly name: string;
  /** What a slot says instead of its low word; all of them are asked in turn. */
  readonly slot: (low: number, log: Uint8Array, first: number) => number;
}

const nonsense: readonly Nonsense[] = [
  { name: "the header page", slot: () => 1 },
  { name: "what is behind the end of the log", slot: (low) => low + 1_000_000 },
  { name: "what is no frame", slot: (low) => low + 1 },
  { name: "the inside of a frame that another names", slot: (low, _, first) => (low === first ? low : first + 1) },
  { name: "a clear", slot: (_, log) => unitsOf(log, KIND_CLEAR) },
  { name: "a record of a namespace that was dropped", slot: (_, log) => unitsOf(log, KIND_PUT) },
];

test.each(nonsense)("no compaction or backup believes an image whose slots name $name", async ({ slot }) => {
  using forge = new Forge(fillBehindMore);
  const before = forge.log;
  let first = 0;
  forge.slots((low, high) => [slot(low, before, (first ||= low)), high]);
  {
    using db = forge.open();
    expect(db.recovery.usedCheckpoint).toBe(true);
    await expectRejects("EMDB_CORRUPTED", db.compact());
    await expectRejects("EMDB_CORRUPTED", db.backupTo(forge.file("backup")));
  }
  expect(existsSync(forge.file("backup"))).toBe(false);
  rmSync(`${forge.path}.hint`);
  using db = forge.open();
  expect([...db.keys()].length).toBe(20);
});

test("a record that the leaves of an image lack cannot be removed, and stays", () => {
  using forge = new Forge(fill, true);
  forge.change(CHUNK_LEAVES, ({ u8 }) => (u8[CHUNK_HEAD_BYTES + LEAF_HEAD_BYTES + HEADER_BYTES]! ^= 128));
  using db = forge.open();
  expect(db.recovery.usedCheckpoint).toBe(true);
  expectCode("EMDB_CORRUPTED", () => db.remove("key 0"));
  expect(db.getText("key 0")).toBe("value 0");
  expect(db.len()).toBe(20);
});

test("an image whose leaves are not in the order of their separators is none", async () => {
  using forge = new Forge((db) => {
    for (let index = 0; index < 200; index++) db.insert(`key ${index}`, "value");
  }, true);
  let leaves = 0;
  forge.change(CHUNK_LEAVES, ({ u8, u32 }) => {
    const end = CHUNK_HEAD_BYTES + u32[CHUNK_BODY_BYTES_AT >> 2]!;
    for (let leaf = CHUNK_HEAD_BYTES; leaf < end; leaves += 1) {
      const separatorBytes = u32[leaf >> 2]!;
      // The third comes before the second.
      if (leaves === 2) u8[leaf + LEAF_HEAD_BYTES] = 1;
      leaf += LEAF_HEAD_BYTES + padded(separatorBytes) + u32[(leaf >> 2) + 1]!;
    }
  });
  expect(leaves).toBeGreaterThan(3);
  using db = forge.open();
  expect(db.recovery.usedCheckpoint).toBe(false);
  await db.compact();
  expect([...db.range()].length).toBe(200);
});

/** Changes what an image says of its named namespace. */
const named =
  (change: (chunk: Pinned) => void) =>
  (forge: Forge): Forge =>
    forge.change(CHUNK_SPACE, (chunk) => {
      if (chunk.u32[CHUNK_SPACE_AT >> 2] !== 0) change(chunk);
    });

const POSITION_BEHIND = 2 ** 30;

const claims: readonly { readonly name: string; readonly forge: (forge: Forge) => Forge }[] = [
  { name: "a name that is no text", forge: named(({ u8 }) => (u8[CHUNK_HEAD_BYTES] = 0xff)) },
  { name: "a creation behind its end", forge: named((chunk) => writeWide(chunk, 24, POSITION_BEHIND)) },
  { name: "more records with a deadline than records", forge: named((chunk) => writeWide(chunk, 48, 351)) },
  {
    name: "a namespace beyond those that it counts",
    forge: (forge) =>
      forge.arrange((chunks) => {
        for (const { memory } of chunks) if (memory.u32[CHUNK_SPACE_AT >> 2] !== 0) memory.u32[CHUNK_SPACE_AT >> 2] = 2;
        return chunks;
      }),
  },
  {
    name: "shards of another namespace than the one at hand",
    forge: (forge) => forge.change(CHUNK_SHARD, ({ u32 }) => (u32[CHUNK_SPACE_AT >> 2]! += 1)),
  },
  {
    name: "a piece that stands for a position behind its end",
    forge: (forge) => forge.change(CHUNK_SHARD, (chunk) => writeWide(chunk, CHUNK_POSITION_AT, POSITION_BEHIND)),
  },
  {
    name: "a piece that stands for a position before its start",
    forge: (forge) => forge.change(CHUNK_SHARD, (chunk) => writeWide(chunk, CHUNK_POSITION_AT, HEADER_PAGE_BYTES)),
  },
  {
    name: "one page more than its shards have",
    forge: (forge) => forge.header((view) => view.setUint32(PAGES_AT, view.getUint32(PAGES_AT, true) + 1, true)),
  },
  {
    name: "one page less than its shards have",
    forge: (forge) => forge.header((view) => view.setUint32(PAGES_AT, view.getUint32(PAGES_AT, true) - 1, true)),
  },
  {
    name: "one chunk more than there are",
    forge: (forge) => forge.header((view) => view.setUint32(CHUNKS_AT, view.getUint32(CHUNKS_AT, true) + 1, true)),
  },
  {
    name: "no ordered index, and leaves of one",
    forge: (forge) => forge.header((view) => view.setUint32(FLAGS_AT, 0, true)),
  },
];

test.each(claims)("an image that has $name is none", ({ forge: change }) => {
  using forge = new Forge((db) => {
    fill(db);
    // So many that the leaves are as long as a page: an image of one page more would be as long.
    for (let index = 0; index < 350; index++) db.namespace("other").insert(`key ${index}`, "value");
  }, true);
  {
    using db = forge.open();
    expect(db.recovery.usedCheckpoint).toBe(true);
  }
  using db = change(forge).open();
  expect(db.recovery.usedCheckpoint).toBe(false);
  expect([db.len(), [...db.range()].length, db.namespace("other").len()]).toEqual([20, 20, 350]);
});

const orders: readonly {
  readonly name: string;
  readonly order: (chunks: readonly Chunk[]) => readonly Chunk[];
}[] = [
  { name: "that holds a namespace twice", order: (chunks) => [chunks[0]!, ...chunks] },
  { name: "with leaves and no shards", order: ([space, , leaves]) => [space!, leaves!] },
];

test.each(orders)("an image $name is none", ({ order }) => {
  using forge = new Forge((db) => db.insert("key", "value"), true);
  using db = forge.arrange(order).open();
  expect(db.recovery.usedCheckpoint).toBe(false);
  expect([...db.range()].length).toBe(1);
});
