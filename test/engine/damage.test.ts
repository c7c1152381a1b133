/**
 * A small log, cut at every byte and flipped at every bit: every open shows a right state or is a typed refusal
 * that leaves the disk as it was.
 */

import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { emulator } from "../support/platform.ts";
import { Random } from "../sim/random.ts";
import {
  EVERYTHING,
  expectOpens,
  expectRefused,
  fastFolder,
  place,
  stateAt,
  tell,
  tryOpen,
  type Story,
} from "./fixture.ts";

// Bounded by their counts; emulators take a sample, at another offset for each bit.
setDefaultTimeout(120_000);
const STRIDE = emulator === undefined ? 1 : 97;
const GARBAGE_LENGTHS = emulator === undefined ? [1, 7, 8, 9, 23, 24, 25, 100, 4096, 70_000] : [7, 25, 70_000];

/** What a crash left of the preallocated zeros does not matter; a few are enough. */
const ZEROS_KEPT = 512;

let flushed: Story;
/** The last three steps were written and not flushed. */
let unflushed: Story;

beforeAll(async () => {
  using folder = fastFolder();
  flushed = await tell(folder.file("a.emdb"), EVERYTHING);
  unflushed = await tell(folder.file("b.emdb"), EVERYTHING, 3);
});

const endOf = (story: Story): number => story.steps.at(-1)!.end;

function shortened(story: Story): Uint8Array {
  return story.crashed.slice(0, endOf(story) + ZEROS_KEPT);
}

const images: readonly { readonly name: string; of(): { story: Story; bytes: Uint8Array; durableEnd: number } }[] = [
  {
    name: "closed in good order",
    of: () => ({ story: flushed, bytes: flushed.closed, durableEnd: endOf(flushed) }),
  },
  {
    name: "crashed after a flush",
    of: () => ({ story: flushed, bytes: shortened(flushed), durableEnd: endOf(flushed) }),
  },
  {
    name: "crashed with writes behind the flush",
    of: () => ({ story: unflushed, bytes: shortened(unflushed), durableEnd: unflushed.flushedEnd }),
  },
];

test.each(images)("the whole file opens with every record, and again: $name", ({ of }) => {
  const { story, bytes } = of();
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  expect(expectOpens(path, bytes, story.steps.at(-1)!.state).tornBytes).toBe(0);
  expect(tryOpen(path)).toMatchObject({ kind: "open", tornBytes: 0, state: story.steps.at(-1)!.state });
});

test.each(images)("cut at every byte, it opens to what was whole there: $name", ({ of }) => {
  const { story, bytes } = of();
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  for (let length = HEADER_PAGE_BYTES; length <= bytes.length; length += STRIDE) {
    const expected = stateAt(story, length);
    const { tornBytes } = expectOpens(path, bytes.subarray(0, length), expected.state);
    if (tornBytes > length - expected.end) throw new Error(`cut at ${length}: ${tornBytes} torn bytes`);
    if (length % 3 > 0) continue;
    expect(tryOpen(path)).toMatchObject({ kind: "open", state: expected.state, tornBytes: 0 });
  }
});

test.each(images)("cut within its header, it is refused untouched: $name", ({ of }) => {
  const { bytes } = of();
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  for (const length of [...Array(40).keys(), 511, 512, 513, 4000, 4095]) {
    place(path, bytes.subarray(0, length));
    if (length === 0) expectRefused(path, "EMDB_NOT_FOUND");
    else if (length < 8) expectRefused(path, "EMDB_NOT_A_DATABASE");
    else expect(expectRefused(path, "EMDB_CORRUPTED").offset).toBe(length);
  }
});

test.each(images)(
  "with any bit flipped, what was durable is damage and what was not is a torn tail: $name",
  ({ of }) => {
    const { story, bytes, durableEnd } = of();
    using folder = fastFolder();
    const path = folder.file("data.emdb");
    for (let bit = HEADER_PAGE_BYTES * 8; bit < (endOf(story) + 24) * 8; bit += STRIDE) {
      const at = bit >> 3;
      const flipped = bytes.slice();
      flipped[at]! ^= 1 << (bit & 7);
      const expected = stateAt(story, at);
      try {
        if (at < durableEnd) {
          place(path, flipped);
          const { offset } = expectRefused(path, "EMDB_CORRUPTED");
          if (offset === undefined || offset % 8 !== 0 || offset > at || offset < expected.end) {
            throw new Error(`the damage is said to be at ${offset}`);
          }
        } else {
          expectOpens(path, flipped, expected.state);
          if (bit % 5 === 0) expect(tryOpen(path)).toMatchObject({ kind: "open", state: expected.state, tornBytes: 0 });
        }
      } catch (error) {
        throw new Error(`bit ${bit & 7} of byte ${at}: ${String(error)}`, { cause: error });
      }
    }
  },
);

test("with any bit of the header's sector flipped, the file is refused untouched", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  for (let bit = 0; bit < 512 * 8; bit += STRIDE) {
    const flipped = flushed.closed.slice();
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    place(path, flipped);
    const isFuture = bit > 64 && bit < 96;
    expectRefused(path, bit < 64 ? "EMDB_NOT_A_DATABASE" : isFuture ? "EMDB_VERSION" : "EMDB_CORRUPTED");
  }
});

test.each(images)("garbage behind the end costs no record, whatever its length: $name", ({ of }) => {
  const { story, bytes } = of();
  const random = new Random(81);
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  for (const length of GARBAGE_LENGTHS) {
    for (const end of [bytes.length, endOf(story) + 24]) {
      const garbage = new Uint8Array(end + length);
      garbage.set(bytes.subarray(0, end));
      random.randomize(garbage.subarray(end));
      garbage[end + length - 1]! |= 1;
      expectOpens(path, garbage, story.steps.at(-1)!.state);
      expect(tryOpen(path)).toMatchObject({ kind: "open", state: story.steps.at(-1)!.state });
    }
  }
});

test.each(images)("zeros anywhere in what was durable are damage, not an end: $name", ({ of }) => {
  const { story, bytes, durableEnd } = of();
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  for (let at = HEADER_PAGE_BYTES; at + 64 < durableEnd; at += 8 * STRIDE) {
    const holed = bytes.slice();
    holed.fill(0, at, at + 64);
    place(path, holed);
    const { offset } = expectRefused(path, "EMDB_CORRUPTED");
    expect(offset).toBeGreaterThanOrEqual(stateAt(story, at).end);
    expect(offset).toBeLessThanOrEqual(at);
  }
});

test("a stretch of the log moved elsewhere in it is damage: no frame is valid at another place", () => {
  const random = new Random(82);
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  const ends = flushed.steps.map((step) => step.end);
  for (let round = 0; round < 100; round += 1) {
    const from = random.below(ends.length - 2);
    const to = random.below(ends.length - 2);
    const stretch = flushed.closed.slice(ends[from], ends[from + 1]);
    const target = ends[to]!;
    if (from === to || target + stretch.length > endOf(flushed)) continue;
    const moved = flushed.closed.slice();
    moved.set(stretch, target);
    place(path, moved);
    expect(expectRefused(path, "EMDB_CORRUPTED").offset).toBe(target);
  }
});

test("a stretch of another database's log, at the same place, is damage", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  const mixed = flushed.closed.slice();
  const [from, to] = [flushed.steps[3]!.end, flushed.steps[5]!.end];
  mixed.set(unflushed.closed.subarray(from, to), from);
  place(path, mixed);
  expect(expectRefused(path, "EMDB_CORRUPTED").offset).toBe(from);
});

test("the header of another database makes its records damage or nothing, never records", () => {
  using folder = fastFolder();
  const path = folder.file("data.emdb");
  const mixed = flushed.closed.slice();
  mixed.set(unflushed.closed.subarray(0, HEADER_PAGE_BYTES));
  place(path, mixed);
  const outcome = tryOpen(path);
  if (outcome.kind === "open") expect(outcome.state).toBe(flushed.steps[0]!.state);
  else expect(outcome.code).toBe("EMDB_CORRUPTED");
});
