/**
 * Waiting for another process to close a database: the thread stands still, looks at the lock now and then, and less and less
 * often. Many that look all the time would keep the holder from what they wait for, and those that look together would go on
 * to do so, so each draws its pauses. Nobody is in a line: whoever looks next has it. (SQLite's busy_timeout
 * waits by pauses that grow as well.)
 */

import { EmdbError } from "../../errors.ts";
import type { System } from "../../ffi/system.ts";
import { isHeldHere, isLockHeld } from "./lock-file.ts";

/** Milliseconds of the first pause and of the longest one; each takes between half of it and all. */
const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 64;
const pauseWord = new Int32Array(new SharedArrayBuffer(4));

export class LockWait {
  readonly #system: System;
  readonly #path: string;
  readonly #untilMs: number;
  #pauseMs = FIRST_PAUSE_MS;

  constructor(system: System, path: string, timeoutMs: number) {
    this.#system = system;
    this.#path = path;
    this.#untilMs = system.monotonic() + timeoutMs;
  }

  /**
   * Whether an open that failed is to be tried again: another process had the lock, and has it no more or the time has just run
   * out, so that the last error names whoever has it then. Another thread of this process is not waited for: it may wait for
   * this one.
   */
  isOver(error: unknown): boolean {
    const isTaken = error instanceof EmdbError && error.code === "EMDB_LOCKED";
    if (!isTaken || this.#leftMs <= 0 || isHeldHere(this.#system, this.#path, error.holder)) return false;
    do this.#pause();
    while (this.#leftMs > 0 && isLockHeld(this.#system, this.#path));
    return true;
  }

  get #leftMs(): number {
    return this.#untilMs - this.#system.monotonic();
  }

  #pause(): void {
    const draw = new Uint8Array(1);
    this.#system.random(draw);
    const pauseMs = (this.#pauseMs * (256 + draw[0]!)) / 512;
    Atomics.wait(pauseWord, 0, 0, Math.min(pauseMs, Math.max(0, this.#leftMs)));
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
  }
}
