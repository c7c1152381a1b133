/** An image whose pieces stand for different moments, and replay that goes over records that some of them hold already. */

import { expect, setDefaultTimeout, test } from "bun:test";
import type { Opened } from "../../src/engine/assemble.ts";
import { HintWriter } from "../../src/engine/hint/hint-writer.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, copyOf } from "./engine-fixture.ts";
import { ExpiryFixture } from "./expiry-fixture.ts";

setDefaultTimeout(120_000);

const KEYS = 9000;

/** An image that is made a piece at a time. */
function slowImage({ engine, sync }: Opened): { copyPiece(): boolean; finish(): void } {
  const { core } = engine;
  const writer = engine.exclusively(() => new HintWriter(core, engine.spaces, core.file!));
  const copyPiece = (): boolean => {
    const isMore = engine.exclusively(() => writer.copyPiece());
    writer.sealPiece();
    return isMore;
  };
  const finish = (): void => {
    while (copyPiece()) writer.spill();
    sync!.flush();
    writer.writeHeader();
    writer.publish();
  };
  return { copyPiece, finish };
}

test("replay that makes room in shards of the image still knows which records these hold", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using live = new EngineFixture(path, hostSystem());
  const { engine, sync, opened } = live;
  const insert = (kind: string, count: number): void => {
    const keys = Array.from({ length: count }, (_, index) => `${kind} ${index}`);
    engine.insertMany(engine.defaultSpace, keys, keys, 0);
  };
  insert("before", KEYS);
  const image = slowImage(opened);
  // The key space itself, from where on its records are replayed; its shards are copied when they hold more.
  image.copyPiece();
  insert("held", KEYS);
  image.finish();
  insert("behind", 500);
  sync.flush();
  using copy = new EngineFixture(copyOf(path), hostSystem());
  expect(copy.opened.base.recovery).toMatchObject({ usedCheckpoint: true, replayedRecords: KEYS + 500 });
  expect(copy.state() === live.state()).toBe(true);
  copy.checkLiveBytes();
});

test.each(["takes a deadline away", "gives one"])(
  "a batch that %s, and is taken back before the shards are copied, changes no deadline to who replays it",
  (what) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    using live = new ExpiryFixture(path);
    const { engine, opened, space, clock } = live;
    const gone = engine.spaceNamed("gone");
    engine.dropSpace("gone");
    live.put("due", 1000);
    live.put("for ever");
    const image = slowImage(opened);
    image.copyPiece();
    // Long values reach the file at once, so that an abort has to follow.
    const value = new Uint8Array(100_000);
    const changed =
      what === "gives one" ? { key: "for ever", expiresAtMs: clock.nowMs + 1000 } : { key: "due", expiresAtMs: 0 };
    const end = engine.core.visible;
    expect(() =>
      engine.writeBatch([
        { space, value, ...changed },
        { space: gone, value, key: "k", expiresAtMs: 0 },
      ]),
    ).toThrow("was dropped");
    expect(engine.core.visible).toBeGreaterThan(end + value.length);
    image.finish();
    const counts = engine.spaces.counts(space);
    using copy = new ExpiryFixture(copyOf(path));
    expect(copy.opened.base.recovery).toMatchObject({ usedCheckpoint: true, tornBytes: 0 });
    expect(copy.facts().live).toBe(1);
    expect(copy.engine.spaces.counts(copy.space)).toEqual(counts);
    copy.checkQueue();
    copy.clock.nowMs += 1000;
    expect(copy.engine.sweepExpired(copy.space)).toBe(1);
  },
);

test("keys of a batch that was taken back, written again or not before the shards are copied, are to who replays it what they are", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using live = new EngineFixture(path, hostSystem());
  const { engine, opened } = live;
  const { core, spaces, defaultSpace: space } = engine;
  const gone = engine.spaceNamed("gone");
  engine.dropSpace("gone");
  for (const key of ["again", "kept", "removed"]) engine.insert(space, key, "before", 0);
  const image = slowImage(opened);
  image.copyPiece();
  // Long values reach the file at once, and what is before them, so that an abort has to follow.
  const value = new Uint8Array(100_000);
  const puts = ["again", "kept", "new", "new, again"].map((key) => ({ space, value, key, expiresAtMs: 0 }));
  const end = core.visible;
  expect(() =>
    engine.writeBatch([
      { space, value: undefined, key: "removed", expiresAtMs: 0 },
      ...puts,
      { space: gone, value, key: "k", expiresAtMs: 0 },
    ]),
  ).toThrow("was dropped");
  expect(core.visible).toBeGreaterThan(end + value.length);
  for (const key of ["again", "new, again"]) engine.insert(space, key, "behind", 0);
  image.finish();
  using copy = new EngineFixture(copyOf(path), hostSystem());
  expect(copy.opened.base.recovery).toMatchObject({ usedCheckpoint: true, tornBytes: 0 });
  expect(copy.state()).toEqual(live.state());
  expect(copy.engine.spaces.counts(copy.engine.defaultSpace)).toEqual(spaces.counts(space));
  copy.checkLiveBytes();
});
