/** Reading with `verifyReads`: the body of a frame against its checksum, as it stands in the log now. */

import { copy, pinned, sharedScratch } from "../ffi/memory.ts";
import { XXH32_BODY_BYTES_MAX, crc32, placeSeed, xxh32 } from "../log/checksum.ts";
import { FRAME_HEADER_BYTES, WORD_BODY_CHECK, WORD_SHAPE, bodyBytes } from "../log/frame.ts";
import { unitHigh, unitLow } from "../log/log-words.ts";
import type { Core } from "./core.ts";

const sharedBody = sharedScratch(XXH32_BODY_BYTES_MAX + FRAME_HEADER_BYTES);

/**
 * Compares the frame that the lookup has found with its checksum.
 *
 * @throws {EmdbError} EMDB_CORRUPTED
 */
export function verifyFound(core: Core): void {
  const { log, lookup } = core;
  const body = bodyBytes(lookup.shape, lookup.valueBytes);
  const lsn = lookup.lsn;
  for (;;) {
    const address = log.at(lsn);
    if (address === 0 || log.limit < FRAME_HEADER_BYTES + body) throw log.corrupted(lsn);
    const { salts, position } = core.written(lsn);
    const seed = placeSeed(salts.body, unitLow(position), unitHigh(position));
    const isShort = body <= XXH32_BODY_BYTES_MAX;
    const memory = isShort ? sharedBody() : pinned(body + FRAME_HEADER_BYTES);
    copy(memory.address, address, FRAME_HEADER_BYTES + body);
    if (log.isInRing && !log.isStillWhole(lsn)) continue;
    const end = FRAME_HEADER_BYTES + body;
    const check = isShort
      ? xxh32(memory, FRAME_HEADER_BYTES, body, seed)
      : crc32(memory.u8.subarray(FRAME_HEADER_BYTES, end), seed);
    if (check !== memory.i32[WORD_BODY_CHECK] || memory.u32[WORD_SHAPE] !== lookup.shape) throw log.corrupted(lsn);
    return;
  }
}
