/**
 * What a writer does to a leaf in scratch: fit its common prefix, drop tombstones, divide it, join two.
 *
 * A prefix that has become too long for a new key gives bytes back to the entries without a look at the log; one
 * that is too short to tell keys apart inline is grown by reading the keys of the leaf once.
 */

import { assert } from "../errors.ts";
import { BLOCK_BYTES } from "../ffi/heap.ts";
import { copy, sharedScratch } from "../ffi/memory.ts";
import type { Node, ProbeKey } from "./node.ts";
import type { KeySource } from "./path.ts";
import { compareTexts, sharedBytes, type Text } from "./separators.ts";

/** Inline bytes that first and last key must have in common before a longer prefix is tried. */
const SHARED_MIN = 4;

/** Shortens the prefix of a leaf. */
export function shrinkPrefix(leaf: Node, prefixBytes: number): void {
  const { shape } = leaf;
  const given = leaf.prefixBytes - prefixBytes;
  const bytes = new Uint8Array(given + shape.inlineBytes);
  bytes.set(leaf.prefix.u8.subarray(prefixBytes, leaf.prefixBytes));
  for (let index = 0; index < leaf.count; index++) {
    for (let byte = 0; byte < shape.inlineBytes; byte++) bytes[given + byte] = leaf.inlineByte(index, byte);
    // A long key stays long: its class is beyond any number of inline bytes.
    const rest = given + Math.min(leaf.classOf(index), shape.inlineBytes + 1);
    leaf.cut(bytes, 0, rest);
    leaf.recut(index);
  }
  leaf.prefixBytes = prefixBytes;
}

/** Loads the key of an entry into a text. */
export function loadKey(leaf: Node, index: number, place: { readonly keys: KeySource; readonly text: Text }): void {
  const { keys, text } = place;
  const bytes = keys.loadKey(leaf.units(index));
  if (bytes > 0) copy(text.memory.address, keys.memory.address + keys.keyAt, bytes);
  text.bytes = bytes;
}

/** Lengthens the prefix of a leaf when its entries are all alike inline; true when that changed it. */
export function growPrefix(leaf: Node, keys: KeySource, texts: { readonly first: Text; readonly last: Text }): boolean {
  const last = leaf.count - 1;
  if (last < 1) return false;
  const sharedMin = Math.min(SHARED_MIN, leaf.shape.inlineBytes);
  for (let byte = 0; byte < sharedMin; byte++) {
    if (leaf.inlineByte(0, byte) !== leaf.inlineByte(last, byte)) return false;
  }
  loadKey(leaf, 0, { keys, text: texts.first });
  loadKey(leaf, last, { keys, text: texts.last });
  const shared = Math.min(sharedBytes(texts.first, texts.last), leaf.shape.prefixBytesMax);
  if (shared < leaf.prefixBytes + sharedMin || leaf.count > leaf.capacity(shared)) return false;
  copy(leaf.prefix.address, texts.first.memory.address, shared);
  leaf.prefixBytes = shared;
  for (let index = 0; index <= last; index++) {
    const bytes = keys.loadKey(leaf.units(index));
    leaf.cut(keys.memory.u8, keys.keyAt + shared, keys.keyAt + bytes);
    leaf.recut(index);
  }
  return true;
}

/** Drops tombstones from before `keepFrom` (units); how many. */
export function purge(leaf: Node, keepFrom: number): number {
  if (leaf.dead === 0) return 0;
  let dropped = 0;
  for (let index = leaf.count - 1; index >= 0; index--) {
    if (!leaf.isTombstone(index) || leaf.units(index) >= keepFrom) continue;
    leaf.closeGap(index);
    dropped += 1;
  }
  return dropped;
}

/**
 * Where a leaf that is too full by one is divided. Most keys of an application come in order at some place, its front, its end or
 * anywhere between: where the last quarter of them came decides, and leaves that are done with stay full.
 */
export function divideAt(leaf: Node, newest: number): number {
  const { count } = leaf;
  const last = count - 1;
  const half = count >>> 1;
  const quarter = Math.max(1, count >>> 2);
  // What is this little goes along with keys that come in order, and is else a leaf of its own.
  const few = count >>> 3;
  const { first, final } = latest(leaf, quarter);
  const isInOneRun = final - first <= quarter + (quarter >>> 2);
  if (isInOneRun && final === newest) {
    if (newest === last) return last;
    return Math.max(half, last - newest >= few ? newest + 1 : newest);
  }
  if (isInOneRun && first === newest) {
    if (newest === 0) return 1;
    return Math.min(half, newest >= few ? newest : newest + 1);
  }
  if (first >= half) return half + quarter;
  if (final < half) return quarter;
  if (newest === last) return last;
  return newest === 0 ? 1 : half;
}

const sharedUnits = sharedScratch(BLOCK_BYTES);

/** The first and the last of the `many` entries whose frames are the newest. */
function latest(leaf: Node, many: number): { readonly first: number; readonly final: number } {
  const { count } = leaf;
  const sorted = sharedUnits().f64.subarray(0, count);
  for (let index = 0; index < count; index++) sorted[index] = leaf.units(index);
  const oldest = sorted.sort()[count - many]!;
  let first = 0;
  while (leaf.units(first) < oldest) first++;
  let final = count - 1;
  while (leaf.units(final) < oldest) final--;
  return { first, final };
}

/** Whether an entry of a leaf is cut from a key. */
export function isCutFrom(leaf: Node, index: number, key: ProbeKey): boolean {
  return leaf.probe(key) === 0 && leaf.hasInline(index) && leaf.classOf(index) === leaf.class;
}

/** Whether two keys that were loaded are those of the entries on both sides of `middle`, and in order. */
export function isBetween(leaf: Node, middle: number, { first, last }: { first: Text; last: Text }): boolean {
  return isCutFrom(leaf, middle - 1, first) && isCutFrom(leaf, middle, last) && compareTexts(first, last) < 0;
}

/** Makes `to` a leaf of the entries `from` to `end` (exclusive). */
export function takePart(to: Node, leaf: Node, part: { readonly from: number; readonly end: number }): void {
  to.clear(0);
  to.prefixBytes = leaf.prefixBytes;
  if (leaf.prefixBytes > 0) copy(to.prefix.address, leaf.prefix.address, leaf.prefixBytes);
  to.append(leaf, part.from, part.end);
}

/** Joins two neighbouring leaves in `left`; false, with nothing but prefixes changed, when they would be too full. */
export function join(left: Node, right: Node): boolean {
  const shared = Math.min(sharedPrefix(left, right), left.prefixBytes, right.prefixBytes);
  if (left.count + right.count > (left.capacity(shared) * 3) / 4) return false;
  if (left.count === 0) {
    takePart(left, right, { from: 0, end: right.count });
    return true;
  }
  if (right.count === 0) return true;
  if (left.prefixBytes > shared) shrinkPrefix(left, shared);
  if (right.prefixBytes > shared) shrinkPrefix(right, shared);
  left.append(right, 0, right.count);
  assert(left.count <= left.capacity(shared), "two leaves that are joined fit one");
  return true;
}

function sharedPrefix(left: Node, right: Node): number {
  const view = (node: Node): ProbeKey => ({ memory: node.prefix, bytes: node.prefixBytes });
  return sharedBytes(view(left), view(right));
}
