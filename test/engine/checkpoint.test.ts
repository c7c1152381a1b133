/** The hint image: used when it is sound and of this log, of no effect but time when it is not. */

import { copyFileSync, existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { expect, setDefaultTimeout, test } from "bun:test";
import { newHintPath } from "../../src/engine/files/siblings.ts";
import { Emdb } from "../../src/index.ts";
import { fileIdOf } from "../../src/log/header.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { HintWriter } from "../../src/engine/hint/hint-writer.ts";
import { crashTo, EVERYTHING, expectRefused, stateOf, tell } from "./fixture.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { EngineFixture, faulty, type Fault } from "./engine-fixture.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { turn } from "../support/turns.ts";

setDefaultTimeout(60_000);

/** Records of which a checkpoint takes many turns of the event loop, on a machine that is slow fewer. */
const MANY = emulator === undefined ? 300_000 : 40_000;
/** An image is bytes: an emulator takes it before every third of the steps. */
const STRIDE = emulator === undefined ? 1 : 3;

const hintOf = (path: string): string => `${path}.hint`;

/** Begins an image, and ends it later; in between a test may write. */
function beginImage(fixture: EngineFixture): { copy(pieces: number): boolean; end(): void } {
  const { engine, opened, sync } = fixture;
  const file = opened.engine.core.file!;
  const writer = engine.exclusively(() => new HintWriter(engine.core, engine.spaces, file));
  const copy = (pieces: number): boolean => {
    for (let piece = 0; piece < pieces; piece += 1) {
      const isMore = engine.exclusively(() => writer.copyPiece());
      writer.sealPiece();
      if (writer.isFull) writer.spill();
      if (!isMore) return false;
    }
    return true;
  };
  const end = (): void => {
    while (copy(1));
    sync.flush();
    writer.writeHeader();
    writer.publish();
  };
  return { copy, end };
}

/** What a promise was rejected with; "done" when it was not. */
function codeOfRejection(promise: Promise<void>): Promise<string> {
  return promise.then(
    () => "done",
    (error: unknown) => (error as { code: string }).code,
  );
}

test("a close leaves an image with which the next open reads no record of the log", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(path, EVERYTHING);
  using db = Emdb.open(path);
  expect(db.recovery).toMatchObject({ usedCheckpoint: true, replayedRecords: 0, tornBytes: 0, missingBytes: 0 });
  expect(stateOf(db)).toBe(story.steps.at(-1)!.state);
});

test("closing a database that has not changed leaves its image alone", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  await tell(path, EVERYTHING);
  const before = statSync(hintOf(path), { bigint: true });
  Emdb.open(path).closeSync();
  const after = statSync(hintOf(path), { bigint: true });
  expect([after.mtimeNs, after.ino]).toEqual([before.mtimeNs, before.ino]);
});

test("a database that never held anything gets no image", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.open(path).closeSync();
  expect(existsSync(hintOf(path))).toBe(false);
});

test("a tail of every kind of frame is replayed behind an image taken before any step", async () => {
  using folder = temporaryFolder();
  for (let before = 0; before < EVERYTHING.length; before += STRIDE) {
    const path = folder.file(`data-${before}.emdb`);
    const db = Emdb.open(path);
    for (const [index, step] of EVERYTHING.entries()) {
      if (index === before) {
        db.insert("first", "so that there is something");
        await db.checkpoint();
      }
      step(db);
    }
    db.flushSync();
    const expected = stateOf(db);
    for (const name of [path, hintOf(path)]) copyFileSync(name, name.replace("data-", "copy-"));
    db.closeSync();
    using copy = Emdb.open(folder.file(`copy-${before}.emdb`));
    expect(copy.recovery.usedCheckpoint).toBe(true);
    expect(stateOf(copy)).toBe(expected);
  }
});

test("checkpoints called at once all cover what was written before their call", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  const calls: Promise<void>[] = [];
  for (let call = 0; call < 5; call += 1) {
    db.insertMany(Array.from({ length: 3000 }, (_, index): [string, string] => [`${call} ${index}`, "value"]));
    calls.push(db.checkpoint());
  }
  await Promise.all(calls);
  for (const name of [path, hintOf(path)]) copyFileSync(name, name.replace("data", "copy"));
  using copy = Emdb.open(folder.file("copy.emdb"));
  expect(copy.recovery).toMatchObject({ usedCheckpoint: true, replayedRecords: 0 });
  expect(copy.len()).toBe(15_000);
  db.closeSync();
});

test.each(["run", "runSync"] as const)(
  "an image gets its name when the log is durable up to its end (%s)",
  async (way) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const durable: boolean[] = [];
    const system = faulty(hostSystem(), (call, [, to]) => {
      // Written is not enough: a loss of power would leave an image of what is not there.
      if (call === "rename" && to === hintOf(path)) durable.push(fixture.sync.durable >= fixture.engine.core.visible);
      return undefined;
    });
    using fixture = new EngineFixture(path, system);
    fixture.engine.insert(fixture.engine.defaultSpace, "key", "value", 0);
    await fixture.opened.checkpoint![way]();
    expect(durable).toEqual([true]);
  },
);

test("a close in the middle of a checkpoint makes the image itself, and the checkpoint resolves", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.insertMany(Array.from({ length: MANY }, (_, index): [string, string] => [`key ${index}`, ""]));
  const checkpoint = db.checkpoint();
  const outcomes = [codeOfRejection(checkpoint)];
  await turn();
  db.insert("written since", "");
  outcomes.push(codeOfRejection(db.checkpoint()));
  db.closeSync();
  expect(await Promise.all(outcomes)).toEqual(["done", "done"]);
  expect(existsSync(newHintPath({ path, fileId: fileIdOf(readFileSync(path)) }))).toBe(false);
  using again = Emdb.open(path);
  expect(again.recovery).toMatchObject({ usedCheckpoint: true, replayedRecords: 0 });
  expect(again.len()).toBe(MANY + 1);
});

/** What comes of a checkpoint that is pending when its thread leaves, with calls of the system failing by then, or before another one. */
async function leaveBeside(fault: Fault, isLast = true): Promise<string> {
  using folder = temporaryFolder();
  const environment = { system: hostSystem(), defer: (work: () => void) => void setImmediate(work), hasWorkers: false };
  let isLeaving = false;
  const system = faulty(hostSystem(), (call, args) => (isLeaving ? fault(call, args) : undefined));
  using fixture = new EngineFixture(folder.file("data.emdb"), system);
  const { engine, opened } = fixture;
  engine.insert(engine.defaultSpace, Buffer.from("key"), Buffer.from("value"), 0);
  const outcome = codeOfRejection(opened.checkpoint!.run());
  const other = isLast ? undefined : attachTo(environment, opened.base);
  isLeaving = true;
  fixture[Symbol.dispose]();
  const code = await outcome;
  other?.leave();
  return code;
}

test("a checkpoint that is pending at a close which makes no image ends with EMDB_CLOSED", async () => {
  const failing =
    (name: keyof System): Fault =>
    (call) =>
      call === name ? -Errno.EIO : undefined;
  expect(await leaveBeside(() => undefined)).toBe("done");
  expect(await leaveBeside(failing("rename"))).toBe("EMDB_CLOSED");
  expect(await leaveBeside(failing("sync"))).toBe("EMDB_CLOSED");
  expect(await leaveBeside(() => undefined, false)).toBe("EMDB_CLOSED");
});

test("shards that are merged behind the copy's back are in the image once", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const live = new EngineFixture(path, hostSystem());
  const { engine } = live;
  const keys = Array.from({ length: 30_000 }, (_, index) => `key ${index}`);
  engine.insertMany(engine.defaultSpace, keys, keys, 0);
  const image = beginImage(live);
  image.copy(6);
  for (let from = 100; from < keys.length; from += 500)
    engine.removeMany(engine.defaultSpace, keys.slice(from, from + 500));
  image.end();
  engine.insert(engine.defaultSpace, "after", "it", 0);
  live.sync.flush();
  const expected = live.state();
  for (const name of [path, hintOf(path)]) copyFileSync(name, name.replace("data", "copy"));
  using copy = new EngineFixture(folder.file("copy.emdb"), hostSystem());
  expect(copy.opened.base.recovery.usedCheckpoint).toBe(true);
  expect(copy.state()).toBe(expected);
  copy.checkLiveBytes();
  live.close();
});

test("records whose deadlines an image does not name are swept all the same", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const first = new EngineFixture(path, hostSystem());
  first.engine.insert(first.engine.defaultSpace, "a", "1", first.engine.now() - 1);
  first.engine.insert(first.engine.defaultSpace, "b", "2", 0);
  first.close();
  using second = new EngineFixture(path, hostSystem());
  expect(second.opened.base.recovery.usedCheckpoint).toBe(true);
  expect(second.engine.sweepExpired(second.engine.defaultSpace)).toBe(1);
  expect(second.engine.count(second.engine.defaultSpace)).toBe(1);
});

test("an image beside another database is ignored", async () => {
  using folder = temporaryFolder();
  const [one, other] = [folder.file("one.emdb"), folder.file("other.emdb")];
  await tell(one, EVERYTHING);
  const story = await tell(other, EVERYTHING.slice(0, 4));
  copyFileSync(hintOf(one), hintOf(other));
  using db = Emdb.open(other);
  expect(db.recovery).toMatchObject({ usedCheckpoint: false, missingBytes: 0 });
  expect(stateOf(db)).toBe(story.steps.at(-1)!.state);
});

test("a log that is shorter than its image knows it to have been opens with missingBytes, once", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(path, EVERYTHING);
  const end = story.steps.at(-1)!.end;
  const kept = story.steps[3]!;
  truncateSync(path, kept.end);
  const readOnly = Emdb.open(path, { createIfMissing: false, readOnly: true });
  expect(readOnly.recovery).toMatchObject({ usedCheckpoint: false, missingBytes: end - kept.end });
  readOnly.closeSync();
  const db = Emdb.open(path);
  expect(db.recovery).toMatchObject({ usedCheckpoint: false, missingBytes: end - kept.end, tornBytes: 0 });
  expect(stateOf(db)).toBe(kept.state);
  expect(existsSync(hintOf(path))).toBe(false);
  // Another history, longer than the one that is missing: the old image must not be met again.
  db.insertMany(Array.from({ length: 500 }, (_, index): [string, string] => [`new ${index}`, "x"]));
  db.flushSync();
  const expected = stateOf(db);
  const image = new Uint8Array(readFileSync(path));
  db.closeSync();
  crashTo(path, image);
  using after = Emdb.open(path);
  expect(after.recovery.missingBytes).toBe(0);
  expect(stateOf(after)).toBe(expected);
});

test("the image of one history is not used for another one of the same file", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.insert("both", "know this");
  db.closeSync();
  const common = new Uint8Array(readFileSync(path));
  const grow = (name: string): string => {
    using grown = Emdb.open(path);
    for (let index = 0; index < 50; index += 1) grown.insert(`${name} ${index}`, "v");
    return stateOf(grown);
  };
  grow("one");
  const hint = readFileSync(hintOf(path));
  crashTo(path, common);
  const expected = grow("two");
  writeFileSync(hintOf(path), hint);
  using after = Emdb.open(path);
  expect(after.recovery).toMatchObject({ usedCheckpoint: false, missingBytes: 0 });
  expect(stateOf(after)).toBe(expected);
});

test("rot at the end of what the image knows durable is damage, not a torn tail", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const live = new EngineFixture(path, hostSystem());
  const { engine } = live;
  engine.insert(engine.defaultSpace, "a", "1", 0);
  const image = beginImage(live);
  const first = engine.core.visible;
  for (const key of ["b", "c"]) engine.insert(engine.defaultSpace, key, "2", 0);
  const last = engine.core.visible;
  engine.insert(engine.defaultSpace, "d", "4", 0);
  image.end();
  const log = live.image().slice(0, engine.core.visible);
  const hint = readFileSync(hintOf(path));
  live.close();
  for (const at of [first + 30, last + 26, log.length - 10]) {
    const rotten = log.slice();
    rotten[at]! ^= 4;
    writeFileSync(path, rotten);
    writeFileSync(hintOf(path), hint);
    expect(expectRefused(path, "EMDB_CORRUPTED").offset).toBeLessThanOrEqual(at);
  }
});

test("a read-only open uses the image and changes nothing on the disk", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(path, EVERYTHING);
  const draft = newHintPath({ path, fileId: fileIdOf(readFileSync(path)) });
  writeFileSync(draft, "left over");
  const before = readFileSync(hintOf(path));
  const db = Emdb.open(path, { createIfMissing: false, readOnly: true });
  expect(db.recovery.usedCheckpoint).toBe(true);
  expect(stateOf(db)).toBe(story.steps.at(-1)!.state);
  const refused = await db.checkpoint().catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "EMDB_READ_ONLY" });
  db.closeSync();
  expect(readFileSync(hintOf(path))).toEqual(before);
  expect(existsSync(draft)).toBe(true);
  // An open that writes clears it away.
  Emdb.open(path).closeSync();
  expect(existsSync(draft)).toBe(false);
});

test("a checkpoint in memory is nothing", async () => {
  using db = Emdb.openInMemory();
  db.insert("a", "1");
  await db.checkpoint();
  expect(db.getText("a")).toBe("1");
});

test("without its image a database opens by reading the log", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const story = await tell(path, EVERYTHING);
  rmSync(hintOf(path));
  const db = Emdb.open(path);
  expect(db.recovery.usedCheckpoint).toBe(false);
  expect(stateOf(db)).toBe(story.steps.at(-1)!.state);
  db.closeSync();
  expect(existsSync(hintOf(path))).toBe(true);
});

test.each(["verify", "compact", "backupTo", "checkpoint"] as const)(
  "a close makes the image, whatever it meets of a %s that nobody waits for",
  async (what) => {
    using folder = temporaryFolder();
    for (const turns of [0, 1, 2, 3, 5, 20]) {
      const path = folder.file(`${turns}.emdb`);
      const db = Emdb.open(path);
      for (let index = 0; index < 3000; index += 1) db.insert(`key ${index}`, "x".repeat(100));
      const outcome = (what === "backupTo" ? db.backupTo(folder.file(`copy ${turns}`)) : db[what]()).then(
        () => "done",
        (error: { code: string }) => error.code,
      );
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
      await db.close();
      expect(what === "checkpoint" ? ["done"] : ["done", "EMDB_CLOSED"]).toContain(await outcome);
      using again = Emdb.open(path);
      expect([again.recovery.usedCheckpoint, again.recovery.replayedRecords, again.len()]).toEqual([true, 0, 3000]);
    }
  },
);
