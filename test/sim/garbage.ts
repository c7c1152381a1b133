/**
 * Files of structured garbage: logs whose frames have sound checks and say nonsense, images whose chunks do, and either
 * of them cut, mixed, overwritten and lengthened. All from one number.
 *
 * What random bytes would never get past, a check, is made good here, so that what stands behind it is met.
 */

import { pinned } from "../../src/ffi/memory.ts";
import { chunkBytes, chunkCheck, CHUNK_BODY_BYTES_AT, HINT_HEADER_BYTES } from "../../src/engine/hint/hint-format.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { crc32, xxh32 } from "../../src/log/checksum.ts";
import { FrameEncoder } from "../../src/log/encoder.ts";
import { FRAME_HEADER_BYTES, frameBytes, headerCheck, writeWide, type Salts } from "../../src/log/frame.ts";
import { decodeHeader, encodeHeader, saltsOf } from "../../src/log/header.ts";
import { unitHigh, unitLow } from "../../src/log/log-words.ts";
import { encode, randomInput } from "../log/fixture.ts";
import { standardDraws } from "./draw.ts";
import { Driver } from "./driver.ts";
import { engineAdapter } from "./engine-adapter.ts";
import { Machine } from "./machine.ts";
import { Random } from "./random.ts";
import { randomScript } from "./script.ts";

interface Files {
  readonly log: Uint8Array;
  readonly image: Uint8Array | undefined;
}

/** Numbers that are taken for lengths, counts and positions, and go wrong at their edges. */
const EDGES = [0, 1, 7, 8, 23, 24, 4095, 4096, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff];

function someNumber(random: Random): number {
  if (random.chance(0.4)) return random.pick(EDGES);
  return random.chance(0.5) ? random.word() : random.word() >>> random.below(32);
}

/** Garbage number `seed`, made out of sound files or of nothing. */
export function garbage(seed: number, sound: readonly Files[]): Files {
  const random = new Random(seed);
  const base = random.pick(sound);
  switch (random.below(6)) {
    case 0:
      return { log: forgedLog(random), image: undefined };
    case 1:
      return { log: bluntly(random, forgedLog(random)), image: base.image };
    case 2:
      return { log: wounded(random, base.log, forgeHeaderPage), image: base.image };
    case 3:
      return { log: wounded(random, base.log, forgeFrames), image: random.chance(0.5) ? base.image : undefined };
    default: {
      const image = base.image === undefined ? undefined : wounded(random, base.image, forgeImage);
      return { log: random.chance(0.2) ? bluntly(random, base.log) : base.log, image };
    }
  }
}

/** Mostly a wound whose checks are made good; sometimes none, sometimes a blunt one. */
function wounded(random: Random, bytes: Uint8Array, forge: (random: Random, copy: Uint8Array) => void): Uint8Array {
  if (random.chance(0.2)) return bytes;
  if (random.chance(0.25)) return bluntly(random, bytes);
  const copy = bytes.slice();
  forge(random, copy);
  return copy;
}

/** Cut, lengthened, holed, scribbled over, or a piece of it elsewhere. */
function bluntly(random: Random, bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  const at = random.below(Math.max(1, copy.length));
  const length = Math.min(copy.length - at, random.below(200));
  switch (random.below(6)) {
    case 0:
      return copy.slice(0, at);
    case 1: {
      const longer = new Uint8Array(copy.length + random.below(9000));
      if (random.chance(0.5)) random.randomize(longer);
      longer.set(copy);
      return longer;
    }
    case 2:
      copy.fill(random.pick([0, 255]), at, at + length);
      return copy;
    case 3:
      random.randomize(copy.subarray(at, at + length));
      return copy;
    case 4: {
      const to = random.below(Math.max(1, copy.length - length)) & ~7;
      copy.copyWithin(to, at & ~7, (at & ~7) + length);
      return copy;
    }
    default:
      if (copy.length > 0) copy[at]! ^= 1 << random.below(8);
      return copy;
  }
}

// -- logs ----------------------------------------------------------------------

function forgeHeaderPage(random: Random, log: Uint8Array): void {
  if (log.length < HEADER_PAGE_BYTES) return;
  const page = pinned(HEADER_PAGE_BYTES);
  page.u8.set(log.subarray(0, HEADER_PAGE_BYTES));
  // Version, flags, file id, generation, time, cipher, and some of what follows.
  page.u32[2 + random.below(16)] = someNumber(random);
  page.i32[508 >> 2] = xxh32(page, 0, 508, 0);
  log.set(page.u8.subarray(0, HEADER_PAGE_BYTES));
}

/** A header page, and frames behind each other of which each is sound by itself. */
function forgedLog(random: Random): Uint8Array {
  const fileId = new Uint8Array(16);
  random.randomize(fileId);
  const madeEnd = random.below(4) === 0 ? HEADER_PAGE_BYTES + 8 * random.below(200) : 0;
  const header = { flags: 0, fileId, generation: 1 + random.below(3), createdAtMs: 1, cipher: 0, madeEnd };
  const page = encodeHeader(header).u8.slice(0, HEADER_PAGE_BYTES);
  const encoder = new FrameEncoder(saltsOf(header));
  const parts: Uint8Array[] = [page];
  let lsn = HEADER_PAGE_BYTES;
  for (let count = random.below(24); count > 0; count -= 1) {
    const frame = forgedFrame(random, { encoder, lsn });
    parts.push(frame);
    lsn += frame.length;
  }
  return Buffer.concat(parts);
}

function forgedFrame(
  random: Random,
  { encoder, lsn }: { readonly encoder: FrameEncoder; readonly lsn: number },
): Uint8Array {
  const input = randomInput(random);
  const below = (limit: number): number => HEADER_PAGE_BYTES + random.below(Math.max(1, (limit - 4096) / 8)) * 8;
  const isFar = random.chance(0.1);
  const bytes = encode(encoder, {
    ...input,
    lsn,
    // Near spaces and near positions, so that some of it makes sense together.
    space: isFar ? input.space : Math.min(input.space, random.below(4)),
    key: random.chance(0.7) ? input.key.slice(0, random.below(3)) : input.key,
    prev: input.prev > 0 && lsn > HEADER_PAGE_BYTES ? below(lsn) : 0,
    durable: random.chance(0.5) ? HEADER_PAGE_BYTES : below(lsn + 8),
  });
  const frame = pinned(bytes);
  frame.u8.set(encoder.stage.u8.subarray(0, bytes));
  if (random.chance(0.3)) {
    wound(random, frame.u32);
    reseal(frame, { salts: encoder.salts, lsn });
  }
  return frame.u8.slice(0, bytes);
}

/** Wounds some of the frames of a log that is otherwise as it was, and makes their checks good again. */
function forgeFrames(random: Random, log: Uint8Array): void {
  const verdict = decodeHeader(log);
  if (verdict.kind !== "sound") return;
  const salts = saltsOf(verdict.header);
  const share = random.pick([0.02, 0.1, 0.5]);
  for (let lsn = HEADER_PAGE_BYTES; lsn + FRAME_HEADER_BYTES <= log.length;) {
    const frame = pinned(FRAME_HEADER_BYTES);
    frame.u8.set(log.subarray(lsn, lsn + FRAME_HEADER_BYTES));
    const bytes = frameBytes(frame.u32[2]!, frame.u32[3]!);
    if (random.chance(share)) {
      wound(random, frame.u32);
      reseal(frame, { salts, lsn });
      log.set(frame.u8.subarray(0, FRAME_HEADER_BYTES), lsn);
    }
    lsn += bytes;
  }
}

/** A length that is too long, a kind that is none, a position that is nowhere: in the words behind the checks. */
function wound(random: Random, words: Uint32Array): void {
  const at = 2 + random.below(4);
  words[at] = random.chance(0.5) ? someNumber(random) : words[at]! ^ (1 << random.below(32));
}

function reseal(
  frame: ReturnType<typeof pinned>,
  { salts, lsn }: { readonly salts: Salts; readonly lsn: number },
): void {
  frame.i32[0] = headerCheck(frame, 0, { salt: salts.header, unitLow: unitLow(lsn), unitHigh: unitHigh(lsn) });
}

// -- images --------------------------------------------------------------------

const CHECK_AT = HINT_HEADER_BYTES - 8;
const SALT_WORD = 92 >> 2;

/** Changes some words of an image, and makes all its checks good again. */
function forgeImage(random: Random, image: Uint8Array): void {
  if (image.length < HINT_HEADER_BYTES) return;
  const memory = pinned(image.length);
  memory.u8.set(image);
  const chunks = chunksOf(memory.u32, image.length);
  if (random.chance(0.5)) forgeImageHeader(random, memory);
  for (let count = random.below(4); count > 0 && chunks.length > 0; count -= 1) {
    const { at, bytes } = random.pick(chunks);
    const words = random.chance(0.6) ? 14 : bytes >> 2;
    const word = (at >> 2) + 1 + random.below(words - 1);
    memory.u32[word] = random.chance(0.5) ? someNumber(random) : memory.u32[word]! ^ (1 << random.below(32));
  }
  const salt = memory.u32[SALT_WORD]!;
  for (const { at, bytes } of chunks) memory.i32[at >> 2] = chunkCheck(memory, { at, bytes, salt, place: at });
  memory.i32[CHECK_AT >> 2] = crc32(memory.u8.subarray(0, CHECK_AT), 0);
  image.set(memory.u8.subarray(0, image.length));
}

function forgeImageHeader(random: Random, memory: ReturnType<typeof pinned>): void {
  // Start, end, bytes and witness are positions; pages, ids and chunks are counts.
  if (random.chance(0.5)) writeWide(memory, random.pick([56, 64, 72, 96]), random.below(2000) * 8);
  else memory.u32[random.pick([80, 84, 88]) >> 2] = someNumber(random);
}

/** Where the chunks of an image lie. */
function chunksOf(words: Uint32Array, bytesAll: number): { readonly at: number; readonly bytes: number }[] {
  const chunks: { at: number; bytes: number }[] = [];
  for (let at = HINT_HEADER_BYTES; at + CHUNK_BODY_BYTES_AT + 4 <= bytesAll;) {
    const bytes = chunkBytes(words[(at + CHUNK_BODY_BYTES_AT) >> 2]!);
    if (at + bytes > bytesAll) break;
    chunks.push({ at, bytes });
    at += bytes;
  }
  return chunks;
}

/** Whether a log has a header that says whose frames are its own. */
export function hasSoundHeader(log: Uint8Array): boolean {
  return decodeHeader(log).kind === "sound";
}

// -- what it is made of ----------------------------------------------------------

/** Logs and images as an engine leaves them, closed and crashed. */
export function soundFiles(): Files[] {
  return Array.from({ length: 24 }, (_, seed) => {
    const machine = new Machine({ seed });
    const system = machine.boot();
    const driver = new Driver(engineAdapter(), { machine, system });
    driver.run(randomScript({ seed, length: 14, isWide: true }).map((step) => withoutLongValues(step)));
    const point = machine.capture();
    driver.end();
    machine.dispose();
    const after = Machine.restore(point, standardDraws({ seed, randomCount: 0 })[0]!, {});
    const reader = after.boot();
    const read = (path: string): Uint8Array => {
      const handle = reader.open(path, "read");
      if (handle < 0) return new Uint8Array(0);
      const bytes = new Uint8Array(reader.size(handle));
      reader.read(handle, bytes, { position: 0, bytes: bytes.length });
      return bytes;
    };
    const files = { log: read("/db/store"), image: read("/db/store.hint") };
    reader.kill();
    after.dispose();
    return { log: files.log, image: files.image.length === 0 ? undefined : files.image };
  });
}

function withoutLongValues<T extends { readonly kind: string }>(step: T): T {
  return step.kind === "insert"
    ? { ...step, bytes: Math.min((step as unknown as { bytes: number }).bytes, 200) }
    : step;
}
