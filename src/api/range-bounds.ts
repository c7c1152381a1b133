/** From `RangeOptions` to the bounds that the ordered index takes. */

import type { Bytes, RangeBounds } from "../engine/contract.ts";
import { EmdbError } from "../errors.ts";
import { checkedKey, checkedPrefix, ownArray } from "./bytes.ts";
import { describe, refuseUnknownNames, isOptions } from "./describe.ts";
import type { RangeOptions } from "./types.ts";

type Bound = NonNullable<RangeBounds["lower"]>;

const RANGE_RULE = {
  what: "RangeOptions",
  known: ["gt", "gte", "lt", "lte", "prefix", "reverse", "limit"],
  code: "EMDB_INVALID_ARGUMENT",
} as const;

/** What checks and encodes one bound as the key space does its keys; messages call it `what`. */
interface BoundCodec<K> {
  keyIn(bound: K, what: string): Bytes;
}

/**
 * Checks `range` and turns it into bounds with bytes of their own; undefined when no key can lie inside.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT, EMDB_TOO_LARGE
 */
export function rangeBoundsOf<K>(range: RangeOptions<K>, codec: BoundCodec<K>): RangeBounds | undefined {
  if (!isOptions(range)) throw wrong(`a range must be an object, got ${describe(range)}`);
  refuseUnknownNames(range, RANGE_RULE);
  const { gt, gte, lt, lte, prefix, reverse = false, limit = Number.POSITIVE_INFINITY } = range;
  if (typeof reverse !== "boolean") throw wrong(`reverse must be true or false, got ${describe(reverse)}`);
  if (limit !== Number.POSITIVE_INFINITY && !(Number.isSafeInteger(limit) && limit >= 0)) {
    throw wrong(`limit must be a whole number >= 0 or Infinity, got ${describe(limit)}`);
  }
  if (prefix !== undefined) {
    if ([gt, gte, lt, lte].some((bound) => bound !== undefined))
      throw wrong("prefix and a bound exclude each other; give one, or two bounds for a part of what has the prefix");
    return unlessEmpty({ ...prefixBounds(arrayOf(checkedPrefix(prefix))), isReverse: reverse, limit });
  }
  const behind = gt === undefined ? undefined : boundAt(codec.keyIn(gt, "bound gt"), { isInclusive: false });
  const from = gte === undefined ? undefined : boundAt(codec.keyIn(gte, "bound gte"), { isInclusive: true });
  const before = lt === undefined ? undefined : boundAt(codec.keyIn(lt, "bound lt"), { isInclusive: false });
  const upTo = lte === undefined ? undefined : boundAt(codec.keyIn(lte, "bound lte"), { isInclusive: true });
  const lower = stricter(behind, from, { side: "lower" });
  const upper = stricter(before, upTo, { side: "upper" });
  return unlessEmpty({ lower, upper, isReverse: reverse, limit });
}

/** The bound that holds where both do: of equal keys the one that leaves its key out. */
function stricter(
  exclusive: Bound | undefined,
  inclusive: Bound | undefined,
  of: { readonly side: "lower" | "upper" },
): Bound | undefined {
  if (exclusive === undefined || inclusive === undefined) return exclusive ?? inclusive;
  const order = Buffer.compare(inclusive.key, exclusive.key);
  return (of.side === "lower" ? order > 0 : order < 0) ? inclusive : exclusive;
}

/** The bounds of every key that starts with `prefix`. */
export function prefixBounds(prefix: Uint8Array): { readonly lower: Bound; readonly upper: Bound | undefined } {
  return { lower: boundAt(prefix, { isInclusive: true }), upper: successorBound(prefix) };
}

/** The least key behind every key with that prefix: drop the 0xFF at the end, add one to what is then last. */
function successorBound(prefix: Uint8Array): Bound | undefined {
  let length = prefix.length;
  while (length > 0 && prefix[length - 1] === 0xff) length -= 1;
  if (length === 0) return undefined;
  // Not `slice`, which gives a view where a Buffer is given.
  const successor = new Uint8Array(prefix.subarray(0, length));
  successor[length - 1] = (successor[length - 1] ?? 0) + 1;
  return { key: successor, isInclusive: false };
}

function boundAt(key: Bytes, side: { readonly isInclusive: boolean }): Bound {
  return { key: arrayOf(key), isInclusive: side.isInclusive };
}

/** Its own bytes, checked once more: memory that another thread shares may have changed, and grown, behind the check. */
function arrayOf(key: Bytes): Uint8Array {
  const own = ownArray(key);
  checkedKey(own);
  return own;
}

function unlessEmpty(bounds: RangeBounds): RangeBounds | undefined {
  const { lower, upper, limit } = bounds;
  return limit === 0 || (lower !== undefined && upper !== undefined && isCrossed(lower, upper)) ? undefined : bounds;
}

function isCrossed(lower: Bound, upper: Bound): boolean {
  const order = Buffer.compare(lower.key, upper.key);
  return order > 0 || (order === 0 && !(lower.isInclusive && upper.isInclusive));
}

function wrong(message: string): EmdbError {
  return new EmdbError("EMDB_INVALID_ARGUMENT", message);
}
