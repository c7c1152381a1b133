/**
 * The obvious database: a map of spaces to maps of keys, one new value per step.
 *
 * A state is never changed; `applyChange` makes the next one. What a store shows is right when its canonical
 * text is that of a state that the oracle allows.
 */

import type { StoreKey, StoreRecord, StoreWrite } from "./store.ts";

interface ModelRecord {
  readonly value: string;
  /** 0 for never. */
  readonly expiresAtMs: number;
}

export type ModelState = ReadonlyMap<string, ReadonlyMap<string, ModelRecord>>;

/** One step: what is visible and durable in one piece. */
export type ModelChange =
  | { readonly kind: "write"; readonly writes: readonly StoreWrite[] }
  | { readonly kind: "clear"; readonly space: string }
  /** What has expired at that time is gone for good, whatever the clock does later. */
  | { readonly kind: "sweep"; readonly space: string; readonly nowMs: number };

export const EMPTY_STATE: ModelState = new Map();

export function applyChange(state: ModelState, change: ModelChange): ModelState {
  const next = new Map(state);
  if (change.kind === "clear") {
    next.delete(change.space);
    return next;
  }
  if (change.kind === "sweep") {
    const kept = [...(next.get(change.space) ?? [])].filter(
      ([, { expiresAtMs }]) => !isExpired(expiresAtMs, change.nowMs),
    );
    next.set(change.space, new Map(kept));
    return next;
  }
  for (const { space, key, value, expiresAtMs } of change.writes) {
    const records = new Map(next.get(space));
    if (value === undefined) records.delete(key);
    else records.set(key, { value, expiresAtMs });
    next.set(space, records);
  }
  return next;
}

function isExpired(expiresAtMs: number, nowMs: number): boolean {
  return expiresAtMs !== 0 && expiresAtMs <= nowMs;
}

/** The state that a store shows. @throws when a key comes twice. */
export function stateOf(records: Iterable<StoreRecord>): ModelState {
  const spaces = new Map<string, Map<string, ModelRecord>>();
  for (const { space, key, value, expiresAtMs } of records) {
    const known = spaces.get(space) ?? new Map<string, ModelRecord>();
    if (known.has(key)) throw new Error(`${nameOf({ space, key })} came twice`);
    known.set(key, { value, expiresAtMs });
    spaces.set(space, known);
  }
  return spaces;
}

/** As a time for `canonical`: before every deadline. What a store shows is taken as shown, expired or not. */
export const ALL_TIME = Number.NEGATIVE_INFINITY;

const eternal = new WeakMap<ModelState, string>();

/** Equal exactly for states that show the same records at that time. */
export function canonical(state: ModelState, nowMs: number): string {
  const known = eternal.get(state);
  if (known !== undefined) return known;
  const lines: string[] = [];
  let hasDeadline = false;
  for (const [space, records] of state) {
    for (const [key, { value, expiresAtMs }] of records) {
      if (expiresAtMs !== 0) hasDeadline = true;
      if (!isExpired(expiresAtMs, nowMs)) lines.push(`${nameOf({ space, key })}=${value}@${expiresAtMs}`);
    }
  }
  const text = lines.sort().join("\n");
  if (!hasDeadline) eternal.set(state, text);
  return text;
}

/** Where two states differ, short enough for one line. */
export function difference(
  shown: ModelState,
  { from, nowMs }: { readonly from: ModelState; readonly nowMs: number },
): string {
  const lines = (text: string): Set<string> => new Set(text.split("\n").filter((line) => line !== ""));
  const [have, want] = [lines(canonical(shown, ALL_TIME)), lines(canonical(from, nowMs))];
  const short = (line: string): string => (line.length > 40 ? `${line.slice(0, 40)}...` : line);
  const extra = [...have].filter((line) => !want.has(line)).map((line) => `+${short(line)}`);
  const missing = [...want].filter((line) => !have.has(line)).map((line) => `-${short(line)}`);
  return [...extra, ...missing].slice(0, 6).join(" ");
}

function nameOf({ space, key }: StoreKey): string {
  return `${space}/${key}`;
}
