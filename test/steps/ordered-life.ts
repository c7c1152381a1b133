/**
 * Lives in which a writer dies before one of its stores to shared memory while it is at a scene, and another engine over
 * the same memory takes over; both indexes are then held against each other, and against what the writer was at. Chance is
 * the same in each life, so that a store is at the same place in each.
 *
 * All engines of a life are this thread's, each under a name of its own, since one at a time is at work anyway. Nodes of
 * the ordered index are tiny, so that a few hundred keys make a tree of four levels.
 */

import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Environment, Opened } from "../../src/engine/assemble.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { attachTo, openFile } from "../../src/engine/open/open.ts";
import type { SpaceState } from "../../src/engine/spaces.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { ADDRESS_SPACE_BYTES } from "../../src/limits.ts";
import { CONFIG } from "../engine/open-engine.ts";
import { orderingFaults } from "../support/ordering-faults.ts";
import type { Mortal } from "./mortal.ts";
import { indexFaults } from "../support/index-faults.ts";
import { keyOf, type Clock, type Scene } from "./ordered-scenes.ts";

/** How the deaths of a scene come. */
export interface Deaths {
  readonly writesThrough: boolean;
  /** A range is open all the while: what is removed stays as tombstones. */
  readonly isHeld: boolean;
  /** So many are spread over the writer's stores, if there are more. */
  readonly deathsMax: number;
  /** After each of them whoever takes over dies as well, in so many other lives; 0: in none. */
  readonly secondsMax: number;
}

export interface Job extends Deaths {
  readonly scene: string;
  readonly folder: string;
}

export interface Findings {
  /** Stores to shared memory that the writer makes when it lives. */
  readonly stores: number;
  readonly deaths: number;
  readonly seconds: number;
  readonly faults: readonly string[];
}

const NAME_BASE = 90_000_000;
const [SURVIVOR, WRITER, READER] = [0, 1, 2];

/** What a database holds, by key space, in key order. */
type Content = Readonly<Record<string, readonly string[]>>;

const text = ({ key, value }: { readonly key: Uint8Array; readonly value: Uint8Array }): string =>
  `${Buffer.from(key).toString()}=${Buffer.from(value).toString()}`;

function contentBy(engine: Engine, records: (space: SpaceState) => string[]): Content {
  engine.core.enter();
  const spaces = [engine.defaultSpace, ...engine.spaces.list()];
  return Object.fromEntries(spaces.map((space) => [space.name, records(space)]));
}

const walked = (engine: Engine): Content => contentBy(engine, (space) => [...engine.snapshot(space)].map(text).sort());
const ranged = (engine: Engine): Content =>
  contentBy(engine, (space) => [...engine.range(space, { isReverse: false })].map(text));
const rangedDown = (engine: Engine): Content =>
  contentBy(engine, (space) => [...engine.range(space, { isReverse: true })].map(text).reverse());

/** One life, from the fill to a reopen from the image. */
class Life {
  readonly faults: string[] = [];
  readonly #clock: Clock = { nowMs: 1_700_000_000_000 };
  readonly #dead = new Set<number>();
  readonly #mortal: Mortal;
  readonly #job: Job;
  readonly #scene: Scene;
  readonly #survivor: Opened;
  readonly #writer: Opened;
  readonly #reader: Opened;

  constructor(mortal: Mortal, job: Job, scene: Scene) {
    this.#mortal = mortal;
    this.#job = job;
    this.#scene = scene;
    this.#survivor = this.#mortal.watch(job.secondsMax > 0, () => this.#open());
    const { numbers } = this.#survivor.engine.core.heap;
    const from = numbers[0]!;
    this.#mortal.shared = { from, end: from + Math.max(...ADDRESS_SPACE_BYTES) };
    this.#fill();
    this.#survivor.engine.core.becomeShared();
    this.#writer = this.#attach(WRITER);
    this.#reader = this.#mortal.watch(false, () => this.#attach(READER));
  }

  #environment(name: number): Environment {
    const known = hostSystem();
    const system: System = new Proxy(known, {
      get: (_, call): unknown => {
        if (call === "threadId") return () => NAME_BASE + name;
        if (call === "isThreadAlive") return (thread: number) => !this.#dead.has(thread - NAME_BASE);
        if (call === "random") return (into: Uint8Array) => void into.fill(7);
        if (call === "now") return () => this.#clock.nowMs;
        const member: unknown = Reflect.get(known, call, known);
        return typeof member === "function" ? member.bind(known) : member;
      },
    });
    return { system, defer: () => undefined, hasWorkers: false };
  }

  #open(): Opened {
    const { folder, writesThrough } = this.#job;
    const path = join(folder, "data.emdb");
    const flushPlan = { kind: writesThrough ? "write-through" : "on-each-flush" } as const;
    const config = { ...CONFIG, rangeScans: true, flushPlan };
    return openFile(this.#environment(SURVIVOR), { path, createFolders: false, config });
  }

  #attach(name: number): Opened {
    return attachTo(this.#environment(name), this.#survivor.base);
  }

  #fill(): void {
    const { engine } = this.#survivor;
    const { keys, isInOrder } = this.#scene;
    for (let at = 0; at < keys; at += 1) {
      const index = isInOrder ? at : (at * 37) % keys;
      engine.insert(engine.defaultSpace, keyOf(2 * index), `value ${index}`, 0);
    }
  }

  /** The writer dies before its store `diesAt`, who takes over before `secondAt`; 0: not. What a whole writer leaves is `after`. */
  run(diesAt: number, secondAt: number, after?: Content): Outcome {
    const [survivor, reader] = [this.#survivor.engine, this.#reader.engine];
    const { prepare, run, touched } = this.#scene;
    prepare?.(this.#writer, this.#survivor, this.#clock);
    // Copies of the present: of all nodes in the reader, of those on one path in the survivor.
    this.#same("before, the reader", ranged(reader), walked(reader));
    if (touched !== undefined) survivor.insert(survivor.defaultSpace, keyOf(touched), "touched", 0);
    const before = walked(survivor);
    const open = this.#job.isHeld ? reader.range(reader.defaultSpace, { isReverse: false }) : undefined;
    const begun = [open?.pull(), open?.pull()].filter((record) => record !== undefined).map(text);
    const { stores, hasDied } = this.#mortal.live(diesAt, () => run(this.#writer));
    if (hasDied) this.#dead.add(WRITER);
    const now = walked(reader);
    if (after !== undefined) this.#oneOf("seen by a reader", now, [before, after]);
    this.#same("the reader's range", ranged(reader), now);
    // Takes the lock over, and writes where the dead one's frame was.
    const [key, value] = [keyOf((touched ?? 0) + 101), "afterwards"];
    const insert = (engine: Engine): void => engine.insert(engine.defaultSpace, key, value, 0);
    const second = this.#mortal.live(secondAt, () => insert(survivor));
    if (second.hasDied) this.#dead.add(SURVIVOR);
    const last = second.hasDied ? this.#reader : this.#survivor;
    if (second.hasDied) insert(last.engine);
    const [old, next] = [before, after ?? now].map((content) => withRecord(content, key, `${key}=${value}`)) as [
      Content,
      Content,
    ];
    this.#oneOf("after the take-over", walked(last.engine), [old, next]);
    for (const engine of [last.engine, reader]) this.#agree("after the take-over", engine);
    const rest = [...(open ?? [])].map(text);
    if (open !== undefined) this.#same("the range that was open", { "": [...begun, ...rest] }, { "": before[""]! });
    this.#goOn(last);
    return { stores, hasDied, secondStores: second.stores, hasSecondDied: second.hasDied, after: now };
  }

  /** What is written next finds its place, and so does a reopen all of it. */
  #goOn(last: Opened): void {
    const { engine } = last;
    engine.insert(engine.defaultSpace, keyOf((this.#scene.touched ?? 0) + 1), "beside it", 0);
    for (let index = 1; index < 140; index += 7) engine.insert(engine.defaultSpace, keyOf(index), "further", 0);
    for (let index = 0; index < 140; index += 3) engine.remove(engine.defaultSpace, keyOf(index));
    this.#agree("after more writes", engine);
    this.#count(engine);
    const content = walked(engine);
    for (const opened of [this.#writer, this.#survivor, this.#reader]) {
      const name = opened === this.#writer ? WRITER : opened === this.#survivor ? SURVIVOR : READER;
      if (opened !== last && !this.#dead.has(name)) opened.leave();
    }
    last.leave();
    const again = this.#mortal.watch(false, () => this.#open());
    try {
      if (!again.base.recovery.usedCheckpoint) this.faults.push("the image is not used");
      this.#same("reopened", walked(again.engine), content);
      this.#agree("reopened", again.engine);
    } finally {
      again.leave();
    }
  }

  #agree(when: string, engine: Engine): void {
    const content = walked(engine);
    this.#same(`${when}, a range`, ranged(engine), content);
    this.#same(`${when}, a range down`, rangedDown(engine), content);
    const { core, spaces } = engine;
    for (const fault of [...indexFaults(core, spaces), ...orderingFaults(core, spaces)])
      this.faults.push(`${when}: ${fault}`);
  }

  /** What has expired counts until it is swept. */
  #count(engine: Engine): void {
    for (const space of [engine.defaultSpace, ...engine.spaces.list()]) {
      engine.sweepExpired(space);
      const [count, records] = [engine.count(space), [...engine.snapshot(space)].length];
      if (count !== records) this.faults.push(`${count} records are counted, and there are ${records}`);
    }
  }

  #same(what: string, found: Content, expected: Content): void {
    if (!Bun.deepEquals(found, expected)) this.faults.push(`${what}: ${difference(found, expected)}`);
  }

  #oneOf(what: string, found: Content, allowed: readonly [Content, Content]): void {
    if (allowed.some((content) => Bun.deepEquals(found, content))) return;
    if (this.#scene.isStepwise === true && isBetween(found, ...allowed)) return;
    this.faults.push(`${what}: neither before nor after; ${difference(found, allowed[0])}`);
  }
}

interface Outcome {
  readonly stores: number;
  readonly hasDied: boolean;
  readonly secondStores: number;
  readonly hasSecondDied: boolean;
  /** What there was when the writer was done, or dead. */
  readonly after: Content;
}

/** Whether every record is there in one of the two, and those that are there in both. */
function isBetween(found: Content, before: Content, after: Content): boolean {
  return Object.keys(found).every((name) => {
    const [old, present, next] = [before, found, after].map((content) => new Set(content[name] ?? []));
    return present!.isSubsetOf(old!.union(next!)) && old!.intersection(next!).isSubsetOf(present!);
  });
}

function withRecord(content: Content, key: string, record: string): Content {
  const others = content[""]!.filter((other) => !other.startsWith(`${key}=`));
  return { ...content, "": [...others, record].sort() };
}

function difference(found: Content, expected: Content): string {
  const flat = (content: Content): string[] =>
    Object.entries(content).flatMap(([name, all]) => all.map((one) => `${name}/${one}`));
  const [one, other] = [flat(found), flat(expected)];
  const missing = other.filter((record) => !one.includes(record));
  const added = one.filter((record, at) => !other.includes(record) || one.indexOf(record) !== at);
  return `missing ${missing.slice(0, 3).join(", ")}; not expected ${added.slice(0, 3).join(", ")}`;
}

/** Before which stores deaths come: all of them, or so many. */
function* spread(stores: number, countMax: number, first: number): Generator<number> {
  const stride = Math.max(1, Math.ceil(stores / countMax));
  for (let at = 1 + (first % stride); at <= stores; at += stride) yield at;
}

export function runJob(mortal: Mortal, job: Job, scenes: Readonly<Record<string, Scene>>): Findings {
  const faults: string[] = [];
  const live = (diesAt: number, secondAt: number, after?: Content): Outcome => {
    for (const name of readdirSync(job.folder)) rmSync(join(job.folder, name));
    const life = new Life(mortal, job, scenes[job.scene]!);
    const name = `stores ${diesAt}, ${secondAt}`;
    try {
      return life.run(diesAt, secondAt, after);
    } catch (error) {
      const failure = error instanceof Error ? error.stack : undefined;
      throw new Error(`${name}: ${life.faults.join("; ")} ${failure}`, { cause: error });
    } finally {
      faults.push(...life.faults.slice(0, 2).map((fault) => `${name}: ${fault}`));
    }
  };
  const { stores, after } = live(0, 0);
  let [deaths, seconds] = [0, 0];
  for (const diesAt of spread(stores, job.deathsMax, 0)) {
    const once = live(diesAt, 0, after);
    if (once.hasDied) deaths += 1;
    if (job.secondsMax === 0) continue;
    for (const at of spread(once.secondStores, job.secondsMax, diesAt)) {
      if (live(diesAt, at, after).hasSecondDied) seconds += 1;
    }
  }
  return { stores, deaths, seconds, faults: faults.slice(0, 20) };
}
