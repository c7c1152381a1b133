/** Attaching, closing and dying in every order: the database goes on for who stays, and ends with the last one. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { Emdb, EmdbError } from "../../src/index.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { canCount, resourcesIn } from "./resources.ts";
import { Thread } from "./thread.ts";

setDefaultTimeout(240_000);
const ROUNDS = process.env["EMDB_SOAK"] === undefined ? 60 : 600;

async function guest(db: Emdb): Promise<Thread> {
  const thread = new Thread("guest-worker.ts", { do: "attach", share: db.share() });
  expect(await thread.said()).toBe("attached");
  return thread;
}

async function ask(thread: Thread, order: object): Promise<unknown> {
  thread.tell(order);
  return thread.said();
}

test("the owner closes first: the others go on, and the last one out ends the log", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  db.insert("by", "the owner");
  const [one, other] = [await guest(db), await guest(db)];
  db.closeSync();
  expect(() => db.getText("by")).toThrow(EmdbError);
  expect(await ask(one, { do: "insert", key: "after", value: "the owner's close" })).toBe("inserted");
  expect(await ask(one, { do: "close" })).toBe("closed");
  expect(() => Emdb.open(path)).toThrow(/another Worker/);
  expect(await ask(other, { do: "flush" })).toBe("flushed");
  expect(await ask(other, { do: "close" })).toBe("closed");
  const again = Emdb.open(path);
  expect(again.recovery.replayedRecords + again.len()).toBeGreaterThan(0);
  expect([again.getText("by"), again.getText("after"), again.recovery.tornBytes]).toEqual([
    "the owner",
    "the owner's close",
    0,
  ]);
  again.closeSync();
  await one.kill();
  await other.kill();
});

const endings = ["terminate", "exit", "throw"] as const;

async function end(thread: Thread, ending: (typeof endings)[number]): Promise<void> {
  if (ending === "terminate") return thread.kill();
  thread.tell({ do: ending });
  if (ending === "throw") await thread.said();
  await (ending === "throw" ? thread.kill() : thread.ended());
}

test.each(endings)("a thread that ends by %s without a close does not keep the database open", async (ending) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  const thread = await guest(db);
  expect(await ask(thread, { do: "insert", key: "left", value: "behind" })).toBe("inserted");
  await end(thread, ending);
  db.closeSync();
  using again = Emdb.open(path);
  expect(again.getText("left")).toBe("behind");
});

test.each(endings)(
  "after the owner's close, threads that end by %s leave nothing that keeps the owner from opening again",
  async (ending) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const db = Emdb.open(path);
    const threads = [await guest(db), await guest(db)];
    db.closeSync();
    for (const [index, thread] of threads.entries()) {
      expect(await ask(thread, { do: "insert", key: `by ${index}`, value: "a guest" })).toBe("inserted");
      expect(await ask(thread, { do: "walk" })).toBe("walking");
    }
    for (const thread of threads) await end(thread, ending);
    using again = Emdb.open(path);
    expect([again.len(), again.getText("by 0"), again.getText("by 1")]).toEqual([2, "a guest", "a guest"]);
  },
);

test("a close right after a terminate lets go of the lock as soon as the thread is dead, with no further open", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  for (let round = 0; round < 5; round += 1) {
    const db = Emdb.open(path);
    const thread = await guest(db);
    thread.worker.terminate();
    db.closeSync();
    const deadline = Bun.nanoseconds() + 20e9;
    while (Emdb.lockHolder(path)?.isHeld === true && Bun.nanoseconds() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 1));
    expect(Emdb.lockHolder(path)?.isHeld).toBe(false);
    await thread.ended();
  }
});

test("of threads that close at one moment, one is the last and ends the log", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  for (let round = 0; round < (emulator === undefined ? 15 : 2); round += 1) {
    const db = Emdb.open(path);
    const threads = await Promise.all([guest(db), guest(db), guest(db)]);
    for (const [index, thread] of threads.entries())
      await ask(thread, { do: "insert", key: `${index}`, value: `${round}` });
    for (const thread of threads) thread.tell({ do: "close" });
    db.closeSync();
    expect(await Promise.all(threads.map((thread) => thread.said()))).toEqual(["closed", "closed", "closed"]);
    const again = Emdb.open(path);
    expect([again.len(), again.recovery.tornBytes]).toEqual([3, 0]);
    again.closeSync();
    for (const thread of threads) await thread.kill();
  }
});

test("a token of a closed database is EMDB_CLOSED, and one while others close attaches", async () => {
  using folder = temporaryFolder();
  const db = Emdb.open(folder.file("data.emdb"));
  const share = db.share();
  const leaver = await guest(db);
  for (let round = 0; round < (emulator === undefined ? 20 : 6); round += 1) {
    leaver.tell({ do: "close" });
    const comer = new Thread("guest-worker.ts", { do: "attach", share });
    expect(await comer.said()).toBe("attached");
    await leaver.said();
    await comer.kill();
    expect(await ask(leaver, { do: "attach", share })).toBe("attached");
  }
  expect(await ask(leaver, { do: "close" })).toBe("closed");
  db.closeSync();
  expect(await ask(leaver, { do: "attach", share })).toBe("EMDB_CLOSED");
  expect(() => Emdb.attach(share)).toThrow(EmdbError);
  await leaver.kill();
});

async function comeAndGo(folder: TemporaryFolder, round: number): Promise<void> {
  const path = folder.file("data.emdb");
  const db = round % 4 === 3 ? Emdb.openInMemory() : Emdb.open(path);
  const thread = await guest(db);
  expect(await ask(thread, { do: "insert", key: `${round}`, value: "x".repeat(round) })).toBe("inserted");
  expect(await ask(thread, { do: "flush" })).toBe("flushed");
  db.insert("own", `${round}`);
  await db.flush();
  if (round % 3 === 0) await ask(thread, { do: "close" });
  if (round % 2 === 0) db.closeSync();
  await end(thread, endings[round % 3]!);
  if (round % 2 === 1) db.closeSync();
}

test.skipIf(!canCount)(
  "hundreds of threads that come, flush and go leave no thread, file or mapping behind",
  async () => {
    using folder = temporaryFolder();
    for (let round = 0; round < 12; round += 1) await comeAndGo(folder, round);
    Emdb.open(folder.file("data.emdb")).closeSync();
    const before = resourcesIn(folder.path);
    expect([before.files, before.fileMappings]).toEqual([0, 0]);
    for (let round = 0; round < ROUNDS; round += 1) await comeAndGo(folder, round);
    Emdb.open(folder.file("data.emdb")).closeSync();
    const after = resourcesIn(folder.path);
    expect([after.files, after.fileMappings]).toEqual([0, 0]);
    expect(after.largeMappings).toBeLessThanOrEqual(before.largeMappings);
    expect(after.threads).toBeLessThanOrEqual(before.threads + 3);
  },
);
