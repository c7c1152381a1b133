/** Putting a frame at the end of a log. */

import { copy, type Pinned } from "../ffi/memory.ts";
import { RING_FRAME_BYTES_MAX } from "../limits.ts";
import type { FrameEncoder } from "./encoder.ts";
import type { Tail } from "./tail.ts";

/** The key of the frame, and where in the file the frame will begin. */
export interface FramePlace {
  readonly memory: Pinned;
  readonly bytes: number;
  readonly position: number;
}

/** Encodes the frame that the encoder was told of at the tail, which is then behind it. Throws with nothing appended. */
export function appendFrame(tail: Tail, draft: FrameEncoder, key: FramePlace): void {
  const bytes = draft.measure(key.bytes, key.position);
  if (bytes <= RING_FRAME_BYTES_MAX) {
    const address = tail.place(bytes);
    draft.encode(key.memory, key.bytes, key.position);
    copy(address, draft.stage.address, bytes);
    tail.advance(bytes);
  } else {
    draft.encode(key.memory, key.bytes, key.position);
    tail.appendLong(draft.stage, { headBytes: draft.headBytes, value: draft.longValue, frameBytes: bytes });
  }
}
