/** What is live of a log, found in the index, is what each frame of the log asks the index for; whatever the windows are. */

import { expect, test } from "bun:test";
import { isTombstone } from "../../src/keydir/keydir.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { FRAME_HEADER_BYTES, KIND_PUT, KIND_REMOVE, KIND_SPACE_CREATE } from "../../src/log/frame.ts";
import { Scanner } from "../../src/log/scanner.ts";
import { LivePlaces } from "../../src/engine/copy/live-places.ts";
import { EngineFixture } from "../engine/engine-fixture.ts";
import { Random } from "../sim/random.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const SPACES = ["", "one", "two", "dropped", "empty"];

/** A log of which about half is dead: overwritten, removed, cleared, dropped. */
function fill({ engine, sync }: EngineFixture, random: Random, writes: number): void {
  for (const name of SPACES.slice(1)) engine.spaceNamed(name);
  for (let write = 0; write < writes; write++) {
    const name = random.pick(SPACES.slice(0, 4));
    const space = name === "" ? engine.defaultSpace : engine.spaceNamed(name);
    const key = `key ${random.below(writes / 2)}`;
    if (random.chance(0.2)) engine.remove(space, key);
    else engine.insert(space, key, "v".repeat(random.below(300)), 0);
  }
  engine.dropSpace("dropped");
  sync.flush();
}

/** Places of the frames that the index names, each frame asked for by its key. */
function asked({ engine }: EngineFixture, end: number): number[] {
  const { core, spaces } = engine;
  const { system, file, salts, keydir } = core;
  const scanner = new Scanner({ system, file: file!.handle, path: "", salts, end }, HEADER_PAGE_BYTES);
  const places: number[] = [];
  while (scanner.next().kind === "frame") {
    const { facts, lsn, head, headAt } = scanner;
    const space = spaces.byId(facts.space);
    if (space === undefined || !spaces.isLive(space)) continue;
    if (facts.kind === KIND_SPACE_CREATE) places.push(lsn);
    if (facts.kind !== KIND_PUT && facts.kind !== KIND_REMOVE) continue;
    const root = spaces.root(space);
    if (root === 0) continue;
    keydir.seek(root, core.hash.at(head, headAt + FRAME_HEADER_BYTES, facts.keyBytes));
    while (keydir.next()) {
      if (keydir.units * 8 === lsn + core.base && !isTombstone(keydir.high)) places.push(lsn);
    }
  }
  scanner.release();
  return places;
}

function gathered({ engine: { core, spaces } }: EngineFixture, end: number, windowBytes?: number): number[] {
  const live = new LivePlaces({ core, spaces, keepFrom: () => Infinity }, end, windowBytes);
  const places: number[] = [];
  for (let place = HEADER_PAGE_BYTES; place < end;) {
    if (live.isKnown(place)) place = live.next(place);
    else live.gather(place);
    if (!live.isKnown(place) || place >= live.end) continue;
    if (live.next(place) !== place) continue;
    places.push(place);
    // As far as a frame reaches at least, mostly beyond the end of a small window.
    place += FRAME_HEADER_BYTES + 8;
  }
  return places;
}

test.each([undefined, 256, 4096, 40_000])("in windows of %p bytes", (windowBytes) => {
  using folder = temporaryFolder();
  const random = new Random(5);
  // The longest fills several shards of each key space.
  for (const writes of windowBytes === undefined ? [0, 1, 50, 40_000] : [0, 1, 50, 6000]) {
    using fixture = new EngineFixture(folder.file(`${writes}.emdb`), hostSystem());
    fill(fixture, random, writes);
    const { core } = fixture.engine;
    const end = core.visible - core.base;
    const expected = asked(fixture, end);
    expect(gathered(fixture, end, windowBytes)).toEqual(expected);
    // From the default, "one", "two" and "empty": the creations of three, and what is in three.
    expect(expected.length).toBeGreaterThan(writes / 8);
  }
});
