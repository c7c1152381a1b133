/**
 * A database's life at random, beside a model of it: what a compaction must not change, while it is driven a step at a
 * time between writes, with iterators, ranges and views that were taken before, in between and after.
 */

import { expect } from "bun:test";
import { rmSync } from "node:fs";
import { recount } from "../../src/engine/threads/audit.ts";
import type { Opened } from "../../src/engine/assemble.ts";
import type { BatchWrite, RecordSource, Space } from "../../src/engine/contract.ts";
import { RELOCATED } from "../../src/engine/threads/control.ts";
import { openFile, openMemory } from "../../src/engine/open/open.ts";
import { hintPath } from "../../src/engine/files/siblings.ts";

import { EmdbError } from "../../src/errors.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { faulty } from "../engine/engine-fixture.ts";
import { CONFIG, type Config } from "../engine/open-engine.ts";
import { Random } from "../sim/random.ts";
import { baseBefore, leapTo, wrapAt } from "../support/far-positions.ts";
import { orderingFaults } from "../support/ordering-faults.ts";

const KEYS = 700;
const SPACES = ["", "one", "two", "three"];
const EXPIRED_KEPT = 0.02;

interface Entry {
  readonly value: string;
  readonly expiresAtMs: number;
}
type Content = Map<string, Entry>;

/** Something that was taken at a moment, and what it must show whenever it is looked at. */
interface Held {
  readonly source: RecordSource;
  readonly left: Content;
  readonly isRange: boolean;
}

export class Life {
  readonly random: Random;
  readonly #seed: number;
  readonly #keyCount: number;
  readonly #path: string | undefined;
  readonly #config: Config;
  readonly #system: System;
  readonly spaces = new Map<string, Content>([["", new Map()]]);
  readonly #held: Held[] = [];
  readonly #views: { readonly view: Uint8Array; readonly text: string }[] = [];
  #nowMs = 1_700_000_000_000;
  #writes = 0;
  opened: Opened;

  constructor(path: string | undefined, seed: number, changes: Partial<Config>, { keyCount = KEYS } = {}) {
    this.#keyCount = keyCount;
    this.random = new Random(seed);
    this.#seed = seed;
    this.#path = path;
    this.#config = { ...CONFIG, ...changes };
    this.#system = faulty(hostSystem(), (call) => (call === "now" ? this.#nowMs : undefined));
    this.opened = this.#open();
  }

  #open(): Opened {
    const defer = (work: () => void): void => void setImmediate(work);
    const environment = { system: this.#system, defer, hasWorkers: false };
    const config = { ...this.#config };
    if (this.#path === undefined) return openMemory(environment, config);
    return openFile(environment, { path: this.#path, createFolders: false, config });
  }

  #space(name: string): Space {
    const { engine } = this.opened;
    return name === "" ? engine.defaultSpace : engine.spaceNamed(name);
  }

  /** A key space that is there. */
  #someSpace(): string {
    return this.random.pick([...this.spaces.keys()]);
  }

  #key(): string {
    return `key ${this.random.below(this.#keyCount)}`;
  }

  #value(): string {
    this.#writes += 1;
    const isLong = this.random.chance(this.#config.encryption === undefined ? 0.002 : 0.0005);
    const length = isLong ? 2_300_000 : this.random.below(this.random.chance(0.05) ? 5000 : 90);
    return `${this.#writes} `.padEnd(length, "v");
  }

  #expiry(): number {
    if (!this.random.chance(0.25)) return 0;
    return this.#nowMs + this.random.pick([1, 50, 400, 100_000]);
  }

  #isLive(entry: Entry | undefined): entry is Entry {
    return entry !== undefined && (entry.expiresAtMs === 0 || entry.expiresAtMs > this.#nowMs);
  }

  /** One change at random, to the database and to the model. */
  one(): void {
    const { engine } = this.opened;
    const { random } = this;
    const name = this.#someSpace();
    const content = this.spaces.get(name)!;
    const space = this.#space(name);
    switch (random.below(16)) {
      case 0: {
        const keys = Array.from({ length: 1 + random.below(40) }, () => this.#key());
        engine.removeMany(space, keys);
        for (const key of keys) content.delete(key);
        return;
      }
      case 1: {
        const entries = Array.from({ length: 1 + random.below(60) }, () => [this.#key(), this.#value()] as const);
        const expiresAtMs = this.#expiry();
        engine.insertMany(
          space,
          entries.map(([key]) => key),
          entries.map(([, value]) => value),
          expiresAtMs,
        );
        for (const [key, value] of entries) content.set(key, { value, expiresAtMs });
        return;
      }
      case 2:
        return this.#batch(random.chance(0.3));
      case 3:
        if (!random.chance(0.1)) return;
        engine.clear(space);
        content.clear();
        return;
      case 4: {
        if (!random.chance(0.25)) return;
        const other = random.pick(SPACES.slice(1));
        if (this.spaces.has(other)) {
          engine.dropSpace(other);
          this.spaces.delete(other);
        } else {
          this.#space(other);
          this.spaces.set(other, new Map());
        }
        return;
      }
      case 5:
      case 6: {
        const key = this.#key();
        engine.remove(space, key);
        content.delete(key);
        return;
      }
      case 7:
        return this.#hold(name);
      case 8:
        return this.#advanceHeld();
      case 9: {
        const key = this.#key();
        const entry = content.get(key);
        const view = engine.getZeroCopy(space, key);
        if ((view !== undefined) !== this.#isLive(entry)) this.#fail(`a view of ${name}/${key}`);
        if (view !== undefined && this.#views.length < 60) this.#views.push({ view, text: entry!.value });
        return;
      }
      case 10:
        if (random.chance(0.3)) this.#nowMs += random.pick([1, 30, 200]);
        return;
      case 11:
        if (random.chance(0.1)) engine.sweepExpired(space);
        return;
      default: {
        const [key, value, expiresAtMs] = [this.#key(), this.#value(), this.#expiry()];
        engine.insert(space, key, value, expiresAtMs);
        content.set(key, { value, expiresAtMs });
        this.#look(name, key);
      }
    }
  }

  /** A batch over all key spaces; one that fails leaves nothing. */
  #batch(fails: boolean): void {
    const { engine } = this.opened;
    const count = 2 + this.random.below(20);
    const writes: (BatchWrite & { readonly name: string; readonly text: string | undefined })[] = [];
    for (let index = 0; index < count; index++) {
      const name = this.#someSpace();
      const text = this.random.chance(0.7) ? this.#value() : undefined;
      const expiresAtMs = text === undefined ? 0 : this.#expiry();
      writes.push({ name, space: this.#space(name), key: this.#key(), value: text, text, expiresAtMs });
    }
    if (fails) {
      const gone = engine.spaceNamed("gone");
      engine.dropSpace("gone");
      writes.push({ name: "gone", space: gone, key: "k", value: "v", text: "v", expiresAtMs: 0 });
      try {
        engine.writeBatch(writes);
      } catch (error) {
        if (error instanceof EmdbError && error.code === "EMDB_NAMESPACE_DROPPED") return;
        throw error;
      }
      this.#fail("a batch into a dropped namespace");
    }
    engine.writeBatch(writes);
    for (const { name, key, text, expiresAtMs } of writes) {
      const content = this.spaces.get(name)!;
      if (text === undefined) content.delete(key as string);
      else content.set(key as string, { value: text, expiresAtMs });
    }
  }

  #hold(name: string): void {
    if (this.#held.length >= 12) return;
    const { engine } = this.opened;
    const content = this.spaces.get(name)!;
    const left = new Map([...content].filter(([, entry]) => this.#isLive(entry)));
    const isRange = this.#config.rangeScans && this.random.chance(0.5);
    const source = isRange
      ? engine.range(this.#space(name), { isReverse: this.random.chance(0.5) })
      : engine.snapshot(this.#space(name));
    this.#held.push({ source, left, isRange });
  }

  /** Goes on with something that is held, a little or to its end. */
  #advanceHeld(): void {
    if (this.#held.length === 0) return;
    const index = this.random.below(this.#held.length);
    const steps = this.random.chance(0.2) ? Infinity : 1 + this.random.below(120);
    if (this.#advance(this.#held[index]!, steps)) this.#held.splice(index, 1);
  }

  #advance({ source, left }: Held, steps: number): boolean {
    for (let step = 0; step < steps; step++) {
      const record = source.pull();
      if (record === undefined) {
        if (left.size > 0) this.#fail(`an iterator missed ${left.size} records, ${[...left.keys()][0]} first`);
        return true;
      }
      const key = Buffer.from(record.key).toString();
      const entry = left.get(key);
      if (entry === undefined) this.#fail(`an iterator showed ${key}, which it should not`);
      if (entry?.value !== Buffer.from(record.value).toString())
        this.#fail(`an iterator showed another value of ${key}`);
      if (entry?.expiresAtMs !== record.expiresAtMs) this.#fail(`an iterator showed another deadline of ${key}`);
      left.delete(key);
    }
    return false;
  }

  /** Ends everything that is held, and looks at every view. */
  finishHeld(): void {
    for (const held of this.#held.splice(0)) this.#advance(held, Infinity);
    for (const { view, text } of this.#views.splice(0)) {
      if (Buffer.from(view).toString() !== text) this.#fail("a view shows another value");
    }
  }

  #look(name: string, key: string): void {
    const { engine } = this.opened;
    const entry = this.spaces.get(name)!.get(key);
    const got = engine.get(this.#space(name), key);
    const text = got === undefined ? undefined : Buffer.from(got).toString();
    const expected = this.#isLive(entry) ? entry.value : undefined;
    if (text !== expected) this.#fail(`${name}/${key} is ${text?.slice(0, 30)} and not ${expected?.slice(0, 30)}`);
    const deadline = engine.expiresAt(this.#space(name), key);
    if (deadline !== (this.#isLive(entry) ? entry.expiresAtMs : undefined))
      this.#fail(`the deadline of ${name}/${key}`);
  }

  /** Everything is what the model says, and the counts are what counting finds. */
  check(): void {
    const { engine } = this.opened;
    const names = [...this.spaces.keys()].slice(1);
    if (engine.spaceNames().join() !== names.join()) this.#fail(`the namespaces are ${engine.spaceNames().join()}`);
    for (const name of this.spaces.keys()) {
      for (let index = 0; index < KEYS; index++) this.#look(name, `key ${index}`);
      const live = [...this.spaces.get(name)!].filter(([, entry]) => this.#isLive(entry));
      const walked = [...engine.snapshot(this.#space(name))];
      if (walked.length !== live.length) this.#fail(`a walk over ${name} shows ${walked.length} of ${live.length}`);
      if (this.#config.rangeScans) this.#checkRange(name, live.map(([key]) => key).sort());
    }
    const { core, spaces } = engine;
    engine.exclusively(() => {
      const all = [spaces.default, ...spaces.list()];
      const kept = JSON.stringify(all.map((space) => spaces.counts(space)));
      recount(core, spaces);
      const counted = JSON.stringify(all.map((space) => spaces.counts(space)));
      if (kept !== counted) this.#fail(`records and bytes were kept as ${kept} and are ${counted}`);
      // While frames are led over, the two indexes name some of them by two positions.
      if (core.control.numbers[RELOCATED] !== 0) return;
      const [fault] = orderingFaults(core, spaces);
      if (fault !== undefined) this.#fail(fault);
    });
  }

  #checkRange(name: string, expected: readonly string[]): void {
    const range = this.opened.engine.range(this.#space(name), { isReverse: false });
    const keys = [...range].map(({ key }) => Buffer.from(key).toString());
    if (keys.join() !== expected.join()) this.#fail(`a range over ${name} shows other keys`);
  }

  /** After a sweep, what has expired is gone from the counts: each record with a deadline is still known to the queue. */
  checkSweep(): void {
    const { engine } = this.opened;
    for (const [name, content] of this.spaces) {
      engine.sweepExpired(this.#space(name));
      const live = [...content].filter(([, entry]) => this.#isLive(entry)).length;
      if (engine.count(this.#space(name)) !== live) {
        this.#fail(`${engine.count(this.#space(name))} records after a sweep of ${name}, ${live} live`);
      }
    }
  }

  /** A compaction, a step at a time, with changes in between. */
  compact(changesPerStep: number, { isInOrder = false } = {}): number {
    const { work, compaction } = this.opened;
    if (!work.tryTake()) this.#fail("somebody else works here");
    let steps = 0;
    try {
      for (const generator of [compaction.copySteps({ isInOrder }), compaction.relocationSteps()]) {
        for (const _ of generator) {
          steps += 1;
          for (let change = this.random.below(changesPerStep + 1); change > 0; change--) this.one();
          if (this.random.chance(EXPIRED_KEPT)) this.check();
          if (steps > 20_000) this.#fail("a compaction does not end");
        }
      }
    } finally {
      work.give();
    }
    return steps;
  }

  /** Goes on at positions so many bytes before the next place where what an index stores for one begins anew. */
  leap(bytes: number): void {
    this.finishHeld();
    const { base } = this.opened.engine.core;
    let lap = 0;
    while (baseBefore(wrapAt(lap), bytes) <= base) lap += 1;
    leapTo(this.opened, baseBefore(wrapAt(lap), bytes));
  }

  /** Closes it, and opens it again where it has a file, with its image or by the log alone. */
  reopen({ hasImage = true } = {}): void {
    if (this.#path === undefined) return;
    this.finishHeld();
    this.opened.leave();
    if (!hasImage) rmSync(hintPath(this.#path), { force: true });
    this.opened = this.#open();
  }

  end(): void {
    this.finishHeld();
    this.opened.leave();
  }

  #fail(what: string): never {
    throw new Error(`${what} (seed ${this.#seed})`);
  }
}

interface LifePlan {
  readonly seed: number;
  readonly config: Partial<Config>;
  readonly rounds: number;
  readonly isInOrder?: boolean;
}

/** A life of so many compactions, which is looked at behind each of them, and opened anew. */
export function liveThrough(path: string | undefined, plan: LifePlan): void {
  const { seed, config, rounds, isInOrder = false } = plan;
  const life = new Life(path, seed, config);
  for (let round = 0; round < rounds; round++) {
    for (let change = life.random.below(900); change > 0; change--) life.one();
    expect(life.compact([0, 3, 40][round % 3]!, { isInOrder })).toBeGreaterThan(0);
    life.check();
    if (round % 2 === 1) life.checkSweep();
    if (round >= 2) life.reopen({ hasImage: round === 2 });
    life.check();
  }
  life.finishHeld();
  life.reopen();
  life.check();
  life.end();
}
