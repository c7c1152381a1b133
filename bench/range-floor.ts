/**
 * What a range of ten costs beyond what it has to do: `Emdb.range` beside the same range written out in one function
 * without a check, an object or a moment, and with one layer at a time of the real ones around that or in it.
 *
 *     bun range-floor.ts [records]
 *
 * Records are loaded as one batch, so ten neighbours lie side by side in the log. The written-out range stops at the end
 * of its leaf and knows random keys alone; it shows where the time is, and is no range to give to anybody. By the clock,
 * the ways in turn, in both orders: whichever comes first is up to 8 % slower.
 */

import { checkedKey } from "../src/api/bytes.ts";
import { rangeBoundsOf } from "../src/api/range-bounds.ts";
import { RecordIterator } from "../src/api/record-iterator.ts";
import { Engine } from "../src/engine/engine.ts";
import { BatchedRecords, RecordList } from "../src/engine/read/record-batches.ts";
import { readPart } from "../src/engine/read/record-walk.ts";
import type { SpaceState } from "../src/engine/spaces.ts";
import { BLOCK_BYTES } from "../src/ffi/heap.ts";
import { copy, pinned } from "../src/ffi/memory.ts";
import { Emdb } from "../src/index.ts";
import { FRAME_HEADER_BYTES, WORD_SHAPE, WORD_VALUE_BYTES } from "../src/log/frame.ts";
import { ENTRY_BYTES, HEADER_BYTES, areaBytes } from "../src/ordered/node.ts";
import { remainderOf } from "../src/ordered/range-reader.ts";
import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { countAndWords } from "./lib/options.ts";
import { median, quantile } from "./lib/statistics.ts";

type Pair = [Uint8Array, Uint8Array];

const LIMIT = 10;
const FIRST_ENTRY = HEADER_BYTES / 4;
const ENTRY_WORDS = ENTRY_BYTES / 4;
const STRETCH_BYTES_MAX = 60_000;
/** Of the last frame of a stretch so much is copied. */
const LAST_BYTES = 256;

const records = countAndWords(process.argv.slice(2), []).count;
const isTrial = records < 10_000;
const ROUNDS = isTrial ? 2 : 120;
const RANGES = isTrial ? 50 : 2000;
const data = new Data({ seed: 3 });
const keys = data.shuffledKeys(records, 8192);

/** Calls one range, and takes hold of what answers it. */
function engineOf(db: Emdb): { readonly engine: Engine; readonly space: SpaceState } {
  const whole = Object.getOwnPropertyDescriptor(Engine.prototype, "range")!;
  let found: { engine: Engine; space: SpaceState } | undefined;
  Object.defineProperty(Engine.prototype, "range", {
    ...whole,
    value(this: Engine, ...call: Parameters<Engine["range"]>) {
      found = { engine: this, space: call[0] as SpaceState };
      return (whole.value as Engine["range"]).apply(this, call);
    },
  });
  db.range({ limit: 1 }).toArray();
  Object.defineProperty(Engine.prototype, "range", whole);
  return found!;
}

/**
 * The range as one function, in whole numbers of 32 bits wherever there is a choice. It tells keys apart by the 31 bits
 * behind what their leaf has in common.
 */
class Bare {
  readonly positions = new Float64Array(64);
  readonly #core: Engine["core"];
  readonly #tree: number;
  readonly #blocks: number;
  readonly #root = pinned(64);
  readonly #key = pinned(4096);
  readonly #node = pinned(4096);
  readonly #frames = pinned(STRETCH_BYTES_MAX + 4096);

  constructor(core: Engine["core"], tree: number) {
    this.#core = core;
    this.#tree = core.heap.unitAddress(tree);
    this.#blocks = core.heap.blockAddress(0);
  }

  /** The first positions from a key on that its leaf has; returns how many. */
  take(key: Uint8Array): number {
    copy(this.#root.address, this.#tree, 24);
    const root = this.#root.f64[0]! | 0;
    let level = root & 31;
    let block = root >> 5;
    copy(this.#key.address, key, key.length);
    const bytes = this.#key.u8;
    const { i32: words, u8: nodeBytes } = this.#node;
    let first = 0;
    let count = 0;
    for (;;) {
      copy(this.#node.address, this.#blocks + block * BLOCK_BYTES, BLOCK_BYTES);
      count = words[0]!;
      const skip = words[1]!;
      const head = (bytes[skip]! << 24) | (bytes[skip + 1]! << 16) | (bytes[skip + 2]! << 8) | bytes[skip + 3]!;
      const high31 = head >>> 1;
      first = level === 0 ? 0 : 1;
      let side = 0;
      for (let index = 0, area = BLOCK_BYTES - areaBytes(skip); index < skip && side === 0; index++)
        side = bytes[index]! - nodeBytes[area + index]!;
      if (side > 0) first = count;
      for (let left = side === 0 ? count - first : 0; left > 0;) {
        const half = (left + 1) >>> 1;
        const theirs = words[FIRST_ENTRY + (first + half - 1) * ENTRY_WORDS]!;
        first += half & (((theirs >>> 1) - high31) >> 31);
        left -= half;
      }
      if (level === 0) break;
      level -= 1;
      block = words[FIRST_ENTRY + (first - 1) * ENTRY_WORDS + 2]!;
    }
    const found = Math.min(LIMIT, count - first);
    for (let index = 0; index < found; index++)
      this.positions[index] = words[FIRST_ENTRY + (first + index) * ENTRY_WORDS + 2]!;
    return found;
  }

  /** The records at the positions at hand, which lie side by side. */
  read(count: number): Pair[] {
    const pairs: Pair[] = [];
    if (count <= 0) return pairs;
    const { positions } = this;
    let low = Infinity;
    let high = 0;
    for (let index = 0; index < count; index++) {
      const unit = positions[index]!;
      if (unit < low) low = unit;
      if (unit > high) high = unit;
    }
    const stretch = (high - low) * 8;
    const end = this.#core.log.mapEnd() - high * 8;
    if (stretch > STRETCH_BYTES_MAX - LAST_BYTES) return pairs;
    const { address, i32 } = this.#frames;
    copy(address, this.#core.log.mapOrigin + low * 8, stretch + Math.min(LAST_BYTES, end));
    for (let index = 0; index < count; index++) {
      const word = (positions[index]! - low) * 2;
      const keyBytes = i32[word + WORD_SHAPE]! >>> 16;
      const valueBytes = i32[word + WORD_VALUE_BYTES]!;
      const at = address + word * 4 + FRAME_HEADER_BYTES;
      const key = new Uint8Array(keyBytes);
      copy(key, at, keyBytes);
      const value = new Uint8Array(valueBytes);
      copy(value, at + keyBytes, valueBytes);
      pairs.push([key, value]);
    }
    return pairs;
  }

  range(key: Uint8Array): Pair[] {
    return this.read(this.take(key));
  }
}

/** Each way's median and best eighth, in nanoseconds. */
function measure(
  ways: Readonly<Record<string, (key: Uint8Array) => unknown>>,
  order: readonly string[],
): Map<string, readonly [number, number]> {
  const times = new Map(order.map((name) => [name, [] as number[]]));
  for (let round = 0, next = 0; round < ROUNDS; round++, next += RANGES) {
    for (const name of order) {
      const run = ways[name]!;
      if (round % 10 === 0) Bun.gc(true);
      const started = Bun.nanoseconds();
      for (let index = 0; index < RANGES; index++) run(keys[(next + index) % keys.length]!);
      times.get(name)!.push((Bun.nanoseconds() - started) / RANGES);
    }
  }
  const settled = [...times].map(([name, all]) => [name, all.slice(Math.floor(ROUNDS / 6))] as const);
  return new Map(settled.map(([name, all]) => [name, [median(all), quantile(all, 1 / 8)]]));
}

using folder = new Folder();
using db = Emdb.open(folder.at("floor.emdb"), { rangeScans: true });
db.insertMany(data.entries(0, records));
// All of it lies in the file, and nothing in the ring.
db.flushSync();
const { engine, space } = engineOf(db);
const { core } = engine;
const { reader } = core.ordering!;
const tree = engine.spaces.tree(space);
const bare = new Bare(core, tree);
let values = 0;

const lookAt = (pairs: Iterable<readonly [Uint8Array, Uint8Array]>): void => {
  for (const [, value] of pairs) values += value.length > 0 ? 1 : 0;
};
const boundsAt = (key: Uint8Array) => ({ lower: { key, isInclusive: true }, upper: undefined, isReverse: false });
const takeInParts = (key: Uint8Array): number => {
  const rest = remainderOf(boundsAt(key));
  rest.isUnsure = true;
  return reader.take(tree, rest, bare.positions, LIMIT);
};
const readInParts = (count: number): RecordList => {
  const list = new RecordList();
  const moment = { lsn: core.present(), now: undefined };
  readPart(core, list, { units: bare.positions, from: 0, count, moment, wanted: "pairs" });
  return list;
};
const handle = { isOpen: true, openLife: () => undefined } as unknown as ConstructorParameters<
  typeof RecordIterator
>[0];

const ways = {
  "Emdb.range": (key: Uint8Array) => lookAt(db.range({ gte: key, limit: LIMIT })),
  "without the API": (key: Uint8Array) =>
    lookAt(engine.range(space, { ...boundsAt(key), limit: LIMIT }).batch?.() ?? []),
  "written out, the index's way down": (key: Uint8Array) => lookAt(bare.read(takeInParts(key))),
  "written out, the engine's records": (key: Uint8Array) => lookAt(readInParts(bare.take(key)).pairs),
  "written out, behind the API": (key: Uint8Array) => {
    const bounds = rangeBoundsOf({ gte: key, limit: LIMIT }, { keyIn: checkedKey });
    const list = new RecordList();
    list.pairs.push(...bare.range(bounds!.lower!.key));
    lookAt(new RecordIterator<Pair>(handle, new BatchedRecords(list, undefined)));
  },
  "written out": (key: Uint8Array) => lookAt(bare.range(key)),
};

let same = 0;
for (const key of keys) {
  const real = db.range({ gte: key, limit: LIMIT }).toArray();
  const isSame = bare.range(key).every(([, value], index) => Buffer.compare(value, real[index]?.[1] ?? value) === 0);
  same += isSame && bare.take(key) === real.length ? 1 : 0;
}
// The others go on in the next leaf, or have a neighbour with the same 31 bits.
console.log(`${same} of ${keys.length} ranges are the same`);
if (same < keys.length / 2) throw new Error("the written-out range gives other records");
for (const order of [Object.keys(ways), Object.keys(ways).toReversed()]) {
  const times = measure(ways, order);
  const [whole, best] = times.get("Emdb.range")!;
  for (const [name, [own, ownBest]] of times) {
    const shares = `${(own / whole).toFixed(2)}, best ${(ownBest / best).toFixed(2)} of Emdb.range`;
    console.log(`${name}: ${own.toFixed(0)} ns, best ${ownBest.toFixed(0)} (${shares})`);
  }
}
if (values === 0) throw new Error("nothing was read");
