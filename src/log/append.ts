/** Putting a frame at the end of a log. */

import { assert } from "../errors.ts";
import { copy, type Pinned } from "../ffi/memory.ts";
import type { FrameEncoder } from "./encoder.ts";
import type { Tail } from "./tail.ts";

/**
 * Encodes the frame that the encoder was told of at the tail, which is then behind it; `position` is where in the file it
 * will begin. Throws with nothing appended. No object for the arguments: one a write was 60 MB of garbage a million.
 */
export function appendFrame(tail: Tail, draft: FrameEncoder, key: Pinned, keyBytes: number, position: number): void {
  const bytes = draft.measure(keyBytes, position);
  if (bytes <= tail.placedBytesMax) {
    const address = tail.place(bytes);
    const { ring } = draft;
    if (ring !== undefined) {
      const at = address - ring.address;
      assert(at >= 0 && at + bytes <= ring.u8.length, "a frame that is built in its place has it in the ring");
      draft.encodeAt(ring, at, key, keyBytes, position);
    } else {
      draft.encode(key, keyBytes, position);
      copy(address, draft.stage.address, bytes);
    }
    tail.advance(bytes);
  } else {
    draft.encode(key, keyBytes, position, false);
    const { headBytes, longValue: value } = draft;
    assert(headBytes + value.length <= bytes, "a frame takes no more than was measured");
    tail.appendLong(draft.stage, { headBytes, value, frameBytes: bytes });
  }
}
