/** The beginning of a file, by which it is told what it is. */

import type { FailedCall } from "../../ffi/io-error.ts";
import type { Result, System } from "../../ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";

/** The call by which nothing of a file was read, as `ioError` takes it, and what it gave. */
interface Unread extends FailedCall {
  readonly result: Result;
}

/** The first bytes of a file, a header page at most. What it means that there are none to be had, each caller has to say. */
export function firstPage(system: System, path: string): Uint8Array | Unread {
  const handle = system.open(path, "read");
  if (handle < 0) return { syscall: "open", path, result: handle };
  const bytes = new Uint8Array(HEADER_PAGE_BYTES);
  const count = system.read(handle, bytes, { position: 0, bytes: bytes.length });
  system.close(handle);
  return count < 0 ? { syscall: "pread", path, result: count } : bytes.subarray(0, count);
}
