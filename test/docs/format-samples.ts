/**
 * The samples of docs/format.md, as the encoder builds them: one log with a frame of every kind, front to back,
 * and a few frames that no short log has.
 *
 * `bun test/docs/format-samples.ts` prints the dumps as they stand in the document.
 */

import { copy, pinned } from "../../src/ffi/memory.ts";
import { FrameSealer } from "../../src/crypto/frame-sealer.ts";
import { SecretKey } from "../../src/crypto/secret.ts";
import { deriveSessionKey, encodeSession, makeSession, NO_SESSION_MAC } from "../../src/crypto/session.ts";
import { CLEAR_BYTES, SealedEncoder } from "../../src/engine/sealed/sealed-encoder.ts";
import { FrameEncoder } from "../../src/log/encoder.ts";
import {
  KIND_ABORT,
  KIND_CLEAR,
  KIND_END,
  KIND_MARK,
  KIND_PUT,
  KIND_REMOVE,
  KIND_SESSION,
  KIND_SPACE_CREATE,
  KIND_SPACE_DROP,
  PLACE_ALONE,
  PLACE_FIRST,
  PLACE_LAST,
  PLACE_MIDDLE,
  SHAPE_CLEAN,
} from "../../src/log/frame.ts";
import { encodeHeader, saltsOf, type LogHeader } from "../../src/log/header.ts";
import { dumpFrame, dumpHeader } from "./dump.ts";

/** The file that the document takes apart. */
export const sampleHeader: LogHeader = {
  flags: 0,
  fileId: Uint8Array.from({ length: 16 }, (_, index) => 0xa0 + index),
  generation: 1,
  createdAtMs: 1_700_000_000_000,
  cipher: 0,
  madeEnd: 0,
};

/** A frame of the samples, and where it stands. */
export interface SampleFrame {
  /** The name of its dump in the document. */
  readonly name: string;
  readonly lsn: number;
  readonly bytes: Uint8Array;
}

interface Draft {
  readonly name: string;
  readonly kind: number;
  readonly key?: string;
  readonly value?: string | Uint8Array;
  readonly place?: number;
  readonly flags?: number;
  readonly space?: number;
  readonly expiresAtMs?: number;
  /** The name of the frame that holds the version before. */
  readonly prev?: string;
  /** The name of the frame before which all was durable; the beginning of the log when none is named. */
  readonly durable?: string;
}

/** One log, in order; a mark stands where the next frame will. */
const drafts: readonly Draft[] = [
  { name: "put", kind: KIND_PUT, key: "apple", value: "red" },
  { name: "put-expiry", kind: KIND_PUT, key: "pear", value: "green", expiresAtMs: 9_000_000_000_000 },
  { name: "put-again", kind: KIND_PUT, key: "apple", value: "yellow", prev: "put", durable: "put-again" },
  { name: "remove", kind: KIND_REMOVE, key: "pear", prev: "put-expiry", durable: "put-again" },
  { name: "space-create", kind: KIND_SPACE_CREATE, key: "users", space: 1, durable: "put-again" },
  { name: "put-space", kind: KIND_PUT, key: "1", value: "Ada", space: 1, durable: "put-again" },
  { name: "clear", kind: KIND_CLEAR, space: 1, durable: "put-again" },
  { name: "space-drop", kind: KIND_SPACE_DROP, space: 1, durable: "put-again" },
  { name: "batch-first", kind: KIND_PUT, key: "a", value: "1", place: PLACE_FIRST, durable: "put-again" },
  { name: "batch-middle", kind: KIND_PUT, key: "b", value: "2", place: PLACE_MIDDLE, durable: "put-again" },
  { name: "batch-last", kind: KIND_PUT, key: "c", value: "3", place: PLACE_LAST, durable: "put-again" },
  { name: "ended-first", kind: KIND_PUT, key: "d", value: "4", place: PLACE_FIRST, durable: "put-again" },
  { name: "end", kind: KIND_END, place: PLACE_LAST, durable: "put-again" },
  { name: "aborted-first", kind: KIND_PUT, key: "e", value: "5", place: PLACE_FIRST, durable: "put-again" },
  { name: "abort", kind: KIND_ABORT, place: PLACE_LAST, durable: "put-again" },
  { name: "empty", kind: KIND_PUT, durable: "put-again" },
  { name: "long", kind: KIND_PUT, key: "long", value: "z".repeat(5000), durable: "long" },
  { name: "clean-mark", kind: KIND_MARK, flags: SHAPE_CLEAN, durable: "clean-mark" },
];

interface Numbers {
  readonly lsn: number;
  readonly prev: number;
  readonly durable: number;
}

const plainEncoder = new FrameEncoder(saltsOf(sampleHeader));

function encode(draft: Draft, at: Numbers, encoder: FrameEncoder = plainEncoder): SampleFrame {
  const key = pinned(256);
  const keyBytes = new TextEncoder().encodeInto(draft.key ?? "", key.u8).written;
  encoder.kind = draft.kind;
  encoder.place = draft.place ?? PLACE_ALONE;
  encoder.flags = draft.flags ?? 0;
  encoder.space = draft.space ?? 0;
  encoder.expiresAtMs = draft.expiresAtMs ?? 0;
  encoder.prev = at.prev;
  encoder.durable = at.durable;
  if (draft.value === undefined) encoder.loadNothing();
  else encoder.loadValue(draft.value);
  const bytes = new Uint8Array(encoder.measure(keyBytes, at.lsn));
  encoder.encode(key, keyBytes, at.lsn);
  copy(bytes, encoder.stage.address, bytes.length);
  return { name: draft.name, lsn: at.lsn, bytes };
}

const FIRST = 4096;

function encodeLog(): SampleFrame[] {
  const places = new Map<string, number>();
  let lsn = FIRST;
  return drafts.map((draft) => {
    places.set(draft.name, lsn);
    const place = (name: string | undefined, otherwise: number): number =>
      name === undefined ? otherwise : (places.get(name) ?? otherwise);
    const frame = encode(draft, { lsn, prev: place(draft.prev, 0), durable: place(draft.durable, FIRST) });
    lsn += frame.bytes.length;
    return frame;
  });
}

/** The frames of the sample log, front to back, the clean mark last. */
export const logFrames: readonly SampleFrame[] = encodeLog();

/** A mark that no close wrote: where the log ended after a flush, before the next frame overwrote it. */
const markAt = logFrames[2]?.lsn ?? 0;

const cipher = "aes-256-gcm";

/** A session at the beginning of a log with this data key (32 bytes of 01) and session salt (32 bytes of 02). */
function sampleSession(): { readonly record: Uint8Array; readonly sealer: FrameSealer } {
  const { fileId, generation } = sampleHeader;
  const dataKey = new SecretKey(new Uint8Array(32).fill(1));
  const salt = new Uint8Array(32).fill(2);
  const session = makeSession(dataKey, { fileId, generation, lsn: FIRST, previousMac: NO_SESSION_MAC, salt });
  const key = deriveSessionKey(dataKey, { cipher, fileId, generation, salt });
  const sealer = new FrameSealer({ cipher, key, fileId, generation, clearBytes: CLEAR_BYTES });
  return { record: encodeSession(session), sealer };
}

/** The first frames of an encrypted log. */
function encryptedFrames(): SampleFrame[] {
  const { record, sealer } = sampleSession();
  let counter = 0;
  const sealing = new SealedEncoder(saltsOf(sampleHeader), { sealer, nextCounter: () => counter++ });
  const session = encode(
    { name: "session", kind: KIND_SESSION, value: record },
    { lsn: FIRST, prev: 0, durable: FIRST },
  );
  const at = { lsn: FIRST + session.bytes.length, prev: 0, durable: FIRST };
  const put = encode({ name: "sealed-put", kind: KIND_PUT, key: "apple", value: "red" }, at, sealing);
  const end = at.lsn + put.bytes.length;
  const mark = { name: "sealed-mark", kind: KIND_MARK, flags: SHAPE_CLEAN };
  return [session, put, encode(mark, { lsn: end, prev: 0, durable: end }, sealing)];
}

/** Frames that do not stand in the sample log. */
export const looseFrames: readonly SampleFrame[] = [
  encode({ name: "mark", kind: KIND_MARK }, { lsn: markAt, prev: 0, durable: markAt }),
  encode(
    { name: "wide-space", kind: KIND_PUT, key: "k", value: "v", space: 70_000 },
    { lsn: 2 ** 24, prev: 0, durable: 2 ** 24 - 2 ** 23 },
  ),
  encode(
    { name: "wide-prev", kind: KIND_PUT, key: "k", value: "v", space: 70_000, expiresAtMs: 9_000_000_000_000 },
    { lsn: 2 ** 36, prev: FIRST, durable: 2 ** 36 - 2 ** 34 - 8 },
  ),
  ...encryptedFrames(),
];

/** The header page of the sample log. */
export function headerPage(): Uint8Array {
  return encodeHeader(sampleHeader).u8.slice();
}

/** The whole sample log as a file. */
export function sampleFile(): Uint8Array {
  const end = logFrames.reduce((last, frame) => Math.max(last, frame.lsn + frame.bytes.length), 0);
  const file = new Uint8Array(end);
  file.set(headerPage(), 0);
  for (const frame of logFrames) file.set(frame.bytes, frame.lsn);
  return file;
}

/** Every dump of the document by its name. */
export function dumps(): Map<string, string> {
  const all = new Map<string, string>([["header", dumpHeader(headerPage())]]);
  for (const frame of [...logFrames, ...looseFrames]) all.set(frame.name, dumpFrame(frame.bytes, frame.lsn));
  return all;
}

if (import.meta.main) {
  for (const [name, text] of dumps()) console.log(`\`\`\`dump ${name}\n${text}\n\`\`\`\n`);
}
