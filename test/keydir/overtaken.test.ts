/**
 * A reader that is overtaken in the middle of a search: whenever it asks where something lies, the writer may first lay the
 * whole index out anew, as often as it likes, and use again at once what no reader can be reading.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { hostSystem } from "../../src/ffi/host.ts";
import { Heap } from "../../src/ffi/heap.ts";
import {
  FIRST_ERA,
  IDLE,
  RECLAIM_ATTACHED,
  RECLAIM_ERA,
  ROW_ERA_AT,
  ROW_THREAD_AT,
  Reclaim,
} from "../../src/ffi/reclaim.ts";
import { HASH_BITS } from "../../src/keydir/hash.ts";
import { Keydir } from "../../src/keydir/keydir.ts";
import { Random } from "../sim/random.ts";
import { IndexFixture } from "./fixture.ts";

setDefaultTimeout(60_000);

const KEYS = 600;
/** Hashes that a few keys share, so that a search goes on from slot to slot. */
const HASHES = 200;

class Overtaken implements Disposable {
  readonly random: Random;
  readonly fixture = new IndexFixture();
  readonly #reader: Keydir;
  #chance = 0;
  #next = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
    const { heap, numbers, flags } = this.fixture;
    flags[RECLAIM_ERA] = FIRST_ERA;
    flags[RECLAIM_ATTACHED] = 2;
    flags[ROW_THREAD_AT] = 1;
    const theirs = new Heap(hostSystem(), numbers);
    theirs.unitAddress = (unit) => (this.#overtake(), heap.unitAddress(unit));
    theirs.read32 = (address) => (this.#overtake(), heap.read32(address));
    const { pagesAt } = heap;
    Object.defineProperty(theirs, "pagesAt", { get: () => (this.#overtake(), pagesAt) });
    this.#reader = new Keydir(theirs, new Reclaim(theirs, flags, () => true));
    while (this.#next < KEYS) this.#insert();
  }

  #insert(): void {
    const hash = Math.imul(this.random.below(HASHES), 671_089) & ((1 << HASH_BITS) - 1);
    this.fixture.insert(this.#next++, hash);
  }

  #overtake(): void {
    if (this.random.chance(this.#chance)) this.#change();
  }

  /** Lays shards out anew, with room for more or in as few pages as will do, and lets keys come and go. */
  #change(): void {
    const { fixture, random } = this;
    const { keydir, reclaim, space } = fixture;
    const ahead = random.below(6000);
    if (random.chance(0.5)) keydir.prepare(space, Infinity, (_, depth) => Math.floor(ahead / 2 ** depth));
    else keydir.shrinkSome(space, Infinity, { from: 0, most: Infinity });
    reclaim.finish();
    for (let count = random.below(20); count > 0; count -= 1) this.#insert();
    reclaim.finish();
  }

  /** How often a search by a reader offers the position of a key, which nobody touches meanwhile. */
  offersOf(key: number, chance: number): number {
    const reader = this.#reader;
    const { flags, model, space } = this.fixture;
    const { hash, units } = model.get(key)!;
    flags[ROW_ERA_AT] = flags[RECLAIM_ERA]!;
    this.#chance = chance;
    let offers = 0;
    const isThere = reader.seek(reader.root(space), hash);
    this.#chance = 0;
    while (isThere && reader.next()) if (reader.units === units) offers += 1;
    flags[ROW_ERA_AT] = IDLE;
    return offers;
  }

  /** Takes away what has come since the beginning, and some of what was there. */
  thin(): void {
    const { fixture, random } = this;
    for (const key of [...fixture.model.keys()]) if (key >= KEYS || random.chance(0.01)) fixture.remove(key);
  }

  [Symbol.dispose](): void {
    this.fixture[Symbol.dispose]();
  }
}

test("a search that is overtaken finds each key that was there all the while, once", () => {
  for (let seed = 1; seed <= 8; seed += 1) {
    using overtaken = new Overtaken(seed);
    const { fixture, random } = overtaken;
    for (let round = 0; round < 300; round += 1) {
      const key = random.pick([...fixture.model.keys()]);
      const offers = overtaken.offersOf(key, [0, 0.1, 0.5, 1][round % 4]!);
      if (offers !== 1) throw new Error(`seed ${seed}, round ${round}: key ${key} was offered ${offers} times`);
      if (round % 10 === 0) overtaken.thin();
    }
    expect(fixture.liveCount()).toBeGreaterThan(0);
  }
});
