/**
 * What is asserted before a number or a view goes out through FFI, which cuts fractions and NaN silently and
 * believes every length.
 */

import { assert } from "../errors.ts";
import type { Place } from "./memory.ts";
import type { FileHandle } from "./system.ts";

/** The number is whole, not negative and exact. */
export function assertWhole(value: number, name: string): void {
  assert(Number.isSafeInteger(value) && value >= 0, name);
}

/** The span is made of whole bytes and ends at a position that a number can hold. */
export function assertSpan(span: { readonly position: number; readonly bytes: number }): void {
  assertWhole(span.position, "a position is a whole number of bytes");
  assertWhole(span.bytes, "a length is a whole number of bytes");
  assertWhole(span.position + span.bytes, "a span ends within the numbers that are exact");
}

/** The place holds that many bytes; of a raw pointer only that it is one is known. */
export function assertHolds(place: Place, bytes: number): void {
  if (typeof place === "number") {
    assertWhole(place, "an address is a whole number");
    assert(place !== 0 || bytes === 0, "an address is not 0");
  } else {
    assert(place.byteLength >= bytes, "a view holds all the bytes that are moved");
  }
}

/** The handle may be one: not an error passed on by mistake. */
export function assertHandle(file: FileHandle): void {
  assertWhole(file, "a file handle is a whole number and not an error");
}

/** The range is made of whole pages and is not empty. */
export function assertPages(address: number, bytes: number, pageBytes: number): void {
  assertWhole(address, "an address is a whole number");
  assertWhole(bytes, "a length is a whole number of bytes");
  assert(address !== 0, "an address is not 0");
  assert(address % pageBytes === 0 && bytes % pageBytes === 0, "memory is asked for and given back in whole pages");
}
