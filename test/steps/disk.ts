/**
 * What stepped threads tell of the disk: how far each open file was written, and how far a sync has covered it.
 *
 *     f64   2 numbers of each handle: bytes written, bytes covered; then whether a write is covered when it is done
 */

import type { Baton } from "./baton.ts";

// As in `log-words.ts`, which must not be loaded before the steps are in place.
const LOG_TAIL = 1;
const LOG_BASE = 8;
export const LOG_FILE = 9;
const HANDLES = 1024;
const WRITES_THROUGH_AT = HANDLES * 2;
const NUMBERS = WRITES_THROUGH_AT + 1;

// Kept before anybody puts others in their places.
const Numbers = Float64Array;

/** The words of the log, without a step. */
export function bareNumbers(share: unknown): Float64Array {
  return new Numbers((share as { buffer: SharedArrayBuffer }).buffer);
}

/** In which the log has so many bytes, all of them durable. */
export function newDisk(share: unknown, bytes: number, writesThrough: boolean): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(NUMBERS * 8);
  const at = bareNumbers(share)[LOG_FILE]! * 2;
  new Numbers(buffer).fill(bytes, at, at + 2);
  new Numbers(buffer)[WRITES_THROUGH_AT] = Number(writesThrough);
  return buffer;
}

export class Disk {
  readonly #numbers: Float64Array;
  readonly #log: Float64Array;

  constructor(buffer: SharedArrayBuffer, share: unknown) {
    this.#numbers = new Numbers(buffer);
    this.#log = bareNumbers(share);
  }

  /** A number of a handle may have been another file's. */
  opened(handle: number): void {
    if (handle >= 0) this.#numbers.fill(0, handle * 2, handle * 2 + 2);
  }

  wrote(handle: number, span: { readonly position: number; readonly bytes: number }): void {
    // A mark stands behind the tail and vouches for nothing that is written.
    const isLog = handle === this.#log[LOG_FILE];
    if (isLog && span.position + this.#log[LOG_BASE]! >= this.#log[LOG_TAIL]!) return;
    const last = this.#numbers[WRITES_THROUGH_AT] === 0 ? handle * 2 : handle * 2 + 1;
    for (let at = handle * 2; at <= last; at += 1)
      this.#numbers[at] = Math.max(this.#numbers[at]!, span.position + span.bytes);
  }

  /** A sync that takes a while, and covers what was written when it began. */
  sync(baton: Baton, handle: number): number {
    const covered = this.#numbers[handle * 2]!;
    for (let turn = 0; turn < 3; turn += 1) baton.giveWay();
    baton.step();
    this.#numbers[handle * 2 + 1] = Math.max(this.#numbers[handle * 2 + 1]!, covered);
    return 0;
  }

  /** What a flush has acknowledged is durable, in the file that has the name. @throws when it is not */
  expectDurable(target: number): void {
    const [base, handle] = [this.#log[LOG_BASE]!, this.#log[LOG_FILE]!];
    const durable = this.#numbers[handle * 2 + 1]!;
    // What was in a file that has been replaced since came along with all of it; then nothing is durable, or everything.
    if (target < base ? durable > 0 : durable >= target - base) return;
    throw new Error(`a flush of ${target} bytes was acknowledged at ${base} + ${durable}`);
  }
}
