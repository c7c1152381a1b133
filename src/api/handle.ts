/**
 * One open handle, shared by everything made from it: key spaces, typed views, iterators, focuses.
 *
 * Invariants
 * 1. `store` is the engine until the handle is closed, then one that answers EMDB_CLOSED: an open check that costs
 *    the hot path nothing, also while another handle keeps the engine open.
 * 2. A gate belongs to an engine, not to a handle. While a caller's function runs under the writer's lock the gate is
 *    shut, and a write by another way than the one that function was given is refused: the lock would let it through
 *    (it nests), as a silent commit of its own that the function's result may then overwrite. All evaluations of this
 *    module (`bun --hot` makes one after another) have handles of one engine, and so its one gate.
 */

import type { Space, Store } from "../engine/contract.ts";
import { EmdbError } from "../errors.ts";
import { requireLongStack } from "../engine/stack-room.ts";
import { ClosedStore } from "./closed-store.ts";
import type { Lifecycle } from "../engine/life.ts";
import type { RecoveryReport } from "./types.ts";

/** What runs under the writer's lock: the name of the method that was given a function, or that calls a codec there. */
type Occupant = "transaction" | "update" | "remove";

/** Where a caller's code runs while the gate is shut, and what it may do there. */
const PLACES: Readonly<Record<Occupant, { readonly inside: string; readonly advice: string }>> = {
  transaction: { inside: "a callback of transaction", advice: "use the transaction that its callback was given" },
  update: {
    inside: "a callback of update",
    advice: "compute the new value only, or use a transaction for several writes",
  },
  remove: { inside: "the decode that remove calls", advice: "it runs before the record goes, and may only read" },
};

interface Gate {
  occupant: Occupant | undefined;
  /** Whose it is. */
  holder: Handle | undefined;
}

/** The gates of this thread's engines. Never rename: an older evaluation of this module looks here too. */
const GATES = Symbol.for("emdb.gates.1");

function gateOf(store: Store): Gate {
  const holder = globalThis as { [GATES]?: WeakMap<Store, Gate> };
  const gates = (holder[GATES] ??= new WeakMap());
  const known = gates.get(store);
  if (known !== undefined) return known;
  const gate: Gate = { occupant: undefined, holder: undefined };
  gates.set(store, gate);
  return gate;
}

export class Handle {
  readonly path: string | undefined;
  readonly defaultTtlMs: number;
  readonly recovery: RecoveryReport;
  /** Undefined once it is closed: a handle that is kept then keeps nothing of the engine. */
  #life: Lifecycle | undefined;
  readonly #gate: Gate;
  #store: Store;
  #closing: Promise<void> | undefined;
  #isReleased = false;

  constructor(life: Lifecycle) {
    this.#life = life;
    // A copy: the engine's own is part of the token that others attach with.
    this.recovery = Object.freeze({ ...life.recovery });
    this.path = life.path;
    this.defaultTtlMs = life.defaultTtlMs;
    this.#store = life.store;
    this.#gate = gateOf(life.store);
  }

  /** For reads. */
  get store(): Store {
    return this.#store;
  }

  get isOpen(): boolean {
    return this.#store.isOpen;
  }

  /**
   * For writes.
   *
   * @throws {EmdbError} EMDB_INVALID_ARGUMENT inside the function of a transaction or update
   */
  writable(): Store {
    if (this.#gate.occupant !== undefined) throw this.#refusal(this.#gate.occupant);
    return this.#store;
  }

  /**
   * For calls about the whole database.
   *
   * @throws {EmdbError} EMDB_CLOSED
   */
  openLife(): Lifecycle {
    const life = this.#life;
    if (life === undefined || !this.isOpen) throw closedError(this.path);
    return life;
  }

  /** Runs a function that calls back into a caller's code, with the writer's lock held and the gate shut. */
  guarded<T>(occupant: Occupant, body: (store: Store) => T): T {
    const store = this.writable();
    const gate = this.#gate;
    const run = (): T => {
      gate.occupant = occupant;
      gate.holder = this;
      try {
        return body(store);
      } finally {
        gate.occupant = undefined;
        gate.holder = undefined;
      }
    };
    // What was opened for reading stands still without a lock: a transaction that only reads has nothing to wait for.
    if (occupant === "transaction" && store.isReadOnly) return store.atOneMoment(run);
    return store.exclusively(run);
  }

  /** Opens or creates; inside a transaction's function only opens. */
  spaceNamed(name: string): Space {
    if (this.#gate.occupant === undefined) return this.#store.spaceNamed(name);
    const space = this.openLife().findSpace(name);
    if (space === undefined) throw this.#refusal(this.#gate.occupant);
    return space;
  }

  /** While it goes on, each call shares its outcome; afterwards one does nothing. */
  close(): Promise<void> {
    if (this.#closing !== undefined) return this.#closing;
    const closing = this.#closeOnce();
    // Refused, nothing is closed: the next call tries again.
    if (this.isOpen) return closing;
    // Who comes later finds the handle closed, however that went; what nobody awaits is told as unhandled.
    this.#closing = closing.finally(() => (this.#closing = undefined));
    return this.#closing;
  }

  async #closeOnce(): Promise<void> {
    if (this.#isReleased) return;
    this.#refuseIfNeeded();
    // Shut, it would be closed no more, and hold the file's lock until the process ends.
    requireLongStack();
    this.#shut();
    try {
      await this.#life?.close();
    } finally {
      this.#release();
    }
  }

  /** Also finishes a `close` that is under way. */
  closeSync(): void {
    if (this.#isReleased) return;
    this.#refuseIfNeeded();
    // Shut, it would be closed no more, and hold the file's lock until the process ends.
    requireLongStack();
    this.#shut();
    try {
      this.#life?.closeSync();
    } finally {
      this.#release();
    }
  }

  /** Inside the function of its own transaction or update a handle cannot be closed; another one of the database can. */
  get #mustStayOpen(): boolean {
    return this.#gate.holder === this && !this.#isReleased;
  }

  #refuseIfNeeded(): void {
    const { occupant } = this.#gate;
    if (!this.#mustStayOpen || occupant === undefined) return;
    const message = `the handle cannot be closed inside ${PLACES[occupant].inside}, which is its own`;
    throw new EmdbError("EMDB_INVALID_ARGUMENT", message, { path: this.path });
  }

  #release(): void {
    this.#isReleased = true;
    this.#life = undefined;
  }

  #shut(): void {
    this.#store = new ClosedStore(() => closedError(this.path));
  }

  #refusal(occupant: Occupant): EmdbError {
    const { inside, advice } = PLACES[occupant];
    return new EmdbError(
      "EMDB_INVALID_ARGUMENT",
      `a write to the same database inside ${inside} is not part of it; ${advice}`,
    );
  }
}

function closedError(path: string | undefined): EmdbError {
  return new EmdbError("EMDB_CLOSED", "the database handle is closed", { path });
}
