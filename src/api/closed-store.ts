import type { Space, Store } from "../engine/contract.ts";
import type { EmdbError } from "../errors.ts";

/** What a closed handle holds in place of the engine: every call throws the error it was given. */
export class ClosedStore implements Store {
  readonly isOpen = false;
  readonly #error: () => EmdbError;

  constructor(error: () => EmdbError) {
    this.#error = error;
  }

  #refuse(): never {
    throw this.#error();
  }

  get defaultSpace(): Space {
    return this.#refuse();
  }
  get isReadOnly(): boolean {
    return this.#refuse();
  }
  get hasRangeScans(): boolean {
    return this.#refuse();
  }
  clockMs(): never {
    return this.#refuse();
  }

  now(): never {
    return this.#refuse();
  }
  spaceNamed(): never {
    return this.#refuse();
  }
  spaceNames(): never {
    return this.#refuse();
  }
  dropSpace(): never {
    return this.#refuse();
  }
  get(): never {
    return this.#refuse();
  }
  getText(): never {
    return this.#refuse();
  }
  getMany(): never {
    return this.#refuse();
  }
  getZeroCopy(): never {
    return this.#refuse();
  }
  has(): never {
    return this.#refuse();
  }
  expiresAt(): never {
    return this.#refuse();
  }
  count(): never {
    return this.#refuse();
  }
  insert(): never {
    return this.#refuse();
  }
  remove(): never {
    return this.#refuse();
  }
  insertMany(): never {
    return this.#refuse();
  }
  removeMany(): never {
    return this.#refuse();
  }
  writeBatch(): never {
    return this.#refuse();
  }
  clear(): never {
    return this.#refuse();
  }
  sweepExpired(): never {
    return this.#refuse();
  }
  exclusively(): never {
    return this.#refuse();
  }
  atOneMoment(): never {
    return this.#refuse();
  }
  snapshot(): never {
    return this.#refuse();
  }
  range(): never {
    return this.#refuse();
  }
}
