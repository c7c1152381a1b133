/**
 * The sweep that nobody calls: now and then, all key spaces, in slices between which the event loop turns.
 *
 * Invariants
 * 1. Only the thread that opened the database sweeps in the background, once for all its handles.
 * 2. Its timers keep no process alive, and none is left after `stop`.
 * 3. It never waits for the writer's lock: a slice that finds it taken is tried again later. It holds it for what a slice
 *    removes, or for asking some thousand key spaces that have nothing to remove.
 * 4. Nothing is thrown here. What the machine did meets the next explicit call anyway; a bug of ours is kept for it.
 *    A record that has rotted does too, and ends no pass: all that is sound goes.
 */

import { EmdbError } from "../../errors.ts";
import { SPACES_PER_LOOK, SWEEP_SLICE_PAUSE_MS } from "../../limits.ts";
import { STATE } from "../threads/control.ts";
import type { Core } from "../core.ts";
import type { Sweeper } from "./expiry.ts";
import type { SpaceState, Spaces } from "../spaces.ts";

/** Runs work once, after a delay, unless the function returned is called before; keeps no process alive. */
export type Later = (work: () => void, delayMs: number) => () => void;

export class ExpiryTimer {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #sweeper: Sweeper;
  readonly #later: Later;
  readonly #intervalMs: number;
  /** Key spaces that the pass at hand has taken up and not finished, and the id of the first that it has not taken up. */
  #left: SpaceState[] = [];
  #next = Infinity;
  #cancel: () => void;

  constructor(
    parts: { readonly core: Core; readonly spaces: Spaces; readonly sweeper: Sweeper },
    timing: { readonly later: Later; readonly intervalMs: number },
  ) {
    this.#core = parts.core;
    this.#spaces = parts.spaces;
    this.#sweeper = parts.sweeper;
    this.#later = timing.later;
    this.#intervalMs = timing.intervalMs;
    this.#cancel = this.#later(() => this.#begin(), this.#intervalMs);
  }

  /** No more of it. */
  stop(): void {
    this.#cancel();
    this.#cancel = () => undefined;
  }

  #begin(): void {
    this.#next = 0;
    this.#goOn();
  }

  #goOn(): void {
    this.#guarded(() => {
      this.#core.enter();
      this.#slice();
    });
    const isOver = this.#left.length === 0 && this.#next >= this.#spaces.nextId;
    if (this.#core.isClosed) return;
    this.#cancel = isOver
      ? this.#later(() => this.#begin(), this.#intervalMs)
      : this.#later(() => this.#goOn(), SWEEP_SLICE_PAUSE_MS);
  }

  /** Sweeps on until a slice's worth has been removed or none is left of the key spaces that are asked at a time. */
  #slice(): void {
    const core = this.#core;
    if (core.control.flags[STATE] !== 0) {
      this.#giveUp();
      return;
    }
    if (!core.mutex.tryLock()) return;
    try {
      if (this.#left.length === 0) {
        this.#left = this.#spaces.live(this.#next, SPACES_PER_LOOK).reverse();
        this.#next += SPACES_PER_LOOK;
      }
      const nowMs = core.system.now();
      for (let space = this.#left.at(-1); space !== undefined; space = this.#left.at(-1)) {
        const isIdle = !this.#spaces.isLive(space) || !core.expiry.mayBeDue(space.address, nowMs);
        if (!isIdle && !this.#sweeper.slice(space, nowMs).isDone) return;
        this.#left.pop();
        if (!isIdle) return;
      }
    } finally {
      core.mutex.unlock();
    }
  }

  /** The pass is over. */
  #giveUp(): void {
    this.#left = [];
    this.#next = Infinity;
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#giveUp();
      if (!(error instanceof EmdbError)) this.#sweeper.keepFailure(error);
    }
  }
}
