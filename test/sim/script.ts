/**
 * Scripts: short lists of operations over a small alphabet, all of them or random ones from a seed.
 *
 * A script is plain data and names no values: the value that step n inserts follows from n, so that a script
 * can lose operations and stay a script, and no two steps insert the same.
 */

import { Random } from "./random.ts";
import type { ModelChange } from "./model.ts";

export interface BatchPart {
  readonly space: string;
  readonly key: string;
  /** Left out: removes. */
  readonly bytes?: number;
  /** Left out: for ever. */
  readonly ttlMs?: number;
}

export type Operation =
  | {
      readonly kind: "insert";
      readonly space: string;
      readonly key: string;
      readonly bytes: number;
      readonly ttlMs: number;
    }
  | { readonly kind: "remove"; readonly space: string; readonly key: string }
  | { readonly kind: "batch"; readonly writes: readonly BatchPart[] }
  | { readonly kind: "clear" | "drop" | "sweep"; readonly space: string }
  | { readonly kind: "flush" | "reopen" | "compact" | "checkpoint" | "turn" | "backup" }
  | { readonly kind: "advance"; readonly ms: number };

export type Script = readonly Operation[];

/** What step n writes: never the same twice, and a piece of another value shows. */
export function valueOf(step: number, bytes: number): string {
  const unit = `${step}.`;
  return unit.repeat(Math.ceil(bytes / unit.length)).slice(0, bytes);
}

/** What an operation changes as one step; undefined for one that writes nothing. */
export function changeOf(
  operation: Operation,
  { step, nowMs }: { readonly step: number; readonly nowMs: number },
): ModelChange | undefined {
  switch (operation.kind) {
    case "insert": {
      const { space, key, bytes, ttlMs } = operation;
      const expiresAtMs = ttlMs === 0 ? 0 : nowMs + ttlMs;
      return { kind: "write", writes: [{ space, key, value: valueOf(step, bytes), expiresAtMs }] };
    }
    case "remove":
      return { kind: "write", writes: [{ ...operation, value: undefined, expiresAtMs: 0 }] };
    case "batch": {
      const writes = operation.writes.map(({ space, key, bytes, ttlMs = 0 }, index) => ({
        space,
        key,
        value: bytes === undefined ? undefined : `${index}:${valueOf(step, bytes)}`,
        expiresAtMs: ttlMs === 0 ? 0 : nowMs + ttlMs,
      }));
      return { kind: "write", writes };
    }
    case "clear":
    case "drop":
      return { kind: "clear", space: operation.space };
    case "sweep":
      return { kind: "sweep", space: operation.space, nowMs };
    default:
      return undefined;
  }
}

/** Small enough that every sequence of three is tried, wide enough that each kind of record is met. */
export const SMALL_ALPHABET: readonly Operation[] = [
  { kind: "insert", space: "", key: "a", bytes: 12, ttlMs: 0 },
  { kind: "insert", space: "", key: "b", bytes: 700, ttlMs: 0 },
  { kind: "insert", space: "s", key: "a", bytes: 3, ttlMs: 0 },
  { kind: "remove", space: "", key: "a" },
  {
    kind: "batch",
    writes: [
      { space: "", key: "a", bytes: 5 },
      { space: "s", key: "c", bytes: 600 },
      { space: "", key: "b" },
    ],
  },
  { kind: "clear", space: "" },
  { kind: "flush" },
  { kind: "reopen" },
  { kind: "compact" },
];

/** Every sequence of operations of up to `lengthMax`, shortest first. */
export function* enumerateScripts(alphabet: readonly Operation[], lengthMax: number): Generator<Script> {
  let level: Script[] = [[]];
  for (let length = 1; length <= lengthMax; length += 1) {
    const next: Script[] = [];
    for (const prefix of level) {
      for (const operation of alphabet) {
        const script = [...prefix, operation];
        next.push(script);
        yield script;
      }
    }
    level = next;
  }
}

const KINDS: readonly Operation["kind"][] = [
  ...([
    "insert",
    "insert",
    "insert",
    "insert",
    "insert",
    "remove",
    "batch",
    "batch",
    "flush",
    "flush",
    "turn",
  ] as const),
  ...(["clear", "drop", "reopen", "compact", "checkpoint", "advance"] as const),
];
/** Kinds that a script over everything also draws from. */
const MORE_KINDS: readonly Operation["kind"][] = [...KINDS, "sweep", "batch", "remove", "advance"];
const SPACES = ["", "", "", "s", "t"] as const;
const KEYS = ["a", "b", "c", "d", "e", "f"] as const;
const SIZES = [0, 1, 20, 150, 500, 900, 5000] as const;
/** Frames just below and above what goes to the file at once, and what no ring takes. */
const BIG_SIZES = [32_000, 33_000, 150_000, 500_000, 1_048_000, 1_200_000] as const;
/** Values of batches that go round the ring. */
const RING_SIZES = [9000, 25_000, 32_000] as const;

interface ScriptSeed {
  readonly seed: number;
  readonly length: number;
  /** Draws also what a store need not have (sweeps), and lets the clock go back. */
  readonly isWide?: boolean;
  /** One operation in so many is a big insert, or a batch of some hundred KiB; 0 or left out: none. */
  readonly bigOneIn?: number;
}

/** A script from a seed; the same seed and length give the same one for ever. */
export function randomScript({ seed, length, isWide = false, bigOneIn = 0 }: ScriptSeed): Script {
  const random = new Random(seed);
  return Array.from({ length }, () => {
    const operation = randomOperation(random, isWide);
    if (bigOneIn === 0 || !random.chance(1 / bigOneIn)) return operation;
    if (random.chance(0.5)) return { kind: "batch", writes: bigBatch(random) };
    return { kind: "insert", space: "", key: random.pick(KEYS), bytes: random.pick(BIG_SIZES), ttlMs: 0 };
  });
}

function randomOperation(random: Random, isWide: boolean): Operation {
  const kind = random.pick(isWide ? MORE_KINDS : KINDS);
  const space = random.pick(SPACES);
  const key = random.pick(KEYS);
  switch (kind) {
    case "insert":
      return { kind, space, key, bytes: random.pick(SIZES), ttlMs: random.chance(0.15) ? 1 + random.below(5000) : 0 };
    case "remove":
      return { kind, space, key };
    case "batch":
      return { kind, writes: randomBatch(random, isWide) };
    case "clear":
    case "drop":
    case "sweep":
      return { kind, space };
    case "advance":
      return { kind, ms: random.below(6000) - (isWide ? 2000 : 0) };
    case "flush":
    case "turn":
    case "reopen":
    case "compact":
    case "checkpoint":
    case "backup":
      return { kind };
    default:
      return kind satisfies never;
  }
}

/** Some batches go to one space and some only insert: stores have calls of their own for those. */
function randomBatch(random: Random, isWide: boolean): BatchPart[] {
  const parts = Array.from({ length: 1 + random.below(5) }, () => randomPart(random));
  if (!isWide || random.chance(0.5)) return parts;
  const [space, bytes] = [random.pick(SPACES), random.pick(SIZES)];
  return parts.map((part): BatchPart => ({ space, key: part.key, bytes: part.bytes ?? bytes }));
}

function bigBatch(random: Random): BatchPart[] {
  const count = 10 + random.below(30);
  return Array.from({ length: count }, () => ({ ...randomPart(random), bytes: random.pick(RING_SIZES) }));
}

function randomPart(random: Random): BatchPart {
  const part = { space: random.pick(SPACES), key: random.pick(KEYS) };
  return random.chance(0.25) ? part : { ...part, bytes: random.pick(SIZES) };
}
