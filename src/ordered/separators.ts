/**
 * Separators: the shortest byte strings that tell two neighbouring nodes apart, and how long ones are kept.
 *
 * All keys left of a separator sort before it, all others at or behind it. It is the first key on its right,
 * cut behind the first byte in which that differs from the last key on its left. It is no record's key, so it
 * stays good whatever becomes of the records, and a search for the way down never reads the log.
 *
 *     unit    u32 next unit, 0 for none   then 60 bytes; the first unit's begin with u32 length of the whole
 *
 * Invariants
 * 1. A separator's units do not change while a reachable node names them.
 */

import { assert } from "../errors.ts";
import { compare, copy, pinned, type Pinned } from "../ffi/memory.ts";
import { UNIT_BYTES, type Heap } from "../ffi/heap.ts";
import type { Reclaim } from "../ffi/reclaim.ts";
import { KEY_BYTES_MAX } from "../limits.ts";
import { LONG, type Node, type ProbeKey } from "./node.ts";

const LINK_BYTES = 4;
const LENGTH_BYTES = 4;

/** Bytes in pinned memory. */
export interface Text {
  readonly memory: Pinned;
  bytes: number;
}

/** Room for one key or separator. */
export function makeText(): Text {
  return { memory: pinned(KEY_BYTES_MAX + 8), bytes: 0 };
}

/** Fills in a text from an array. */
export function setText(text: Text, bytes: Uint8Array): void {
  if (bytes.length > 0) copy(text.memory.address, bytes, bytes.length);
  text.bytes = bytes.length;
}

/** Fills in a text from another. */
export function copyText(text: Text, from: ProbeKey): void {
  if (from.bytes > 0) copy(text.memory.address, from.memory.address, from.bytes);
  text.bytes = from.bytes;
}

/** Below, at or above 0 as `a` sorts before, with or after `b`. */
export function compareTexts(a: ProbeKey, b: ProbeKey): number {
  const shared = Math.min(a.bytes, b.bytes);
  const order = shared === 0 ? 0 : compare(a.memory.address, b.memory.address, shared);
  return order === 0 ? a.bytes - b.bytes : order;
}

/** How many first bytes two texts have in common. */
export function sharedBytes(a: ProbeKey, b: ProbeKey): number {
  const end = Math.min(a.bytes, b.bytes);
  const left = a.memory.u8;
  const right = b.memory.u8;
  let shared = 0;
  while (shared < end && left[shared] === right[shared]) shared += 1;
  return shared;
}

export class Separators {
  readonly #heap: Heap;
  readonly #unit = pinned(UNIT_BYTES);
  /** The separator that was last loaded. */
  readonly text: Text = makeText();

  constructor(heap: Heap) {
    this.#heap = heap;
  }

  /** Loads the separator before a child of an inner node, in full. */
  load(node: Node, index: number): Text {
    const { text } = this;
    const unit = node.longUnit(index);
    if (unit !== 0) {
      this.#loadUnits(unit);
      return text;
    }
    const inline = node.classOf(index);
    assert(index > 0 && inline !== LONG, "every child but the first has a separator");
    if (node.prefixBytes > 0) copy(text.memory.address, node.prefix.address, node.prefixBytes);
    for (let byte = 0; byte < inline; byte++) text.memory.u8[node.prefixBytes + byte] = node.inlineByte(index, byte);
    text.bytes = node.prefixBytes + inline;
    return text;
  }

  #loadUnits(first: number): void {
    const { text } = this;
    const words = this.#unit.u32;
    copy(this.#unit.address, this.#heap.unitAddress(first), UNIT_BYTES);
    const bytes = words[1]!;
    assert(bytes <= KEY_BYTES_MAX, "a separator is no longer than a key");
    let from = LINK_BYTES + LENGTH_BYTES;
    for (let done = 0; done < bytes; from = LINK_BYTES) {
      const part = Math.min(bytes - done, UNIT_BYTES - from);
      copy(text.memory.address + done, this.#unit.address + from, part);
      done += part;
      if (done < bytes) copy(this.#unit.address, this.#heap.unitAddress(words[0]!), UNIT_BYTES);
    }
    text.bytes = bytes;
  }

  /** Keeps a separator; returns its first unit. */
  keep(text: Text): number {
    const heap = this.#heap;
    const words = this.#unit.u32;
    let left = text.bytes;
    let next = 0;
    // From the end: a unit is written when the one behind it is known.
    const firstPart = Math.min(left, UNIT_BYTES - LINK_BYTES - LENGTH_BYTES);
    const partBytes = UNIT_BYTES - LINK_BYTES;
    while (left > firstPart) {
      const part = (left - firstPart) % partBytes || partBytes;
      left -= part;
      words[0] = next;
      copy(this.#unit.address + LINK_BYTES, text.memory.address + left, part);
      next = heap.takeUnit();
      copy(heap.unitAddress(next), this.#unit.address, UNIT_BYTES);
    }
    words[0] = next;
    words[1] = text.bytes;
    if (left > 0) copy(this.#unit.address + LINK_BYTES + LENGTH_BYTES, text.memory.address, left);
    const first = heap.takeUnit();
    copy(heap.unitAddress(first), this.#unit.address, UNIT_BYTES);
    return first;
  }

  /** Retires the units of a separator that no reachable node names any more. */
  retire(first: number, reclaim: Reclaim): void {
    for (let unit = first; unit !== 0;) {
      const next = this.#heap.read32(this.#heap.unitAddress(unit));
      reclaim.retireUnit(unit);
      unit = next;
    }
  }
}
