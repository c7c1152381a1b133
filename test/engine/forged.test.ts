/** Frames with sound checks that no writer wrote: each is refused with its place, and nothing of it is believed. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { pinned } from "../../src/ffi/memory.ts";
import { FrameEncoder } from "../../src/log/encoder.ts";
import {
  KIND_CLEAR,
  KIND_PUT,
  KIND_REMOVE,
  KIND_SPACE_CREATE,
  KIND_SPACE_DROP,
  PLACE_ALONE,
  PLACE_FIRST,
  PLACE_LAST,
  PLACE_MIDDLE,
  headerCheck,
} from "../../src/log/frame.ts";
import { decodeHeader, saltsOf } from "../../src/log/header.ts";
import { unitHigh, unitLow } from "../../src/log/log-words.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { encode, type FrameInput } from "../log/fixture.ts";
import { expectCode, place } from "./fixture.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** A log of one record, "a", and what it takes to write more frames into it. */
class Forge implements Disposable {
  readonly #folder = temporaryFolder();
  readonly path = this.#folder.file("data.emdb");
  readonly #salts;
  #bytes: Uint8Array;

  constructor() {
    const db = Emdb.open(this.path);
    db.insert("a", "1");
    db.closeSync();
    // Without the mark of the clean close.
    this.#bytes = new Uint8Array(readFileSync(this.path)).slice(0, -24);
    const verdict = decodeHeader(this.#bytes);
    if (verdict.kind !== "sound") throw new Error("a header was written");
    this.#salts = saltsOf(verdict.header);
  }

  get end(): number {
    return this.#bytes.length;
  }

  /** Appends a frame; `change` may then change its header, whose check is made good again. */
  frame(input: Partial<FrameInput>, change?: (words: Uint32Array) => void): this {
    const encoder = new FrameEncoder(this.#salts);
    const lsn = this.end;
    const nothing = new Uint8Array(0);
    const plain = { kind: KIND_PUT, place: PLACE_ALONE, flags: 0, space: 0, key: nothing, value: nothing };
    const bytes = encode(encoder, { ...plain, expiresAtMs: 0, prev: 0, durable: HEADER_PAGE_BYTES, lsn, ...input });
    const made = pinned(bytes);
    made.u8.set(encoder.stage.u8.subarray(0, bytes));
    change?.(made.u32);
    const at = { salt: this.#salts.header, unitLow: unitLow(lsn), unitHigh: unitHigh(lsn) };
    made.i32[0] = headerCheck(made, 0, at);
    this.#bytes = Buffer.concat([this.#bytes, made.u8.subarray(0, bytes)]);
    return this;
  }

  /** Opens what was forged. */
  open(): Emdb {
    place(this.path, this.#bytes);
    return Emdb.open(this.path);
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

test("a frame that is made as a writer makes it is a record", () => {
  using forge = new Forge();
  const db = forge.frame({ key: bytesOf("b"), value: bytesOf("2") }).open();
  expect(db.getText("b")).toBe("2");
  db.closeSync();
});

const nonsense: readonly { readonly name: string; readonly input: Partial<FrameInput> }[] = [
  { name: "a record of a namespace that never was", input: { space: 7, key: bytesOf("b") } },
  { name: "a record of a namespace with a number beyond all", input: { space: 999_999, key: bytesOf("b") } },
  { name: "a removal in a namespace that never was", input: { kind: KIND_REMOVE, space: 7, key: bytesOf("b") } },
  { name: "a clear of a namespace that never was", input: { kind: KIND_CLEAR, space: 7 } },
  { name: "a drop of a namespace that never was", input: { kind: KIND_SPACE_DROP, space: 7 } },
];

test.each(nonsense)("$name is EMDB_CORRUPTED at its place", ({ input }) => {
  using forge = new Forge();
  const at = forge.end;
  expect(expectCode("EMDB_CORRUPTED", () => forge.frame(input).open()).offset).toBe(at);
});

test("a namespace that is made twice with one number is EMDB_CORRUPTED at the second", () => {
  using forge = new Forge();
  forge.frame({ kind: KIND_SPACE_CREATE, space: 1, key: bytesOf("one") });
  const at = forge.end;
  forge.frame({ kind: KIND_SPACE_CREATE, space: 1, key: bytesOf("two") });
  expect(expectCode("EMDB_CORRUPTED", () => forge.open()).offset).toBe(at);
});

test("a record after the drop of its namespace is EMDB_CORRUPTED", () => {
  using forge = new Forge();
  forge.frame({ kind: KIND_SPACE_CREATE, space: 1, key: bytesOf("one") }).frame({ kind: KIND_SPACE_DROP, space: 1 });
  const at = forge.end;
  forge.frame({ space: 1, key: bytesOf("b") });
  expect(expectCode("EMDB_CORRUPTED", () => forge.open()).offset).toBe(at);
});

const torn: readonly { readonly name: string; readonly change: (words: Uint32Array) => void }[] = [
  { name: "a value of 4 GiB", change: (words) => (words[3] = 0xffffffff) },
  { name: "a value one byte longer than the file", change: (words) => (words[3]! += 9) },
  { name: "a key longer than the frame", change: (words) => (words[2] = (words[2]! & 0xffff) | (0xffff << 16)) },
  { name: "a kind that is not one", change: (words) => (words[2] = (words[2]! & ~15) | 12) },
  { name: "a bit that has no meaning", change: (words) => (words[2]! |= 1 << 12) },
  { name: "a previous version before the log", change: (words) => (words[4] = 0xfffff) },
];

test.each(torn)("a last frame that claims $name is a torn tail, in bounded memory", ({ change }) => {
  using forge = new Forge();
  const before = process.memoryUsage.rss();
  const db = forge.frame({ key: bytesOf("b"), value: bytesOf("2") }, change).open();
  expect(process.memoryUsage.rss() - before).toBeLessThan(256 * 2 ** 20);
  expect([...db.keys()].map((key) => new TextDecoder().decode(key))).toEqual(["a"]);
  expect(db.recovery.tornBytes).toBeGreaterThan(0);
  db.closeSync();
});

test("batches whose places make no sense end the log before them, and none of their records is there", () => {
  const orders: readonly (readonly number[])[] = [
    [PLACE_MIDDLE],
    [PLACE_LAST],
    [PLACE_MIDDLE, PLACE_LAST],
    [PLACE_FIRST],
    [PLACE_FIRST, PLACE_MIDDLE],
    [PLACE_FIRST, PLACE_FIRST, PLACE_LAST],
    [PLACE_FIRST, PLACE_ALONE, PLACE_LAST],
  ];
  for (const order of orders) {
    using forge = new Forge();
    for (const [index, at] of order.entries()) forge.frame({ key: bytesOf(`b${index}`), place: at });
    const db = forge.open();
    expect([...db.keys()].map((key) => new TextDecoder().decode(key))).toEqual(["a"]);
    db.closeSync();
  }
});

test("bytes between a value and the next frame that are not zero are no frame", () => {
  using forge = new Forge();
  forge.frame({ key: bytesOf("b"), value: bytesOf("2") });
  const db = forge.open();
  db.closeSync();
  const bytes = new Uint8Array(readFileSync(forge.path)).slice(0, forge.end);
  bytes[forge.end - 1] = 1;
  place(forge.path, bytes);
  const again = Emdb.open(forge.path);
  expect(again.len()).toBe(1);
  again.closeSync();
});

test("a name that is longer than a name may be is no frame, and the database closes and opens again", () => {
  using forge = new Forge();
  const name = new Uint8Array(65_535).fill(255);
  // Some names of this length were more than there is room for in the memory that an image is made in.
  for (let space = 1; space <= 7; space++) forge.frame({ kind: KIND_SPACE_CREATE, space, key: name });
  const db = forge.open();
  expect(db.listNamespaces()).toEqual([]);
  expect(db.recovery.tornBytes).toBeGreaterThan(7 * name.length);
  db.closeSync();
  const again = Emdb.open(forge.path);
  expect(again.getText("a")).toBe("1");
  again.closeSync();
});

test("a namespace whose name is no text is EMDB_CORRUPTED, and a salvage keeps its records in one of another name", async () => {
  using forge = new Forge();
  const at = forge.end;
  forge.frame({ kind: KIND_SPACE_CREATE, space: 1, key: new Uint8Array(1024).fill(255) });
  forge.frame({ space: 1, key: bytesOf("b"), value: bytesOf("2") });
  expect(expectCode("EMDB_CORRUPTED", () => forge.open()).offset).toBe(at);
  const target = `${forge.path}.salvaged`;
  expect((await Emdb.salvage(forge.path, target)).recoveredRecords).toBe(2);
  const db = Emdb.open(target);
  const names = db.listNamespaces();
  expect(names.map((name) => db.namespace(name).getText("b"))).toEqual(["2"]);
  db.closeSync();
});
