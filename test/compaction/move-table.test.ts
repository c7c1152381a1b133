/** The table of moves while a compaction fills it, and behind that: every pair, in a file and in memory, and nothing left held. */

import { expect, test } from "bun:test";
import { MoveTable, forgetMoves, releaseMoves } from "../../src/engine/copy/move-table.ts";
import { Control, MOVES_ADDRESS, MOVES_BYTES, MOVES_PAIRS, movesFileOf } from "../../src/engine/threads/control.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { FRAME_HEADER_BYTES } from "../../src/log/frame.ts";
import { Moves, PAIR_BYTES } from "../../src/log/moves.ts";
import { openHandle } from "../../src/log/shared-file.ts";
import { faulty } from "../engine/engine-fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

/** More than the buffer holds, many times, and than memory is taken for at once; no multiple of either. */
const PAIRS = 70_000;
const formerOf = (pair: number): number => 512 + 5 * pair;
const presentOf = (pair: number): number => 512 + 3 * pair;

/** How many of the first pairs are not found, or where there is none. */
function wrongOf(moves: Moves, pairs: number): number {
  let wrong = 0;
  for (let pair = 0; pair < pairs; pair += pair % 4096 < 3 || pair > pairs - 3 ? 1 : 61) {
    if (moves.present(formerOf(pair)) !== presentOf(pair)) wrong += 1;
    if (moves.present(formerOf(pair) + 1) !== 0) wrong += 1;
  }
  return wrong;
}

test.each(["a file", "memory"])(
  "in %s each pair is found from the moment that it is added, and none that was not",
  (where) => {
    using folder = temporaryFolder();
    const control = Control.create();
    const { numbers } = control;
    const calls: string[] = [];
    const system = faulty(hostSystem(), (call) => (calls.push(call), undefined));
    const place =
      where === "memory"
        ? { logBytes: PAIRS * FRAME_HEADER_BYTES }
        : { draftPath: folder.file("draft"), makeRoom: () => false };
    const table = new MoveTable(system, control, place);
    // Without a name nothing is left of it whatever happens. (Windows keeps one until the file is closed.)
    if (process.platform !== "win32") expect(new Bun.Glob("*").scanSync(folder.path).next().done).toBe(true);
    let early = 0;
    for (let pair = 0; pair < PAIRS; pair++) {
      table.add(formerOf(pair), presentOf(pair));
      if (pair % 15_000 === 0 || pair % 4096 < 2) expect(wrongOf(table.moves, pair + 1)).toBe(0);
      if (table.moves.present(formerOf(pair + 1)) !== 0) early += 1;
    }
    expect(early).toBe(0);
    // A write for each time that the buffer is full.
    expect(calls.filter((call) => call === "write").length).toBe(where === "memory" ? 0 : Math.floor(PAIRS / 4096));
    table.finish();
    expect([numbers[MOVES_PAIRS], numbers[MOVES_BYTES]! >= PAIRS * PAIR_BYTES]).toEqual([PAIRS, true]);
    expect(wrongOf(Moves.at(numbers[MOVES_ADDRESS]!, PAIRS), PAIRS)).toBe(0);
    expect(openHandle(movesFileOf(control)) !== undefined).toBe(where === "a file");
    const held = [numbers[MOVES_ADDRESS], numbers[MOVES_BYTES]];
    const given: unknown[] = [];
    const watched = faulty(hostSystem(), (call, args) => {
      if (call === "release" || call === "unmap") given.push([call, ...args]);
      return undefined;
    });
    releaseMoves(watched, control, where === "a file");
    expect(given).toEqual([[where === "memory" ? "release" : "unmap", ...held]]);
    expect([MOVES_ADDRESS, MOVES_BYTES, MOVES_PAIRS].map((at) => numbers[at])).toEqual([0, 0, 0]);
    expect(openHandle(movesFileOf(control))).toBeUndefined();
    // What a segment has taken over, or nobody has, is not given back.
    releaseMoves(watched, control, where === "a file");
    forgetMoves(control);
    expect(given.length).toBe(1);
  },
);

test("a table of nothing takes no map, and is given back all the same", () => {
  using folder = temporaryFolder();
  const control = Control.create();
  const system = hostSystem();
  const table = new MoveTable(system, control, { draftPath: folder.file("draft"), makeRoom: () => false });
  table.finish();
  expect([MOVES_ADDRESS, MOVES_BYTES, MOVES_PAIRS].map((at) => control.numbers[at])).toEqual([0, 0, 0]);
  releaseMoves(system, control, true);
  expect(openHandle(movesFileOf(control))).toBeUndefined();
});
