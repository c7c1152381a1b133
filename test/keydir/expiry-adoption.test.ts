/** What an image says of deadlines is taken only where it can be true. */

import { expect, test } from "bun:test";
import { pinned } from "../../src/ffi/memory.ts";
import { ExpiryAdoption } from "../../src/keydir/expiry-adoption.ts";
import { ENTRY_BYTES } from "../../src/keydir/expiry-pages.ts";
import { DeadlineFixture } from "./deadline-fixture.ts";

/** The position that the namespace stands for: its records lie before it. */
const GATE = 800;
const TOMBSTONE = 16;

interface Forged {
  readonly deadlineMs: number;
  readonly low: number;
  readonly high: number;
  readonly at: number;
  readonly bytes: number;
  readonly live: number;
}

const SOUND: Forged = { deadlineMs: 1e12, low: 99, high: 0, at: 0, bytes: 2 * ENTRY_BYTES, live: 2 };

function isTaken({ deadlineMs, low, high, at, bytes, live }: Forged): boolean {
  using fixture = new DeadlineFixture();
  const adoption = new ExpiryAdoption(fixture.heap);
  const memory = pinned(4 * ENTRY_BYTES);
  for (let entry = 0; entry < 3; entry += 1) {
    memory.f64[entry * 2] = entry === 1 ? deadlineMs : 1e12;
    memory.u32[entry * 4 + 2] = entry === 1 ? low : 99;
    memory.u32[entry * 4 + 3] = entry === 1 ? high : 0;
  }
  adoption.begin(live);
  const answer = adoption.add(memory, { at, bytes }, GATE);
  adoption.abandon();
  return answer;
}

test.each<[string, Partial<Forged>]>([
  ["the earliest deadline", { deadlineMs: Number.MIN_VALUE }],
  ["the latest deadline", { deadlineMs: Number.MAX_VALUE }],
  ["the last record before the gate", { low: 99 }],
])("an entry of %s is taken", (_, forged) => {
  expect(isTaken({ ...SOUND, ...forged })).toBe(true);
});

test.each<[string, Partial<Forged>]>([
  ["has no deadline", { deadlineMs: 0 }],
  ["has a deadline before all time", { deadlineMs: -1 }],
  ["has a deadline behind all time", { deadlineMs: Infinity }],
  ["has a deadline that is no number", { deadlineMs: NaN }],
  ["is of a removal", { high: TOMBSTONE }],
  ["is of nothing", { low: 0 }],
  ["is of a record at the gate", { low: 100 }],
  ["is cut short", { bytes: 2 * ENTRY_BYTES - 8 }],
  ["begins within another", { at: 4 }],
  ["is of a key space without deadlines", { live: 0 }],
])("an entry that %s makes the image worthless", (_, forged) => {
  expect(isTaken({ ...SOUND, ...forged })).toBe(false);
});
