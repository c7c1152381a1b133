/** What the record of a lock says while its holder still opens or rewrites the database, and after that has failed. */

import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import type { Environment } from "../../src/engine/assemble.ts";
import { readHolder } from "../../src/engine/files/lock-file.ts";
import { rewriteFile } from "../../src/engine/copy/rekey.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { Emdb } from "../../src/index.ts";
import type { LockHolder } from "../../src/api/types.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import { expectCode } from "./fixture.ts";
import { startChild } from "./processes.ts";

const DEAD = { pid: 2 ** 30, hostname: "elsewhere", acquiredAtMs: 1, packageVersion: "9.9.9-of-long-ago" };

/** The host's system, on which `look` is called right before the first map of a file; that fails with `answer`. */
function lookingAtMap(look: () => void, answer?: number): System {
  return faulty(hostSystem(), (call) => {
    if (call !== "map") return undefined;
    look();
    return answer;
  });
}

test("whoever recovers a database is named as its holder from the start, and not the dead one before", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.open(path).closeSync();
  writeFileSync(`${path}.lock`, `${JSON.stringify(DEAD)}\n`);
  let holder: LockHolder | undefined;
  const look = (): void => {
    holder = readHolder(hostSystem(), path);
    const { message } = expectCode("EMDB_LOCKED", () => void new EngineFixture(path, hostSystem()));
    expect(message).toContain("in this process");
  };
  new EngineFixture(path, lookingAtMap(look)).close();
  expect(holder).toMatchObject({ pid: process.pid, isHeld: true });
});

test("whoever writes a database anew under another secret is named as its holder meanwhile", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.open(path).closeSync();
  const record = `${JSON.stringify(DEAD)}\n`;
  writeFileSync(`${path}.lock`, record);
  let holder: LockHolder | undefined;
  const system = lookingAtMap(() => (holder ??= readHolder(hostSystem(), path)));
  const environment: Environment = { system, defer: (work) => void setImmediate(work), hasWorkers: false };
  const key = new Uint8Array(32).fill(7);
  await rewriteFile(environment, { path, current: undefined, next: { key }, cipher: undefined }, {});
  expect(holder).toMatchObject({ pid: process.pid, isHeld: true });
  expect(readFileSync(`${path}.lock`, "utf8")).toBe(record);
});

test("an open that fails leaves the record as it was", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.open(path).closeSync();
  for (const text of [`${JSON.stringify(DEAD)}\n`, "", "\0".repeat(300), '{"pid":17,"host']) {
    writeFileSync(`${path}.lock`, text);
    const failing = lookingAtMap(() => undefined, -Errno.ENOMEM);
    expectCode("EMDB_IO", () => void new EngineFixture(path, failing));
    expect(readFileSync(`${path}.lock`, "utf8")).toBe(text);
  }
});

test("a record is read whole while it replaces a longer one", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.open(path).closeSync();
  writeFileSync(`${path}.lock`, `${JSON.stringify({ ...DEAD, hostname: "n".repeat(300) })}\n`);
  const holders: (LockHolder | undefined)[] = [];
  const system = faulty(hostSystem(), (call) => {
    if (call === "truncate") holders.push(readHolder(hostSystem(), path));
    return undefined;
  });
  new EngineFixture(path, system).close();
  expect(holders[0]).toMatchObject({ pid: process.pid, isHeld: true });
});

// Windows does not tell which files a process has open.
test.skipIf(process.platform === "win32")(
  "a holder in another container, who has the number of this process and the name of its host, is not told as this process",
  async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const { child } = await startChild("open", path);
    const forged = { ...readHolder(hostSystem(), path), pid: process.pid };
    writeFileSync(`${path}.lock`, `${JSON.stringify(forged)}\n`);
    const { message } = expectCode("EMDB_LOCKED", () => Emdb.open(path));
    expect(message).not.toContain("this process");
    expect(message).toContain(`process ${process.pid}`);
    await child[Symbol.asyncDispose]();
    using db = Emdb.open(path);
    expect(expectCode("EMDB_LOCKED", () => void new EngineFixture(path, hostSystem())).message).toContain(
      "this process",
    );
    expect(db.isOpen).toBe(true);
  },
);
