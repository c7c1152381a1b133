/** Who may read a database's file may read the one that takes its place. */

import { chmodSync, chownSync, statSync } from "node:fs";
import { describe, expect, test } from "bun:test";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb, type OpenOptions } from "../../src/index.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { EngineFixture, faulty } from "../engine/engine-fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

/** To another user and group, if this one may: root may, where its system knows such numbers. */
function giveAway(path: string): void {
  try {
    chownSync(path, 12_345, 23_456);
  } catch (error) {
    if (process.getuid?.() === 0) console.log(`the file stays root's: ${(error as Error).message}`);
  }
}

/** Mode, owner and group of a file, as `ls -ln` has them. */
function accessOf(path: string): string {
  const { mode, uid, gid } = statSync(path);
  return `${(mode & 0o7777).toString(8)} ${uid}:${gid}`;
}

/** A database with something to compact, closed. */
function make(path: string, options: OpenOptions = {}): void {
  using db = Emdb.open(path, options);
  for (let round = 0; round < 3; round += 1) db.insert("key", `value ${round}`);
}

const encryption = { key: new Uint8Array(32).fill(7) };

async function compact(path: string): Promise<void> {
  await using db = Emdb.open(path);
  await db.compact();
}

/** What replaces the file, and how that was made. */
const REPLACED: readonly (readonly [string, OpenOptions, (path: string) => Promise<void>])[] = [
  ["a compaction", {}, compact],
  ["encryption", {}, (path) => Emdb.enableEncryption(path, encryption)],
  ["the end of encryption", { encryption }, (path) => Emdb.disableEncryption(path, encryption)],
];

// On Windows a file takes what its folder says.
describe.skipIf(process.platform === "win32")("mode, owner and group", () => {
  test.each(REPLACED)("are kept by %s", async (_, options, replace) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    make(path, options);
    expect(accessOf(path)).toStartWith("600 ");
    chmodSync(path, 0o640);
    giveAway(path);
    const before = accessOf(path);
    const { ino } = statSync(path);
    await replace(path);
    expect(statSync(path).ino).not.toBe(ino);
    expect(accessOf(path)).toBe(before);
  });

  test("are not taken by a backup, which is its maker's alone", async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    make(path);
    chmodSync(path, 0o644);
    await using db = Emdb.open(path);
    await db.backupTo(folder.file("copy.emdb"));
    expect(accessOf(folder.file("copy.emdb"))).toStartWith("600 ");
  });

  test("that the file system does not let be set keep no compaction from its end", async () => {
    using folder = temporaryFolder();
    let asked = 0;
    const system = faulty(hostSystem(), (call) => (call === "copyAccess" ? ((asked += 1), -Errno.EPERM) : undefined));
    using fixture = new EngineFixture(folder.file("data.emdb"), system);
    fixture.engine.insert(fixture.engine.defaultSpace, "key", "value", 0);
    await fixture.opened.compaction.run({});
    expect(asked).toBe(1);
    expect(fixture.engine.count(fixture.engine.defaultSpace)).toBe(1);
  });
});
