/** docs/design.md gives the import table and the numbers that the code has. */

import { expect, test } from "bun:test";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { PAGE_BYTES } from "../../src/ffi/heap.ts";
import { PERIOD_UNITS } from "../../src/ffi/positions.ts";
import { HASH_BITS } from "../../src/keydir/hash.ts";
import { DEPTH_MAX, PAGE_BUCKETS, PAGE_SLOTS, SHARD_PAGES_MAX } from "../../src/keydir/shard.ts";
import * as limits from "../../src/limits.ts";
import { importTable } from "../support/tidy-rules.ts";
import { rowsUnder } from "./markdown.ts";

const root = join(import.meta.dir, "../..");
const text = readFileSync(join(root, "docs/design.md"), "utf8");
const KIB = 1024;
const MIB = 1024 * KIB;

test("the table of imports is the one that the build enforces", () => {
  const rows = rowsUnder(text, "room").map(([room = "", may = ""]) => [
    room,
    may.split(", ").filter((one) => one !== ""),
  ]);
  expect(Object.fromEntries(rows)).toEqual(importTable);
});

test("the map of rooms names every folder of src", () => {
  const folders = readdirSync(join(root, "src"), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  for (const { name } of folders) expect(text).toContain(`\nsrc/${name}/ `);
});

test("the numbers of the index are those of src/keydir", () => {
  expect(text).toContain(`1 to ${SHARD_PAGES_MAX} pages of ${PAGE_BYTES / KIB} KiB`);
  expect(text).toContain(`${PAGE_BUCKETS} buckets\n`);
  expect(text).toContain(`${PAGE_SLOTS / PAGE_BUCKETS} slots, one cache line`);
  expect(text).toContain(`8 bytes: ${HASH_BITS} bits of hash, a tombstone bit, 36 bits of position`);
  expect(text).toContain(`laying out ${(SHARD_PAGES_MAX * PAGE_BYTES) / KIB} KiB`);
  expect(text).toContain(`${(4 * 2 ** DEPTH_MAX) / MIB} MiB at the largest`);
  expect(limits.LOG_BYTES_MAX).toBe(2 ** 36 * 8);
  expect(text).toContain("in units *modulo a period* of 2^36 - 512");
  expect(PERIOD_UNITS).toBe(2 ** 36 - limits.HEADER_PAGE_BYTES / 8);
  expect(text).toContain("exact up to 2^53 (8 PiB since the open)");
  expect(limits.POSITIONS_END_MAX).toBe(2 ** 53);
});

test("the sizes of the ring and the steps of growth are those of src/limits.ts", () => {
  expect(text).toContain(`**The ring** is ${limits.RING_BYTES / MIB} MiB`);
  expect(text).toContain(`the slack of ${limits.RING_FRAME_BYTES_MAX / MIB} MiB behind it`);
  expect(text).toContain(
    `A frame of more than ${limits.COPIED_FRAME_BYTES_MAX / KIB} KiB does not go\nthrough the ring`,
  );
  expect(text).toContain(`from ${limits.GROWTH_BYTES_MIN / KIB} KiB to ${limits.GROWTH_BYTES_MAX / MIB} MiB`);
  expect(text).toContain(`in pieces of ${limits.STRIDE_BYTES / MIB} MiB, when the event loop turns`);
  expect(text).toContain(`a buffer of ${limits.SCAN_BYTES / MIB} MiB`);
});
