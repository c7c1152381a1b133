/** An image whose pieces stand for different moments, and replay that goes over records that some of them hold already. */

import { copyFileSync } from "node:fs";
import { expect, setDefaultTimeout, test } from "bun:test";
import { HintWriter } from "../../src/engine/hint-writer.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";

setDefaultTimeout(120_000);

const KEYS = 9000;

test("replay that makes room in shards of the image still knows which records these hold", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using live = new EngineFixture(path, hostSystem());
  const { engine, sync, opened } = live;
  const { core } = opened.engine;
  const insert = (kind: string, count: number): void => {
    const keys = Array.from({ length: count }, (_, index) => `${kind} ${index}`);
    engine.insertMany(engine.defaultSpace, keys, keys, 0);
  };
  insert("before", KEYS);
  const writer = engine.exclusively(() => new HintWriter(core, engine.spaces, core.file!));
  const copyPiece = (): boolean => {
    const isMore = engine.exclusively(() => writer.copyPiece());
    writer.sealPiece();
    return isMore;
  };
  // The key space itself, from where on its records are replayed; its shards are copied when they hold more.
  copyPiece();
  insert("held", KEYS);
  while (copyPiece()) writer.spill();
  sync.flush();
  writer.writeHeader();
  writer.publish();
  insert("behind", 500);
  sync.flush();
  const copyPath = folder.file("copy.emdb");
  copyFileSync(path, copyPath);
  copyFileSync(`${path}.hint`, `${copyPath}.hint`);
  using copy = new EngineFixture(copyPath, hostSystem());
  expect(copy.opened.base.recovery).toMatchObject({ usedCheckpoint: true, replayedRecords: KEYS + 500 });
  expect(copy.state() === live.state()).toBe(true);
  copy.checkLiveBytes();
});
