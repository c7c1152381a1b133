/**
 * Whether the lock file is still ours: asked before the first write of a stretch, and before what is pending goes to the
 * file. Asking takes a system call by path, 2 to 5 us beside a sync of 100 (linux-status.ts).
 */

import { locksBroken, type LockFile } from "./lock-file.ts";
import { thisRun } from "../threads/this-run.ts";

export class LockWatch {
  readonly #lock: LockFile | undefined;
  /** Whether the last answer was no: then no write may begin before it has been asked again. */
  wasRobbed = false;
  /** In which run of code, and after how many broken locks, it was ours last. */
  #oursIn = -1;
  #oursAt = 0;

  constructor(lock: LockFile | undefined) {
    this.#lock = lock;
  }

  /** Asks now. */
  get isOurs(): boolean {
    return this.#lock?.isOurs ?? true;
  }

  /** Asks now. Throws EMDB_LOCKED when somebody has broken the lock. */
  look(): void {
    this.wasRobbed = true;
    this.#lock?.mustBeOurs();
    this.wasRobbed = false;
    this.#oursIn = thisRun();
    this.#oursAt = locksBroken.count;
  }

  /** Asks, unless this code has asked already since it was given its turn: for who writes to memory alone, and asks again before the file. */
  lookOnce(): void {
    const isKnown = this.#oursIn === thisRun() && this.#oursAt === locksBroken.count;
    if (this.wasRobbed || !isKnown) this.look();
  }
}
