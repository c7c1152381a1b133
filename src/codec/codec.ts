/** The ready-made codecs: pure functions over bytes. What they refuse is EMDB_INVALID_ARGUMENT. */

import { jsonCodec, parsed } from "./json.ts";
import { uint32Codec, uint64Codec } from "./integers.ts";
import { structuredCodec } from "./structured.ts";
import { bytesCodec, textCodec } from "./text.ts";
import type { ByteCodec } from "./types.ts";

/** Ready-made codecs. `uint32` and `uint64` keep numeric order in byte order. */
export const codec: {
  /** Bytes as they are. */
  readonly bytes: ByteCodec<Uint8Array, Uint8Array>;
  /** UTF-8; what is not is refused, in both directions. A byte order mark is kept. */
  readonly text: ByteCodec<string, string>;
  /** What `JSON.stringify` takes; a value it would leave out (undefined, a function) is refused. */
  json<T = unknown>(): ByteCodec<T, string>;
  /** Structured clone (Map, Set, Date, typed arrays ...); readable by the same Bun major only. */
  structured<T = unknown>(): ByteCodec<T, Uint8Array>;
  /** Whole numbers from 0 to 2^32 - 1 as four bytes, big-endian. */
  readonly uint32: ByteCodec<number, Uint8Array>;
  /** Bigints from 0n to 2^64 - 1 as eight bytes, big-endian. */
  readonly uint64: ByteCodec<bigint, Uint8Array>;
} = {
  bytes: bytesCodec,
  text: textCodec,
  json: <T>() => jsonCodec as ByteCodec<T, string>,
  structured: <T>() => structuredCodec as ByteCodec<T, Uint8Array>,
  uint32: uint32Codec,
  uint64: uint64Codec,
};

/** The codecs above whose bytes nobody else holds. */
const FRESH: ReadonlySet<object> = new Set([textCodec, jsonCodec, structuredCodec, uint32Codec, uint64Codec]);

/** Those whose bytes are text, and what they make of it. */
const OF_TEXT: ReadonlyMap<object, (text: string) => unknown> = new Map<object, (text: string) => unknown>([
  [textCodec, (text) => text],
  [jsonCodec, parsed],
]);

/** What a codec makes of a value's text, if it is one of the codecs above that decode nothing else. */
export function ofText(given: object): ((text: string) => unknown) | undefined {
  return OF_TEXT.get(given);
}

/** Whether it is one of the codecs above. */
export function isReadyMade(given: object): boolean {
  return given === bytesCodec || FRESH.has(given);
}

/** Whether each `encode` gives bytes of its own, so that they need no copy while they wait. */
export function givesFreshBytes(given: object): boolean {
  return FRESH.has(given);
}
