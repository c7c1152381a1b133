/**
 * The structures that were weighed for the ordered index, over the same memory and the same log: the tree that is
 * used, and a skip list. docs/ordered-index.md holds the numbers.
 *
 *     bun ordered-structures.ts [records] [random|sorted|named]
 */

import { HEAP_NUMBERS, Heap } from "../src/ffi/heap.ts";
import { hostSystem } from "../src/ffi/host.ts";
import { compare, copy, pinned } from "../src/ffi/memory.ts";
import { FIRST_ERA, RECLAIM_ATTACHED, RECLAIM_ERA, RECLAIM_FLAGS, Reclaim } from "../src/ffi/reclaim.ts";
import { OrderedIndex } from "../src/ordered/ordered.ts";
import { RangeReader, remainderOf } from "../src/ordered/range-reader.ts";
import { Data, randomFrom, shuffledNumbers } from "./lib/data.ts";
import { countAndWords } from "./lib/options.ts";

const given = countAndWords(process.argv.slice(2), ["random", "sorted", "named"]);
const records = given.count;
const order = given.words[0] ?? "random";
const KEY_BYTES = 24;
const FRAME_BYTES = 200;
const FRAME_UNITS = FRAME_BYTES / 8;

const system = hostSystem();
/** Zeroed memory of whole pages. */
function take(bytes: number): number {
  const whole = Math.ceil(bytes / 65_536) * 65_536;
  const address = system.reserve(whole);
  system.commit(address, whole);
  return address;
}

const log = take((records + 2) * FRAME_BYTES);

/** Keys in frames of a log, in the order in which they will be inserted. */
function writeLog(): void {
  const data = new Data({ seed: 7, valueBytes: 1 });
  const encoder = new TextEncoder();
  const numbers = shuffledNumbers(records, records, 3);
  const name = (index: number): Uint8Array => encoder.encode(`user:0000:${String(numbers[index]).padStart(14, "0")}`);
  const keys = Array.from({ length: records }, (_, index) => (order === "named" ? name(index) : data.key(index)));
  if (order === "sorted") keys.sort(Buffer.compare);
  keys.forEach((key, index) => copy(keyAddress((index + 1) * FRAME_UNITS), key, KEY_BYTES));
}

const keyAddress = (units: number): number => log + units * 8 + 24;

/** What both structures can do. */
interface Structure {
  readonly name: string;
  insert(units: number): void;
  /** Ten positions from a key on. */
  seek(units: number): number;
  /** All positions. */
  scan(): number;
  bytes(): number;
}

function treeOf(): Structure {
  const flags = new Int32Array(RECLAIM_FLAGS);
  flags[RECLAIM_ERA] = FIRST_ERA;
  flags[RECLAIM_ATTACHED] = 1;
  const heap = Heap.create(system, new Float64Array(HEAP_NUMBERS));
  const memory = pinned(KEY_BYTES);
  const keys = {
    memory,
    keyAt: 0,
    loadKey: (units: number): number => {
      copy(memory.address, keyAddress(units), KEY_BYTES);
      return KEY_BYTES;
    },
    corrupted: (units: number) => new Error(`the key at ${units} is not the one that it was`),
  };
  const index = new OrderedIndex(heap, new Reclaim(heap, flags, () => true), keys);
  const reader = new RangeReader(heap, keys);
  const tree = index.plant();
  const probe = { memory: pinned(KEY_BYTES), bytes: KEY_BYTES };
  const ten = new Float64Array(10);
  const many = new Float64Array(64);
  return {
    name: "tree of 1 KiB nodes",
    insert(units) {
      copy(probe.memory.address, keyAddress(units), KEY_BYTES);
      if (!index.find(tree, probe, 0)) index.add(units, Infinity);
    },
    seek(units) {
      const key = new Uint8Array(KEY_BYTES);
      copy(key, keyAddress(units), KEY_BYTES);
      return reader.take(tree, remainderOf({ lower: { key, isInclusive: true } }), ten, ten.length);
    },
    scan() {
      const rest = remainderOf({});
      let all = 0;
      for (let count = -1; count !== 0; all += Math.max(count, 0)) count = reader.take(tree, rest, many, many.length);
      return all;
    },
    bytes: () => heap.bytes,
  };
}

/** A skip list with 8-byte inline prefixes: 24 bytes and 4 for each level above the first, one copy a hop. */
function skipListOf(): Structure {
  const LEVELS = 12;
  const base = take(records * 40 + 4096);
  const node = pinned(80);
  const previous: number[] = Array.from({ length: LEVELS }, () => 0);
  const nexts = pinned(LEVELS * 4);
  const random = randomFrom(11);
  // Word 0-1 prefix, 2 position, 3 level, 4 on: next at each level. The head is at 0.
  let used = 64;
  const load = (at: number): void => copy(node.address, base + at, 64);
  const prefixOf = (address: number): [number, number] => {
    copy(nexts.address, address, 8);
    const u8 = nexts.u8;
    const word = (from: number): number =>
      ((u8[from]! << 24) | (u8[from + 1]! << 16) | (u8[from + 2]! << 8) | u8[from + 3]!) >>> 0;
    return [word(0), word(4)];
  };
  const find = (units: number): number => {
    const [high, low] = prefixOf(keyAddress(units));
    let at = 0;
    load(0);
    for (let level = LEVELS - 1; level >= 0; level--) {
      for (;;) {
        const next = node.u32[4 + level]!;
        if (next === 0) break;
        load(next);
        const order = node.u32[0]! - high || node.u32[1]! - low;
        const isBefore = order === 0 ? compare(keyAddress(node.u32[2]!), keyAddress(units), KEY_BYTES) < 0 : order < 0;
        if (!isBefore) break;
        at = next;
      }
      load(at);
      previous[level] = at;
    }
    return node.u32[4]!;
  };
  return {
    name: "skip list",
    insert(units) {
      find(units);
      const [high, low] = prefixOf(keyAddress(units));
      let level = 1;
      while (level < LEVELS && random() < 0.25) level += 1;
      const at = used;
      used += 16 + 4 * level;
      for (let each = 0; each < level; each++) {
        copy(nexts.address + each * 4, base + previous[each]! + 16 + each * 4, 4);
      }
      node.u32.set([high, low, units, level], 0);
      node.u32.set(nexts.u32.subarray(0, level), 4);
      copy(base + at, node.address, 16 + 4 * level);
      node.u32[0] = at;
      for (let each = 0; each < level; each++) copy(base + previous[each]! + 16 + each * 4, node.address, 4);
    },
    seek(units) {
      let at = find(units);
      let count = 0;
      for (; at !== 0 && count < 10; at = node.u32[4]!, count++) load(at);
      return count;
    },
    scan() {
      load(0);
      let count = 0;
      for (let at = node.u32[4]!; at !== 0; at = node.u32[4]!, count++) load(at);
      return count;
    },
    bytes: () => used,
  };
}

function perCall(count: number, call: (index: number) => unknown): string {
  const started = performance.now();
  for (let index = 0; index < count; index++) call(index);
  return (((performance.now() - started) * 1e6) / count).toFixed(0);
}

writeLog();
const seeks = shuffledNumbers(records, 50_000, 9);
for (const structure of [treeOf(), skipListOf()]) {
  const insert = perCall(records, (index) => structure.insert((index + 1) * FRAME_UNITS));
  const seek = perCall(seeks.length, (index) => structure.seek((seeks[index]! + 1) * FRAME_UNITS));
  const started = performance.now();
  const seen = structure.scan();
  const scan = (((performance.now() - started) * 1e6) / records).toFixed(0);
  if (seen !== records) throw new Error(`${structure.name} holds ${seen} of ${records} records`);
  const bytes = (structure.bytes() / records).toFixed(1);
  console.log(
    `${structure.name}, ${order}: insert ${insert} ns, ten from a random key ${seek} ns, scan ${scan} ns, ${bytes} B a record`,
  );
}
