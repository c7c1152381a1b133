/**
 * A key space as seen through codecs: what turns a caller's keys and values into bytes and back. Without a codec
 * the bytes pass as they are; that branch is the hot path.
 */

import { givesFreshBytes, isReadyMade, ofText } from "../codec/codec.ts";
import type { Bytes, Space } from "../engine/contract.ts";
import { EmdbError } from "../errors.ts";
import { checkedKey, checkedValue, ownCopy } from "./bytes.ts";
import { describe, refuseUnknownNames, isOptions } from "./describe.ts";
import type { Handle } from "./handle.ts";
import type { BytesLike, Codec } from "./types.ts";

/** Undefined stands for bytes as they are. */
export interface Codecs<K, V> {
  readonly key: Codec<K> | undefined;
  readonly value: Codec<V> | undefined;
}

/** No codecs at all. */
export const RAW: { readonly key: undefined; readonly value: undefined } = { key: undefined, value: undefined };

export class CodedSpace<K, V, KeyIn, ValueIn> {
  readonly handle: Handle;
  readonly space: Space;
  readonly keyCodec: Codec<K> | undefined;
  readonly valueCodec: Codec<V> | undefined;
  /** What the codec makes of a value's text, which the engine reads without an array of its bytes. */
  readonly valueOfText: ((text: string) => V) | undefined;

  constructor(place: { readonly handle: Handle; readonly space: Space }, codecs: Codecs<K, V>) {
    this.handle = place.handle;
    this.space = place.space;
    this.keyCodec = codecs.key;
    this.valueCodec = codecs.value;
    this.valueOfText = codecs.value === undefined ? undefined : (ofText(codecs.value) as (text: string) => V);
  }

  /** Checked bytes of a key, possibly the caller's own array; messages call it `what`. */
  keyIn(key: KeyIn, what?: string): Bytes {
    const codec = this.keyCodec;
    if (codec === undefined) return checkedKey(key, what);
    const bytes = checkedKey(encoded(codec, key as unknown as K), what);
    // One codec may serve keys and values and reuse one buffer for both.
    return givesFreshBytes(codec) ? bytes : ownCopy(bytes);
  }

  /**
   * As `keyIn`, in bytes that stay as they were checked while the value's codec runs: that is code of the caller's, which
   * may change, resize or detach an array.
   */
  keyKept(key: KeyIn): Bytes {
    const bytes = this.keyIn(key);
    return this.keyCodec === undefined && this.valueCodec !== undefined ? ownCopy(bytes) : bytes;
  }

  /** Checked bytes of a value, possibly the caller's own array or a codec's buffer: good until the next call. Messages call it `what`. */
  valueIn(value: ValueIn, what?: string): Bytes {
    const codec = this.valueCodec;
    if (codec === undefined) return checkedValue(value, what);
    if (value === undefined) throw undefinedValue();
    return checkedValue(encoded(codec, value as unknown as V), what);
  }

  /** As `valueIn`, in bytes that a codec does not write to again; a plain array is still the caller's. */
  valueKept(value: ValueIn, what?: string): Bytes {
    const bytes = this.valueIn(value, what);
    const codec = this.valueCodec;
    return codec === undefined || givesFreshBytes(codec) ? bytes : ownCopy(bytes);
  }

  keyOut(bytes: Uint8Array): K {
    const codec = this.keyCodec;
    return codec === undefined ? (bytes as unknown as K) : codec.decode(bytes);
  }

  valueOut(bytes: Uint8Array): V {
    const codec = this.valueCodec;
    return codec === undefined ? (bytes as unknown as V) : codec.decode(bytes);
  }
}

/** Errors of ours that codecs of the caller's have thrown: they go out as they are. */
const foreign = new WeakSet<EmdbError>();

/** Whether a codec of the caller's threw it. */
export function isFromCodec(error: EmdbError): boolean {
  return foreign.has(error);
}

function encoded<T>(codec: Codec<T>, value: T): BytesLike {
  try {
    return codec.encode(value);
  } catch (error) {
    if (error instanceof EmdbError && !isReadyMade(codec)) foreign.add(error);
    throw error;
  }
}

/**
 * The codecs of a typed view.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT
 */
export function checkedCodecs<K, V>(codecs: {
  readonly key?: Codec<K> | undefined;
  readonly value: Codec<V>;
}): Codecs<K, V> {
  if (!isOptions(codecs)) throw wrong(`codecs must be { key?, value }, got ${describe(codecs)}`);
  refuseUnknownNames(codecs, { what: "codecs", known: ["key", "value"], code: "EMDB_INVALID_ARGUMENT" });
  // Each is read once: what is checked is what is used.
  const { key, value } = codecs;
  if (key !== undefined) requireCodec("key", key);
  requireCodec("value", value);
  return { key, value };
}

function requireCodec(name: string, codec: unknown): void {
  const { encode, decode } = Object(codec) as { readonly encode?: unknown; readonly decode?: unknown };
  if (typeof encode === "function" && typeof decode === "function") return;
  // The likely slip is codec.json for codec.json().
  const advice = typeof codec === "function" ? "; call it: codec.json()" : "";
  throw wrong(`the ${name} codec must have encode and decode, got ${describe(codec)}${advice}`);
}

function undefinedValue(): EmdbError {
  return wrong("the value is undefined, which means absent; use remove, or null");
}

function wrong(message: string): EmdbError {
  return new EmdbError("EMDB_INVALID_ARGUMENT", message);
}
