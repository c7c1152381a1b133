/**
 * The new database that a salvage writes, as the log's records come in.
 *
 * What a lost frame may hide is guessed where the log lets one: a namespace whose creation is lost gets the name
 * "lost-namespace-<id>" with its first record, unless its name can still be read; and the creation of a name that is still in use means that its
 * drop was lost. A name that was made up gives way to one that the log says, as of a database that was salvaged before.
 */

import type { FrameFacts } from "../../log/frame.ts";
import { KIND_CLEAR, KIND_PUT, KIND_REMOVE, KIND_SPACE_CREATE, KIND_SPACE_DROP } from "../../log/frame.ts";
import type { Space } from "../contract.ts";
import type { Engine } from "../engine.ts";
import { decodeName, isName } from "../names.ts";

/** One sound frame; its arrays are good during the call only. */
export interface FoundFrame {
  readonly facts: Readonly<FrameFacts>;
  readonly key: Uint8Array;
  /** The value, read when it is asked for. */
  value(): Uint8Array;
}

export class SalvageTarget {
  readonly #engine: Engine;
  /** The new namespaces by their ids in the source. */
  readonly #spaces = new Map<number, Space>();

  /** Of namespaces that may have been created in a batch that is lost. */
  readonly #names = new Map<number, string>();
  /** Ids whose names are made up. */
  readonly #nameless = new Set<number>();

  constructor(engine: Engine) {
    this.#engine = engine;
    this.#spaces.set(0, engine.defaultSpace);
  }

  /** Records in all key spaces, expired ones included. */
  get records(): number {
    const engine = this.#engine;
    let records = engine.count(engine.defaultSpace);
    for (const name of engine.spaceNames()) records += engine.count(engine.spaceNamed(name));
    return records;
  }

  /** What a namespace is called, should its creation be lost with the rest of its batch. */
  name({ facts, key }: FoundFrame): void {
    if (isName(key)) this.#names.set(facts.space, decodeName(key));
  }

  apply(frame: FoundFrame): void {
    const engine = this.#engine;
    const { facts, key } = frame;
    const space = this.#spaces.get(facts.space);
    switch (facts.kind) {
      case KIND_PUT:
        engine.insert(space ?? this.#makeLost(facts.space), key, frame.value(), facts.expiresAtMs);
        break;
      case KIND_REMOVE:
        if (space !== undefined) engine.removeMany(space, [key]);
        break;
      case KIND_CLEAR:
        if (space !== undefined) engine.clear(space);
        break;
      case KIND_SPACE_CREATE:
        // Without a name it is one whose creation is lost.
        if (isName(key)) this.#create(facts.space, decodeName(key));
        break;
      case KIND_SPACE_DROP:
        if (space !== undefined) this.#drop(facts.space, space);
        break;
      default:
        break;
    }
  }

  #create(id: number, name: string): void {
    const same = this.#engine.findSpace(name);
    for (const [known, space] of same === undefined ? [] : this.#spaces) {
      if (space !== same) continue;
      if (this.#nameless.has(known)) this.#callAnew(known, space);
      else this.#drop(known, space);
    }
    this.#spaces.set(id, this.#engine.spaceNamed(name));
  }

  /** The name that was made up for a namespace is another one's: its records, but for expired ones, go on under the next. */
  #callAnew(id: number, space: Space): void {
    const engine = this.#engine;
    const to = engine.spaceNamed(this.#freeName(id));
    for (const { key, value, expiresAtMs } of engine.snapshot(space)) engine.insert(to, key, value, expiresAtMs);
    engine.dropSpace(space.name);
    this.#spaces.set(id, to);
  }

  #drop(id: number, space: Space): void {
    this.#engine.dropSpace(space.name);
    this.#spaces.delete(id);
  }

  #makeLost(id: number): Space {
    const known = this.#names.get(id);
    if (known !== undefined) {
      this.#create(id, known);
      return this.#spaces.get(id)!;
    }
    const space = this.#engine.spaceNamed(this.#freeName(id));
    this.#spaces.set(id, space);
    this.#nameless.add(id);
    return space;
  }

  /** A name for an id, which no namespace has yet. */
  #freeName(id: number): string {
    let name = `lost-namespace-${id}`;
    for (let count = 2; this.#engine.findSpace(name) !== undefined; count++) name = `lost-namespace-${id}-${count}`;
    return name;
  }
}
