/**
 * Random operations over the whole public surface. An operation is drawn once and done to both sides; what it
 * returns or throws is made comparable by `outcomeOf`.
 */

import { EmdbError } from "../../src/errors.ts";
import { codec } from "../../src/index.ts";
import type { InsertOptions, Keyspace, RangeOptions } from "../../src/api/types.ts";
import type { Random } from "../sim/random.ts";
import type { Side } from "./subject.ts";

export interface Operation {
  readonly name: string;
  run(side: Side): unknown;
}

const KEYS = [
  "",
  "a",
  "b",
  "c",
  "user.1",
  "user.1.name",
  "user.2.name",
  "users",
  "x".repeat(300),
  "\u00e9\u{1f600}",
] as const;
const NAMES = ["s", "t", "tasks", "\u00fcber", "\ufeffs"] as const;
const SIZES = [0, 1, 7, 8, 60, 400, 4090, 4097, 20_000, 40_000] as const;

function someKey(random: Random): string {
  return random.chance(0.85) ? random.pick(KEYS) : `key ${random.below(200)}`;
}

/** A value that hardly any other operation writes, unless it is short. */
function someValue(random: Random): string {
  const unit = `${random.word()};`;
  const bytes = random.pick(SIZES);
  return unit.repeat(Math.ceil(bytes / unit.length)).slice(0, bytes);
}

function someOptions(random: Random, nowMs: number): InsertOptions | undefined {
  const kind = random.below(8);
  if (kind === 0) return { ttlMs: 1 + random.below(4000) };
  if (kind === 1) return { ttlMs: Infinity };
  if (kind === 2) return { ttlMs: 0 };
  if (kind === 3) return { expiresAtMs: nowMs + random.below(6000) - 1000 };
  if (kind === 4) return { expiresAtMs: random.pick([0, Infinity]) };
  return undefined;
}

/** The key space that an operation is about: the default one, or a named one by a handle that may be stale. */
function spaceOf(side: Side, name: string | undefined): Keyspace {
  if (name === undefined) return side.db;
  const held = side.spaces.get(name) ?? side.db.namespace(name);
  side.spaces.set(name, held);
  return held;
}

type Draw = (random: Random, nowMs: number) => (side: Side) => unknown;

function onSpace(draw: (random: Random, nowMs: number) => (space: Keyspace) => unknown): Draw {
  return (random, nowMs) => {
    const name = random.chance(0.6) ? undefined : random.pick(NAMES);
    const body = draw(random, nowMs);
    return (side) => body(spaceOf(side, name));
  };
}

function someKeys(random: Random): string[] {
  return Array.from({ length: random.below(90) < 85 ? random.below(6) : 70 }, () => someKey(random));
}

function someBounds(random: Random): RangeOptions {
  const bounds: { -readonly [Name in keyof RangeOptions]: RangeOptions[Name] } = { reverse: random.chance(0.5) };
  if (random.chance(0.2)) return { ...bounds, prefix: random.pick(["user", "", "key"]) };
  if (random.chance(0.5)) bounds[random.chance(0.5) ? "gt" : "gte"] = someKey(random);
  if (random.chance(0.5)) bounds[random.chance(0.5) ? "lt" : "lte"] = someKey(random);
  if (random.chance(0.3)) bounds.limit = random.below(4);
  return bounds;
}

const ON_SPACES: Record<string, Draw> = {
  insert: onSpace((random, nowMs) => {
    const [key, value, options] = [someKey(random), someValue(random), someOptions(random, nowMs)];
    return (space) => space.insert(key, value, options);
  }),
  insertMany: onSpace((random, nowMs) => {
    const entries = someKeys(random).map((key): [string, string] => [key, someValue(random)]);
    const options = someOptions(random, nowMs);
    return (space) => space.insertMany(entries, options);
  }),
  remove: onSpace((random) => {
    const key = someKey(random);
    return (space) => space.remove(key);
  }),
  removeMany: onSpace((random) => {
    const keys = someKeys(random);
    return (space) => space.removeMany(keys);
  }),
  compareAndSwap: onSpace((random, nowMs) => {
    const [key, value, options] = [someKey(random), someValue(random), someOptions(random, nowMs)];
    const [isGuess, isRemoval] = [random.chance(0.7), random.chance(0.2)];
    return (space) => {
      const expected = isGuess ? space.get(key) : "something else";
      return space.compareAndSwap(key, expected, isRemoval ? undefined : value, options);
    };
  }),
  update: onSpace((random, nowMs) => {
    const [key, value, options, kind] = [
      someKey(random),
      someValue(random),
      someOptions(random, nowMs),
      random.below(8),
    ];
    return (space) =>
      space.update(
        key,
        (current) => {
          if (kind === 0) throw new Error(`no update of ${current?.length} bytes`);
          return kind === 1 ? undefined : value;
        },
        options,
      );
  }),
  clear: onSpace(() => (space) => space.clear()),
  sweepExpired: onSpace(() => (space) => space.sweepExpired()),
  persist: onSpace((random) => {
    const key = someKey(random);
    return (space) => space.persist(key);
  }),
  read: onSpace((random) => {
    const key = someKey(random);
    return (space) => [
      space.get(key),
      space.getText(key),
      space.getZeroCopy(key),
      space.containsKey(key),
      space.ttl(key),
      space.expiresAt(key),
    ];
  }),
  getMany: onSpace((random) => {
    const keys = [...someKeys(random), ...KEYS];
    return (space) => space.getMany(keys);
  }),
  range: onSpace((random) => {
    const bounds = someBounds(random);
    return (space) => [...space.range(bounds)];
  }),
  typed: onSpace((random) => {
    const [id, isRead] = [BigInt(random.below(5)), random.chance(0.5)];
    return (space) => {
      const view = space.typed({ key: codec.uint64, value: codec.json<{ readonly id: string }>() });
      if (!isRead) view.insert(id, { id: `${id}` });
      return view.get(id)?.id;
    };
  }),
};

const ON_DATABASE: Record<string, Draw> = {
  transaction: drawTransaction,
  dropNamespace: (random) => {
    const name = random.pick(NAMES);
    const forgets = random.chance(0.7);
    return (side) => {
      if (forgets) side.spaces.delete(name);
      return side.db.dropNamespace(name);
    };
  },
  freshNamespace: (random) => {
    const name = random.pick(NAMES);
    return (side) => {
      side.spaces.set(name, side.db.namespace(name));
      return side.db.listNamespaces();
    };
  },
  focus: (random, nowMs) => {
    const [value, options, kind] = [someValue(random), someOptions(random, nowMs), random.below(4)];
    return (side) => {
      const user = side.db.focus("user").focus(String(1 + (kind % 2)));
      if (kind === 0) return user.set("name", value, options);
      if (kind === 1) return [user.get("name"), user.containsKey("name"), unordered(user.iter())];
      return kind === 2 ? user.remove("name") : user.deleteAll();
    };
  },
  group: (random) => {
    const [prefix, isRead] = [random.pick(["user", "user.1", "users"]), random.chance(0.6)];
    return (side) => (isRead ? unordered(side.db.group(prefix)) : side.db.deleteGroup(prefix));
  },
  textView: (random) => {
    const [name, key] = [random.pick(NAMES), someKey(random)];
    return (side) => side.db.namespace(name, { key: codec.text, value: codec.text }).get(key);
  },
  beginWalk: (random) => {
    const [slot, name] = [String(random.below(3)), random.chance(0.6) ? undefined : random.pick(NAMES)];
    return (side) => {
      side.iterators.set(slot, spaceOf(side, name).iter());
    };
  },
  endWalk: (random) => {
    const [slot, isCut] = [String(random.below(3)), random.chance(0.2)];
    return (side) => {
      const walk = side.iterators.get(slot);
      side.iterators.delete(slot);
      if (walk === undefined) return undefined;
      if (isCut) return walk.return?.()?.done;
      const found: (readonly [Uint8Array, Uint8Array])[] = [];
      for (let step = walk.next(); step.done !== true; step = walk.next()) found.push(step.value);
      return unordered(found);
    };
  },
};

/** A transaction over one or more key spaces, which may throw, turn out to be asynchronous, or write by another way. */
function drawTransaction(random: Random, nowMs: number): (side: Side) => unknown {
  const steps = Array.from({ length: random.below(6) }, () => {
    const name = random.chance(0.5) ? undefined : random.pick(NAMES);
    return {
      name,
      key: someKey(random),
      value: someValue(random),
      options: someOptions(random, nowMs),
      kind: random.below(4),
    };
  });
  const ending = random.below(8);
  return (side) =>
    side.db.transaction((tx) => {
      const seen = steps.map(({ name, key, value, options, kind }) => {
        const space = name === undefined ? tx : tx.namespace(name);
        if (kind === 0) return space.remove(key);
        if (kind === 1) return space.get(key);
        space.insert(key, value, options);
        return space.containsKey(key);
      });
      if (ending === 0) throw new Error("the body gives up");
      if (ending === 1) return Promise.resolve(1);
      if (ending === 2) side.db.insert("from outside", "never");
      return seen;
    });
}

function unordered(records: Iterable<readonly [Uint8Array, Uint8Array]>): string[] {
  return [...records].map((record) => comparable(record) as string).sort();
}

const DRAWS = Object.entries({ ...ON_SPACES, ...ON_DATABASE });
const WEIGHTS: Record<string, number> = { insert: 8, insertMany: 3, remove: 3, transaction: 4, read: 3, clear: 0.6 };
const TICKETS = DRAWS.flatMap(([name, draw]) =>
  Array.from({ length: Math.ceil((WEIGHTS[name] ?? 1) * 2) }, () => ({ name, draw })),
);

export function drawOperation(random: Random, nowMs: number): Operation {
  const { name, draw } = random.pick(TICKETS);
  return { name, run: draw(random, nowMs) };
}

/** What an operation came to: plain text, equal exactly when both sides did the same. */
export function outcomeOf(body: () => unknown): string {
  try {
    return JSON.stringify(comparable(body())) ?? "nothing";
  } catch (error) {
    if (error instanceof EmdbError) return `throws ${error.code}`;
    if (error instanceof Error) return `throws ${error.message}`;
    throw error;
  }
}

function comparable(value: unknown): unknown {
  if (value instanceof Uint8Array)
    return `bytes ${value.length} ${Bun.hash(value)} ${Buffer.from(value.subarray(0, 24)).toString("latin1")}`;
  if (Array.isArray(value)) return JSON.stringify(value.map((one) => comparable(one)));
  return value === undefined ? "undefined" : value;
}

/** Everything that can be seen of a database, as text. */
export function everythingOf(db: Side["db"]): string[] {
  const stats = db.stats();
  const lines = [`records ${stats.liveRecords} namespaces ${stats.namespaceCount} ${db.listNamespaces().join()}`];
  for (const name of [undefined, ...db.listNamespaces()]) {
    const space: Keyspace = name === undefined ? db : db.namespace(name);
    const records = [...space];
    const keys = records.map(([key]) => key);
    const facts = keys.map((key) => [space.expiresAt(key), space.ttl(key), space.containsKey(key), space.get(key)]);
    const read = space.getMany(keys);
    const rows = records.map((record, index) => String(comparable([record, facts[index], read[index]])));
    lines.push(`${name ?? "default"}: ${space.len()} ${space.isEmpty()}`, ...rows.sort());
  }
  return lines;
}
