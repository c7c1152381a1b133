/**
 * The few C library calls the probes need: bare writes and syncs, mapped memory. Linux; elsewhere the probes say that they are skipped.
 *
 * One row per man page: open(2), pwrite(2), fdatasync(2), posix_fallocate(3), mmap(2), madvise(2), memcpy(3), getppid(2).
 */

import { dlopen, FFIType } from "bun:ffi";
import { closeSync, constants, openSync } from "node:fs";

const symbols = {
  pwrite: { args: ["i32", "ptr", "usize", "i64"], returns: FFIType.i64_fast },
  fdatasync: { args: ["i32"], returns: "i32" },
  posix_fallocate: { args: ["i32", "i64", "i64"], returns: "i32" },
  getppid: { args: [], returns: "i32" },
  mmap: { args: ["ptr", "usize", "i32", "i32", "i32", "i64"], returns: "ptr" },
  munmap: { args: ["ptr", "usize"], returns: "i32" },
  madvise: { args: ["ptr", "usize", "i32"], returns: "i32" },
  memcpy: { args: ["ptr", "ptr", "usize"], returns: "ptr" },
} as const;

/** The same in types; pointers are plain numbers here, since offsets are added to them. */
export interface Libc {
  pwrite(file: number, from: Uint8Array, bytes: number, position: number): number | bigint;
  fdatasync(file: number): number;
  posix_fallocate(file: number, position: number, bytes: number): number;
  getppid(): number;
  mmap(
    at: null,
    bytes: number,
    protection: number,
    flags: number,
    file: number,
    position: number,
  ): number | bigint | null;
  munmap(at: number, bytes: number): number;
  madvise(at: number, bytes: number, advice: number): number;
  memcpy(to: number, from: number, bytes: number): unknown;
}

function load(): Libc | undefined {
  for (const name of ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libc.so"]) {
    try {
      return dlopen(name, symbols).symbols as unknown as Libc;
    } catch {
      // The next name is another C library's; none fitting is answered below.
    }
  }
  return undefined;
}

/** The calls, or undefined where there is no Linux C library. */
export const libc: Libc | undefined = process.platform === "linux" ? load() : undefined;

/** One file for bare appends, each followed by a sync. */
export class AppendFile implements Disposable {
  readonly #file: number;
  readonly #libc: Libc;
  readonly #zeros: Uint8Array;
  #zeroed = 0;
  #position = 0;

  /** `zerosAhead`: so many bytes are written with zeros whenever the appends have come to the end of those. */
  constructor(
    calls: Libc,
    path: string,
    reserveBytes: number,
    {
      isWriteThrough = false,
      zerosAhead = 0,
    }: { readonly isWriteThrough?: boolean; readonly zerosAhead?: number } = {},
  ) {
    this.#zeros = new Uint8Array(zerosAhead);
    this.#libc = calls;
    const { O_RDWR, O_CREAT, O_TRUNC, O_DSYNC } = constants;
    this.#file = openSync(path, O_RDWR | O_CREAT | O_TRUNC | (isWriteThrough ? O_DSYNC : 0), 0o600);
    if (reserveBytes === 0) return;
    const failed = calls.posix_fallocate(this.#file, 0, reserveBytes);
    if (failed !== 0) throw new Error(`posix_fallocate failed with ${failed}`);
    this.sync();
  }

  append(bytes: Uint8Array): void {
    this.#write(bytes, this.#position);
    this.#position += bytes.length;
    if (this.#zeros.length === 0 || this.#position <= this.#zeroed) return;
    const from = Math.ceil(this.#position / 4096) * 4096;
    this.#write(this.#zeros, from);
    this.#zeroed = from + this.#zeros.length;
  }

  #write(bytes: Uint8Array, position: number): void {
    const written = Number(this.#libc.pwrite(this.#file, bytes, bytes.length, position));
    if (written !== bytes.length) throw new Error(`pwrite moved ${written} of ${bytes.length} bytes`);
  }

  /** Starts again at the front, so that the page cache is warm and the file does not grow. */
  rewind(): void {
    this.#position = 0;
  }

  sync(): void {
    if (this.#libc.fdatasync(this.#file) !== 0) throw new Error("fdatasync failed");
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}
