/** An engine whose clock a test moves and whose timers it fires, in memory or in a file, with the queues checked against a walk. */

import type { Environment, Opened } from "../../src/engine/assemble.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { openFile, openMemory } from "../../src/engine/open/open.ts";
import type { SpaceState } from "../../src/engine/spaces.ts";
import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { copy, pinned } from "../../src/ffi/memory.ts";
import { PAGE_BYTES } from "../../src/ffi/heap.ts";
import { HASH_BITS } from "../../src/keydir/hash.ts";
import type { QueueFacts } from "../../src/keydir/expiry-queue.ts";
import { isTombstone } from "../../src/keydir/keydir.ts";
import type { TestClock } from "../support/memory-store.ts";
import { faulty } from "./engine-fixture.ts";
import { CONFIG, type Config } from "./open-engine.ts";

/** A timer that waits to be fired. */
export interface FakeTimer {
  readonly delayMs: number;
  readonly fire: () => void;
}

export class ExpiryFixture implements Disposable {
  readonly clock: TestClock = { nowMs: 1_700_000_000_000 };
  readonly timers = new Set<FakeTimer>();
  readonly opened: Opened;
  #isClosed = false;

  /** Without a path in memory. */
  constructor(path?: string, changes: Partial<Config> = {}) {
    const config = { ...CONFIG, ...changes };
    const environment = this.environment();
    const request = { createFolders: false, config };
    this.opened = path === undefined ? openMemory(environment, config) : openFile(environment, { ...request, path });
  }

  environment(): Environment {
    const { clock } = this;
    const system = faulty(hostSystem(), (call) => (call === "now" ? clock.nowMs : undefined));
    const later = (work: () => void, delayMs: number): (() => void) => {
      const timer = {
        delayMs,
        fire: (): void => {
          this.timers.delete(timer);
          work();
        },
      };
      this.timers.add(timer);
      return () => void this.timers.delete(timer);
    };
    return { system, defer: (work) => void setImmediate(work), later, hasWorkers: false };
  }

  get engine(): Engine {
    return this.opened.engine;
  }

  get space(): SpaceState {
    return this.engine.defaultSpace;
  }

  /** `ttlMs` undefined: for ever. */
  put(key: string, ttlMs?: number, space = this.space): void {
    this.engine.insert(space, key, "value", ttlMs === undefined ? 0 : this.clock.nowMs + ttlMs);
  }

  facts(space = this.space): QueueFacts {
    return this.engine.core.expiry.facts(space.address);
  }

  /** Frames loaded from the log while `work` runs. */
  framesLoaded(work: () => void): number {
    const { lookup } = this.engine.core;
    let count = 0;
    const original = lookup.loadAt.bind(lookup);
    lookup.loadAt = (lsn: number): void => {
      count += 1;
      original(lsn);
    };
    try {
      work();
    } finally {
      Reflect.deleteProperty(lookup, "loadAt");
    }
    return count;
  }

  /** Throws unless the queue counts the records with a deadline, and takes out each of them once; refills it. */
  checkQueue(space = this.space): void {
    const { core, spaces } = this.engine;
    const held = new Map<string, number>();
    const memory = pinned(PAGE_BYTES);
    const root = spaces.root(space);
    for (let hash = root === 0 ? 1 << HASH_BITS : 0; hash < 1 << HASH_BITS;) {
      const shard = core.keydir.shardOf(root, hash);
      for (const page of shard.pages) {
        copy(memory.address, core.heap.pageAddress(page), PAGE_BYTES);
        for (let word = 0; word < PAGE_BYTES / 4; word += 2) {
          const [low, high] = [memory.u32[word]!, memory.u32[word + 1]!];
          const units = core.heap.positions.units(low, high);
          if (units === 0 || isTombstone(high)) continue;
          core.lookup.loadAt(units * 8);
          const expiresAtMs = core.lookup.expiresAtMs();
          if (expiresAtMs !== 0) held.set(`${low}/${high}`, expiresAtMs);
        }
      }
      hash += 1 << (HASH_BITS - shard.depth);
    }
    const { expiry } = core;
    const { live, isUnknown } = expiry.facts(space.address);
    if (isUnknown) throw new Error("the queue is unknown");
    if (live !== held.size) throw new Error(`${live} records with a deadline are counted, ${held.size} are held`);
    const found = new Map<string, number>();
    while (expiry.takeDue(space.address, Infinity)) {
      const { low, high, deadlineMs } = expiry;
      if (expiry.isHeld(space.address, low, high)) found.set(`${low}/${high}`, deadlineMs);
    }
    for (const [slot, expiresAtMs] of held) {
      if (found.get(slot) !== expiresAtMs) throw new Error(`slot ${slot} has no entry for ${expiresAtMs}`);
      const [low = 0, high = 0] = slot.split("/").map(Number);
      expiry.enter(space.address, expiresAtMs, low, high);
    }
    if (found.size !== held.size) throw new Error(`${found.size} entries are held, ${held.size} slots have a deadline`);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.opened.leave();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Lets the append of the nth frame from now on fail as a full disk does. */
export function failAppends(fixture: ExpiryFixture, nth: number): void {
  const { tail } = fixture.engine.core;
  let left = nth;
  const original = tail.place.bind(tail);
  tail.place = (bytes: number): number => {
    left -= 1;
    if (left === 0) throw new EmdbError("EMDB_FULL", "no space left on device");
    return original(bytes);
  };
}

export function healAppends(fixture: ExpiryFixture): void {
  Reflect.deleteProperty(fixture.engine.core.tail, "place");
}
