/** Encrypted databases over true threads: the data key reaches them, sessions do, and a nonce is nobody else's. */

import { expect, setDefaultTimeout, test } from "bun:test";
import type { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Thread } from "../workers/thread.ts";
import { KEY, openWith } from "./rekey-fixture.ts";

setDefaultTimeout(120_000);
const SECRET = { key: KEY };

async function ask(thread: Thread, order: object): Promise<unknown> {
  thread.tell(order);
  return thread.said();
}

async function guest(db: Emdb): Promise<Thread> {
  const thread = new Thread("guest-worker.ts", { do: "attach", share: db.share() });
  expect(await thread.said()).toBe("attached");
  return thread;
}

test("threads write in turn, in one session and across compactions, and all of it is there on reopen", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = openWith(path, SECRET);
  const threads = [await guest(db), await guest(db)];
  for (let round = 0; round < 20; round++) {
    for (const [index, thread] of threads.entries()) {
      expect(await ask(thread, { do: "insert", key: `thread ${index} ${round}`, value: "v" })).toBe("inserted");
    }
    db.insert(`owner ${round}`, "v");
    if (round % 7 === 3) await db.compact();
    expect(db.len()).toBe((round + 1) * 3);
    expect(db.getText(`thread 1 ${round}`)).toBe("v");
  }
  expect((await db.verify()).problems).toEqual([]);
  db.closeSync();
  for (const thread of threads) {
    expect(await ask(thread, { do: "close" })).toBe("closed");
    await thread.kill();
  }
  using again = openWith(path, SECRET);
  expect(again.len()).toBe(60);
  expect([...again].length).toBe(60);
});

test("a thread that dies in the middle leaves an encrypted database that goes on, and opens", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = openWith(path, SECRET);
  for (let round = 0; round < 8; round++) {
    const thread = await guest(db);
    expect(await ask(thread, { do: "insert", key: `round ${round}`, value: "v" })).toBe("inserted");
    await thread.kill();
    db.insert(`owner ${round}`, "v");
  }
  expect(db.len()).toBe(16);
  db.closeSync();
  using again = openWith(path, SECRET);
  expect(again.len()).toBe(16);
});

test("the last thread out ends an encrypted log that its opener has left", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = openWith(path, SECRET);
  const thread = await guest(db);
  db.closeSync();
  expect(await ask(thread, { do: "insert", key: "late", value: "v" })).toBe("inserted");
  expect(await ask(thread, { do: "close" })).toBe("closed");
  await thread.kill();
  using again = openWith(path, SECRET);
  expect([again.getText("late"), again.recovery.tornBytes]).toEqual(["v", 0]);
});
