/**
 * The threads of stepped lives, which live one after the other: what a Worker has loaded and compiled is most of what a
 * short life costs. Only who has left in good order lives again; a dead one has things in its hands, as no thread of the
 * next life may.
 *
 * All lives have one baton, which the steps of a thread were put in front of when it began.
 */

import { Baton } from "./baton.ts";
import type { Orders } from "./stepped-worker.ts";

export class Threads {
  #baton = Baton.create();
  readonly #idle = new Map<string, Worker[]>();

  get baton(): Baton {
    return this.#baton;
  }

  /** One that can do as it is told, new or not. */
  take(orders: Orders): Worker {
    return this.#idleOnes(orders).pop() ?? new Worker(new URL("./stepped-worker.ts", import.meta.url).pathname);
  }

  giveBack(worker: Worker, orders: Orders): void {
    this.#idleOnes(orders).push(worker);
  }

  /** Whoever is idle ends, and those that are not share nothing with who comes next. */
  end(): void {
    for (const workers of this.#idle.values()) for (const worker of workers) worker.terminate();
    this.#idle.clear();
    this.#baton = Baton.create();
  }

  /** Those whose modules were changed alike, as one and the same thread. */
  #idleOnes({ role, thread, isOrdered }: Orders): Worker[] {
    const kind = `${role} ${thread} ${isOrdered}`;
    const known = this.#idle.get(kind) ?? [];
    this.#idle.set(kind, known);
    return known;
  }
}
