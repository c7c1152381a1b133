/** Images that an open finds and does not use: none is there any more when the log goes another way. */

import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { expect, test } from "bun:test";
import type { System } from "../../src/ffi/system.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import { expectCode } from "./fixture.ts";

const hintOf = (path: string): string => `${path}.hint`;

/** A log that says of fewer namespace ids than its image that they were given out. */
async function makeLog(path: string): Promise<void> {
  const db = Emdb.open(path);
  db.namespace("users").insert("1", "Ada");
  for (let index = 0; index < 5; index += 1) {
    db.namespace(`job ${index}`).insert("k", "v");
    db.dropNamespace(`job ${index}`);
  }
  await db.compact();
  db.closeSync();
}

/** A system on which a call fails that is made for the image, of its reads those behind the header. */
function failing(call: "open" | "read" | "unlink", errno: number): System {
  let image = -1;
  const host = hostSystem();
  return faulty(host, (made, args) => {
    if (made === "close" && args[0] === image) image = -1;
    if (made === "read" && call === "read" && args[0] === image)
      return (args[2] as { readonly position: number }).position > 0 ? -errno : undefined;
    if ((made !== "open" && made !== "unlink") || !String(args[0]).endsWith(".hint")) return undefined;
    if (made === call) return -errno;
    if (made === "open") image = host.open(String(args[0]), args[1] as "read");
    return made === "open" ? image : undefined;
  });
}

test.each([
  ["open", Errno.EMFILE],
  ["open", Errno.EIO],
  ["read", Errno.EIO],
] as const)("after an image whose %s failed once (%i), a crash, and no failure, the log opens", async (call, errno) => {
  using folder = temporaryFolder();
  const [path, crashed] = [folder.file("data.emdb"), folder.file("crashed.emdb")];
  await makeLog(path);
  const live = new EngineFixture(path, failing(call, errno));
  expect(live.opened.base.recovery.usedCheckpoint).toBe(false);
  expect(existsSync(hintOf(path))).toBe(false);
  live.engine.insert(live.engine.spaceNamed("orders"), "7", "2 chairs", 0);
  live.sync.flush();
  for (const name of [path, hintOf(path)]) if (existsSync(name)) copyFileSync(name, name.replace("data", "crashed"));
  live.close();
  using db = Emdb.open(crashed);
  expect(db.listNamespaces()).toEqual(["users", "orders"]);
  expect(db.namespace("orders").getText("7")).toBe("2 chairs");
});

test("an image that there is no room for in memory is one that is not used", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const keys = Array.from({ length: 20_000 }, (_, index) => `key ${index}`);
  const made = new EngineFixture(path, hostSystem());
  made.engine.insertMany(made.engine.defaultSpace, keys, keys, 0);
  const expected = made.state();
  made.close();
  // All of its pages are asked for at once.
  const imageBytes = statSync(hintOf(path)).size;
  let refusals = 0;
  const system = faulty(hostSystem(), (call, [, bytes]) => {
    const isForImage = call === "commit" && (bytes as number) >= imageBytes / 2 && (bytes as number) < 2 * imageBytes;
    return isForImage && refusals++ === 0 ? -Errno.ENOMEM : undefined;
  });
  using live = new EngineFixture(path, system);
  expect([refusals > 0, live.opened.base.recovery.usedCheckpoint]).toEqual([true, false]);
  expect(live.state()).toBe(expected);
  live.checkLiveBytes();
});

test("an image that is not used and cannot be removed fails the open, which changes nothing", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  await makeLog(path);
  writeFileSync(hintOf(path), "no image");
  const before = readFileSync(path);
  expectCode("EMDB_IO", () => new EngineFixture(path, failing("unlink", Errno.EACCES)));
  expect(readFileSync(path)).toEqual(before);
  expect(readFileSync(hintOf(path), "utf8")).toBe("no image");
});

test("a folder that has the name of the image is in nobody's way", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  mkdirSync(`${path}.hint`);
  for (const key of ["a", "b"]) {
    using db = Emdb.open(path);
    db.insert(key, "1");
  }
  using db = Emdb.open(path);
  expect(db.len()).toBe(2);
});

test("a read-only open leaves an image that it cannot use where it is", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  await makeLog(path);
  writeFileSync(hintOf(path), "no image");
  using db = Emdb.open(path, { createIfMissing: false, readOnly: true });
  expect(db.recovery.usedCheckpoint).toBe(false);
  expect(readFileSync(hintOf(path), "utf8")).toBe("no image");
});

test("a log that was cut to nothing opens empty, and its image tells how much is missing, once", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  let end = 0;
  {
    using db = Emdb.open(path);
    for (let index = 0; index < 30; index += 1) db.insert(`k${index}`, "v");
    end = db.stats().logicalSizeBytes;
  }
  writeFileSync(path, "");
  const db = Emdb.open(path);
  expect(db.recovery).toMatchObject({ usedCheckpoint: false, missingBytes: end - HEADER_PAGE_BYTES, tornBytes: 0 });
  expect([db.len(), existsSync(hintOf(path))]).toEqual([0, false]);
  db.closeSync();
  using again = Emdb.open(path);
  expect(again.recovery.missingBytes).toBe(0);
});

test("a log that was removed and is made anew misses nothing", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using db = Emdb.open(path);
    db.insert("k", "v");
  }
  rmSync(path);
  using db = Emdb.open(path);
  expect(db.recovery).toMatchObject({ usedCheckpoint: false, missingBytes: 0 });
  expect(existsSync(hintOf(path))).toBe(false);
});
