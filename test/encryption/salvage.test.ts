/** What one flipped bit in the header page of an encrypted file costs: nothing, to salvage. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostSystem } from "../../src/ffi/host.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { KIND_PUT, PLACE_LAST, shapeOf } from "../../src/log/frame.ts";
import { Emdb } from "../../src/index.ts";
import { openFile } from "../engine/open-engine.ts";
import { giveUpBatch } from "../engine/verify-frames.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { framesOf, placeAt, repair } from "./attack-fixture.ts";

setDefaultTimeout(120_000);

/** The last byte that the check of the header is in. */
const SECTOR_END = 511;

test("salvage brings all of an encrypted file back whose header page has a flipped bit", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("salvaged.emdb")];
  const encryption = { key: new Uint8Array(32).fill(7) };
  {
    using db = Emdb.open(path, { encryption });
    for (let number = 0; number < 20; number++) db.insert(`key ${number}`, `value ${number}`);
  }
  const sound = readFileSync(path);
  // Some bytes of each field, and some of the zeros behind them.
  const step = emulator === undefined ? 13 : 101;
  const places = [SECTOR_END];
  for (let byte = 0; byte < HEADER_PAGE_BYTES; byte += byte < 1024 ? step : 37 * step) places.push(byte);
  for (const byte of places) {
    const file = Uint8Array.from(sound);
    file[byte]! ^= 1 << (byte & 7);
    writeFileSync(path, file);
    const report = await Emdb.salvage(path, target, { encryption });
    expect([byte, report.recoveredRecords, report.lostRanges]).toEqual([byte, 20, []]);
    {
      using db = Emdb.open(target, { encryption, readOnly: true });
      expect(db.getText("key 7")).toBe("value 7");
    }
    for (const suffix of ["", ".hint", ".lock"]) rmSync(target + suffix, { force: true });
  }
});

test("more than one flipped bit of the only key slot leaves nothing to open, and says so", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const encryption = { key: new Uint8Array(32).fill(7) };
  {
    using db = Emdb.open(path, { encryption });
    db.insert("a", "1");
  }
  const file = readFileSync(path);
  file[600]! ^= 3;
  writeFileSync(path, file);
  const salvaged = Emdb.salvage(path, folder.file("salvaged.emdb"), { encryption });
  expect(await salvaged.catch((error: unknown) => error)).toMatchObject({ code: "EMDB_CORRUPTED" });
});

test("an encrypted file of whose header page the file id alone is left is refused, with its secret and without, and no target is made", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("salvaged.emdb")];
  const key = (): Uint8Array => new Uint8Array(32).fill(7);
  {
    using db = Emdb.open(path, { encryption: { key: key() } });
    db.insert("a", "1");
  }
  const file = readFileSync(path);
  file.fill(0xa5, 0, 16);
  file.fill(0xa5, 48, HEADER_PAGE_BYTES);
  writeFileSync(path, file);
  for (const options of [{}, { encryption: { key: key() } }]) {
    const salvaged = await Emdb.salvage(path, target, options).catch((error: unknown) => error);
    expect(salvaged).toMatchObject({ code: "EMDB_CORRUPTED", offset: 0 });
    expect(existsSync(target)).toBe(false);
  }
});

test("whoever forges the end of a batch that was given up, in the clear, brings none of it back", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("salvaged.emdb")];
  const key = (): Uint8Array => new Uint8Array(32).fill(7);
  const opened = openFile(hostSystem(), path, { encryption: { key: key() } });
  giveUpBatch(opened, "gone", 2);
  opened.engine.insert(opened.engine.defaultSpace, "after", "it", 0);
  opened.leave();
  const file = new Uint8Array(readFileSync(path));
  const abort = framesOf(readFileSync(path)).find(({ lsn }) => placeAt(file, lsn) === PLACE_LAST)!;
  const view = new DataView(file.buffer, file.byteOffset);
  // A sound header of a plain record, whose body is what was sealed.
  const bytes = view.getUint32(abort.lsn + 12, true);
  view.setUint32(abort.lsn + 8, shapeOf(KIND_PUT, PLACE_LAST, 0, 0), true);
  view.setUint32(abort.lsn + 12, bytes, true);
  repair(file, abort.lsn);
  writeFileSync(path, file);
  const report = await Emdb.salvage(path, target, { encryption: { key: key() } });
  using saved = Emdb.open(target, { encryption: { key: key() } });
  expect([report.recoveredRecords, saved.getText("after"), saved.containsKey("gone")]).toEqual([1, "it", false]);
});
