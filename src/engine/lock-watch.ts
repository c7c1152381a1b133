/**
 * Whether the lock file is still ours, asked as rarely as it may be.
 *
 * Asking takes a system call by path, 3 to 5 us beside a sync of 100. The first write of a stretch asks; what it
 * leaves pending goes to the file without another question, as long as the event loop has not turned: a robber
 * between the two would have come between any question and its write as well.
 */

import type { LockFile } from "./lock-file.ts";

export class LockWatch {
  readonly #lock: LockFile | undefined;
  #isFresh = false;

  constructor(lock: LockFile | undefined) {
    this.#lock = lock;
  }

  /** Asks now. Throws EMDB_LOCKED when somebody has broken the lock. */
  look(): void {
    this.#isFresh = false;
    this.#lock?.mustBeOurs();
  }

  /** The same before a write, all of which is in the file, or given up, before the event loop has turned. */
  lookForTurn(): void {
    this.look();
    this.#isFresh = true;
  }

  /** Asks, unless the writes that are pending have asked in this turn. */
  lookAgain(): void {
    if (!this.#isFresh) this.look();
  }

  /** The event loop has turned. */
  turn(): void {
    this.#isFresh = false;
  }
}
