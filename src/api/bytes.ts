/**
 * A caller's keys and values, checked once and handed on as they are: a string stays a string, bytes stay the
 * caller's own array, so that the usual call builds nothing.
 *
 * Decisions
 * 1. A string with a lone surrogate has no UTF-8 bytes and is refused: replacing it, as TextEncoder does, would
 *    make two different keys one.
 * 2. A view on a detached or shrunk buffer is refused; it would read as empty.
 * 3. Bytes in a SharedArrayBuffer are taken, and copied once: of what another thread writes to meanwhile some mixture of old
 *    and new bytes is the key, or is stored. A key is hashed as that copy (`engine/read/prefetch.ts`), a value is checked as it
 *    (`log/encoder.ts`).
 * 4. No check runs code of the caller's, which could change what was checked before.
 * 5. Other views (DataView, Uint16Array ...) are refused: their bytes depend on the machine.
 */

import { isByteArray } from "../codec/byte-array.ts";
import type { Bytes } from "../engine/contract.ts";
import { EmdbError } from "../errors.ts";
import { KEY_BYTES_MAX, NAMESPACE_NAME_BYTES_MAX, VALUE_BYTES_MAX } from "../limits.ts";
import { describe } from "./describe.ts";

const encoder = new TextEncoder();

/** Works on views of any realm, and cannot be overridden by a subclass or a proxy: no code of the caller's runs. */
const getterOf = (name: string): ((this: unknown) => unknown) =>
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), name)?.get ?? (() => undefined);
const bufferOfView = getterOf("buffer");
const offsetOfView = getterOf("byteOffset");
const byteLengthOfView = getterOf("byteLength");
const isDetached = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, "detached")?.get;
const isResizable = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, "resizable")?.get;
const lengthOfBuffer = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, "byteLength")?.get;

interface Bound {
  readonly what: string;
  readonly bytesMax: number;
}

const KEY: Bound = { what: "key", bytesMax: KEY_BYTES_MAX };
const PREFIX: Bound = { what: "prefix", bytesMax: KEY_BYTES_MAX };
const VALUE: Bound = { what: "value", bytesMax: VALUE_BYTES_MAX };
const NAME: Bound = { what: "namespace name", bytesMax: NAMESPACE_NAME_BYTES_MAX };

/** UTF-8 takes at most three bytes for each unit of a string's length. */
const KEY_UNITS_SURE = Math.floor(KEY_BYTES_MAX / 3);
const VALUE_UNITS_SURE = Math.floor(VALUE_BYTES_MAX / 3);

/**
 * A key as the engine takes it; messages call it `what`.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT, EMDB_TOO_LARGE
 */
export function checkedKey(key: unknown, what = "key"): Bytes {
  if (typeof key === "string") {
    if (key.length <= KEY_UNITS_SURE && key.isWellFormed()) return key;
  } else if (ArrayBuffer.isView(key) && isPlain(key)) {
    const count = key.length;
    if (count !== 0 && count <= KEY_BYTES_MAX) return key;
  }
  return checkedSlowly(key, { what, bytesMax: KEY_BYTES_MAX });
}

/** What keys begin with, as `checkedKey` takes a key. */
export function checkedPrefix(prefix: unknown): Bytes {
  return checkedSlowly(prefix, PREFIX);
}

/**
 * A value as the engine takes it; messages call it `what`.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT, EMDB_TOO_LARGE
 */
export function checkedValue(value: unknown, what = "value"): Bytes {
  if (typeof value === "string") {
    if (value.length <= VALUE_UNITS_SURE && value.isWellFormed()) return value;
  } else if (ArrayBuffer.isView(value) && isPlain(value)) {
    const count = value.length;
    if (count !== 0 && count <= VALUE_BYTES_MAX) return value;
  }
  return checkedSlowly(value, { what, bytesMax: VALUE_BYTES_MAX });
}

/**
 * The name of a namespace: any non-empty string.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT, EMDB_TOO_LARGE
 */
export function checkedNamespaceName(name: unknown): string {
  if (typeof name !== "string") {
    throw new EmdbError("EMDB_INVALID_ARGUMENT", `a namespace name must be a string, got ${describe(name)}`);
  }
  if (name === "") throw new EmdbError("EMDB_INVALID_ARGUMENT", "a namespace name must not be empty");
  checkText(name, NAME);
  return name;
}

/** How many bytes a view has, whatever it says of itself. */
export function viewBytes(view: ArrayBufferView): number {
  return byteLengthOfView.call(view) as number;
}

/**
 * Of a batch some of whose bytes have another length than when they were checked: refuses those that may have.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT, EMDB_TOO_LARGE
 */
export function refuseResized(keys: readonly Bytes[], values: readonly Bytes[]): void {
  for (const key of keys) refuseChanged(key, KEY);
  for (const value of values) refuseChanged(value, VALUE);
}

/** The same bytes, safe from what the caller does with its array afterwards. */
export function ownCopy(bytes: Bytes): Bytes {
  // Not `slice`: a Buffer's shares its memory.
  return typeof bytes === "string" ? bytes : new Uint8Array(bytes);
}

/** The same bytes in an array of their own. */
export function ownArray(bytes: Bytes): Uint8Array {
  return typeof bytes === "string" ? encoder.encode(bytes) : new Uint8Array(bytes);
}

/** Whether stored bytes are the given ones. */
export function isSameBytes(stored: Uint8Array, given: Bytes): boolean {
  return Buffer.compare(stored, typeof given === "string" ? encoder.encode(given) : given) === 0;
}

/** Whether `bytes` begins with `prefix`. */
export function startsWith(bytes: Uint8Array, start: { readonly prefix: Uint8Array }): boolean {
  const { prefix } = start;
  if (bytes.length < prefix.length) return false;
  for (let index = 0; index < prefix.length; index += 1) {
    if (bytes[index] !== prefix[index]) return false;
  }
  return true;
}

/**
 * A byte array of which `length` is what it has and not what somebody made it say: as many bytes would be read. What has one
 * of its own, and a subclass, is looked at more closely. Not `instanceof`, which may run code of the caller's.
 */
function isPlain(view: ArrayBufferView): view is Uint8Array {
  const prototype: unknown = Object.getPrototypeOf(view);
  return (prototype === Uint8Array.prototype || prototype === Buffer.prototype) && !Object.hasOwn(view, "length");
}

function checkedSlowly(given: unknown, bound: Bound): Bytes {
  if (typeof given === "string") {
    checkText(given, bound);
    return given;
  }
  const bytes = asByteArray(given, bound);
  if (bytes.length > bound.bytesMax) throw tooLarge(bound, bytes.length);
  return bytes;
}

function checkText(text: string, bound: Bound): void {
  if (!text.isWellFormed()) {
    throw new EmdbError(
      "EMDB_INVALID_ARGUMENT",
      `the ${bound.what} is a string with a lone surrogate, which has no UTF-8 bytes; pass a Uint8Array or text.toWellFormed()`,
    );
  }
  const byteCount = Buffer.byteLength(text, "utf8");
  if (byteCount > bound.bytesMax) throw tooLarge(bound, byteCount);
}

function asByteArray(given: unknown, bound: Bound): Uint8Array {
  if (isByteArray(given)) {
    if (byteLengthOfView.call(given) === 0 && isOutOfBuffer(given)) throw detached(bound);
    if (isPlain(given)) return given;
    const buffer = bufferOfView.call(given) as ArrayBuffer;
    return new Uint8Array(buffer, offsetOfView.call(given) as number, byteLengthOfView.call(given) as number);
  }
  if (isArrayBuffer(given)) {
    if (isDetached?.call(given) === true) throw detached(bound);
    return new Uint8Array(given);
  }
  const advice = ArrayBuffer.isView(given) ? "; wrap its buffer, offset and byteLength in a Uint8Array" : "";
  throw new EmdbError(
    "EMDB_INVALID_ARGUMENT",
    `the ${bound.what} must be a string, a Uint8Array or an ArrayBuffer, got ${describe(given)}${advice}`,
  );
}

/** A detached buffer, or a resizable one that shrank below the view, shows only in what its methods throw. */
function isOutOfBuffer(view: ArrayBufferView): boolean {
  try {
    Uint8Array.prototype.indexOf.call(view, 0);
    return false;
  } catch {
    return true;
  }
}

function isArrayBuffer(given: unknown): given is ArrayBuffer {
  if (typeof given !== "object" || given === null) return false;
  try {
    lengthOfBuffer?.call(given);
    return true;
  } catch {
    return false;
  }
}

function detached(bound: Bound): EmdbError {
  return new EmdbError("EMDB_INVALID_ARGUMENT", `the ${bound.what}'s buffer is detached or shrunk; its bytes are gone`);
}

/** Memory that another thread shares may grow at any time, and is taken as long as it is when it is copied. */
function refuseChanged(bytes: Bytes, bound: Bound): void {
  if (typeof bytes === "string") return;
  if (bytes.length > bound.bytesMax) throw tooLarge(bound, bytes.length);
  const buffer = bufferOfView.call(bytes);
  if (buffer instanceof SharedArrayBuffer) return;
  if (isOutOfBuffer(bytes)) throw detached(bound);
  if (isResizable?.call(buffer) !== true) return;
  const told = `the ${bound.what} has ${bytes.length} bytes now; a buffer was resized while the batch was read`;
  throw new EmdbError("EMDB_INVALID_ARGUMENT", told);
}

function tooLarge(bound: Bound, byteCount: number): EmdbError {
  return new EmdbError("EMDB_TOO_LARGE", `the ${bound.what} has ${byteCount} bytes; the limit is ${bound.bytesMax}`);
}
