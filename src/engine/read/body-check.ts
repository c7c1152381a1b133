/** Reading with `verifyReads`: header and body of a frame against their checksums, as they stand in the log now. */

import { copy, sharedScratch, wideningScratch } from "../../ffi/memory.ts";
import { XXH32_BODY_BYTES_MAX, crc32, placeSeed, xxh32, xxh32Of20 } from "../../log/checksum.ts";
import { FRAME_HEADER_BYTES, WORD_BODY_CHECK, WORD_HEADER_CHECK, WORD_SHAPE, bodyBytes } from "../../log/frame.ts";
import { unitHigh, unitLow } from "../../log/log-words.ts";
import type { Core } from "../core.ts";
import type { Lookup } from "./lookup.ts";

const sharedBody = sharedScratch(XXH32_BODY_BYTES_MAX + FRAME_HEADER_BYTES);
const longBody = wideningScratch();

/** What is looked at: a lookup that has found a frame, in a log. */
export type Checked = Pick<Core, "log" | "lookup" | "written">;

/**
 * Compares the header that the lookup has loaded with its checksum.
 *
 * @throws {EmdbError} EMDB_CORRUPTED
 */
export function verifyHeader(core: Checked): void {
  const { log, lookup } = core;
  const { salts, position } = core.written(lookup.lsn);
  const seed = placeSeed(salts.header, unitLow(position), unitHigh(position));
  const words = lookup.frame.i32;
  if (xxh32Of20(words, WORD_BODY_CHECK, seed) !== words[WORD_HEADER_CHECK]) throw log.corrupted(lookup.lsn);
}

/** What is looked at of a frame, however it was found. */
interface CheckedFrame extends Pick<Core, "log" | "written"> {
  readonly lookup: Pick<Lookup, "lsn" | "shape" | "valueBytes">;
}

/**
 * Compares the frame that was found with its checksums.
 *
 * @throws {EmdbError} EMDB_CORRUPTED
 */
export function verifyFound(core: CheckedFrame): void {
  const { log, lookup } = core;
  const body = bodyBytes(lookup.shape, lookup.valueBytes);
  const lsn = lookup.lsn;
  for (;;) {
    const address = log.at(lsn);
    if (address === 0 || log.limit < FRAME_HEADER_BYTES + body) throw log.corrupted(lsn);
    const { salts, position } = core.written(lsn);
    const [low, high] = [unitLow(position), unitHigh(position)];
    const seed = placeSeed(salts.body, low, high);
    const isShort = body <= XXH32_BODY_BYTES_MAX;
    const memory = isShort ? sharedBody() : longBody(body + FRAME_HEADER_BYTES);
    copy(memory.address, address, FRAME_HEADER_BYTES + body);
    if (log.isInRing && !log.isStillWhole(lsn)) continue;
    const header = xxh32Of20(memory.i32, WORD_BODY_CHECK, placeSeed(salts.header, low, high));
    const end = FRAME_HEADER_BYTES + body;
    const check = isShort
      ? xxh32(memory, FRAME_HEADER_BYTES, body, seed)
      : crc32(memory.u8.subarray(FRAME_HEADER_BYTES, end), seed);
    if (header !== memory.i32[WORD_HEADER_CHECK]) throw log.corrupted(lsn);
    if (check !== memory.i32[WORD_BODY_CHECK] || memory.u32[WORD_SHAPE] !== lookup.shape) throw log.corrupted(lsn);
    return;
  }
}
