/** When a mark is written behind the tail, and when the lock is looked at: once for what runs in one piece, and always before the file. */

import { expect, test } from "bun:test";
import { AUDIT } from "../../src/engine/threads/control.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { CLOSING } from "../../src/engine/threads/control.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { LOG_BASE, LOG_TAIL } from "../../src/log/log-words.ts";
import { Subject } from "./flush-subject.ts";

/** What a subject writes behind its tail, and how often it looks at the lock. */
class Watched extends Subject {
  marks = 0;
  looks = 0;
  /** What a mark's write gives instead of being made. */
  markFault: number | undefined;
  isRobbed = false;

  constructor(hasWorkers = false) {
    super({ hasWorkers });
    const { numbers } = this.opened.engine.core.control.log;
    this.fault = (call, args) => {
      if (call === "status" && String(args[0]).endsWith(".lock")) {
        this.looks += 1;
        return this.isRobbed ? -Errno.ENOENT : undefined;
      }
      if (call !== "write") return undefined;
      const { position } = args[2] as { readonly position: number };
      if (position !== numbers[LOG_TAIL]! - numbers[LOG_BASE]!) return undefined;
      this.marks += 1;
      return this.markFault;
    };
  }

  insertAndFlush(key: string): void {
    this.insert(key);
    this.opened.sync!.flush();
  }
}

const turn = async (): Promise<void> => Promise.resolve();

test("a mark is written once the code that has flushed has had its turn, and one for all of it", async () => {
  using subject = new Watched();
  for (let index = 0; index < 5; index += 1) subject.insertAndFlush(`${index}`);
  expect(subject.marks).toBe(0);
  await turn();
  expect(subject.marks).toBe(1);
  await turn();
  expect(subject.marks).toBe(1);
  subject.opened.sync!.flush();
  await turn();
  expect(subject.marks).toBe(2);
});

test("none is written over what came after the flush", async () => {
  using subject = new Watched();
  subject.insertAndFlush("one");
  subject.insert("two");
  await turn();
  expect(subject.marks).toBe(0);
});

test("a flush that does not block has its mark behind those who waited for it", async () => {
  using subject = new Watched(true);
  subject.insert("one");
  let marksThen = -1;
  await Promise.all([
    subject.opened.commit!.flush().then(() => (marksThen = subject.marks)),
    subject.opened.commit!.flush(),
  ]);
  await turn();
  expect(marksThen).toBe(0);
  expect(subject.marks).toBe(1);
});

test("a flush that was answered for less does not take back the mark of one that covers more", async () => {
  using subject = new Watched();
  subject.insert("one");
  const flush = subject.opened.commit!.flush();
  subject.insert("two");
  subject.opened.sync!.flush();
  subject.opened.commit!.finish();
  await flush;
  await turn();
  expect(subject.marks).toBe(1);
});

test("a thread that leaves while others stay writes the mark that it owes", async () => {
  using subject = new Watched();
  subject.opened.engine.core.becomeShared();
  const other = attachTo(
    { system: subject.system, defer: (work) => void setImmediate(work), hasWorkers: false },
    subject.opened.base,
  );
  other.engine.insert(other.engine.defaultSpace, "other", "value", 0);
  other.leave();
  expect(subject.marks).toBe(1);
});

test("the last one out leaves a clean mark, and writes none over it", () => {
  const subject = new Watched();
  subject.insertAndFlush("one");
  subject.opened.leave();
  expect(subject.marks).toBe(1);
  subject[Symbol.dispose]();
});

test("none is written once the last one out is ending the log", async () => {
  using subject = new Watched();
  const { control, row } = subject.opened.engine.core;
  subject.insertAndFlush("one");
  Atomics.store(control.flags, CLOSING, row + 1);
  await turn();
  expect(subject.marks).toBe(0);
});

test("none is written behind a writer that died, whose words may be half another file's", async () => {
  using subject = new Watched();
  subject.insertAndFlush("one");
  const { flags } = subject.opened.engine.core.control;
  Atomics.store(flags, AUDIT, 1);
  await turn();
  expect(subject.marks).toBe(0);
  Atomics.store(flags, AUDIT, 0);
  subject.opened.sync!.flush();
  await turn();
  expect(subject.marks).toBe(1);
});

test("one that fails is nobody's error", async () => {
  using subject = new Watched();
  for (const fault of [-Errno.ENOSPC, -Errno.EIO]) {
    subject.markFault = fault;
    subject.insertAndFlush("one");
    await turn();
  }
  expect(subject.marks).toBe(2);
});

test("what keeps one from being written is nobody's error either, unless it is a fault of ours", () => {
  using subject = new Watched();
  const { sync, engine } = subject.opened;
  subject.insertAndFlush("one");
  const { mutex } = engine.core;
  const own = mutex.tryLock.bind(mutex);
  for (const error of [new EmdbError("EMDB_FULL", "no counter is left"), new Error("a fault")]) {
    mutex.tryLock = () => {
      throw error;
    };
    if (error instanceof EmdbError) sync!.afterRun();
    else expect(() => sync!.afterRun()).toThrow("a fault");
  }
  mutex.tryLock = own;
});

test("one that is due when the database is closed is not written", async () => {
  const subject = new Watched();
  subject.insertAndFlush("one");
  subject.opened.leave();
  const before = subject.marks;
  await turn();
  expect(subject.marks).toBe(before);
  subject[Symbol.dispose]();
});

test("what runs in one piece looks at the lock once before it writes to memory, and each time before it writes to the file", async () => {
  using subject = new Watched();
  // The first of all reserves space, and looks before that too.
  subject.insertAndFlush("first");
  await turn();
  subject.looks = 0;
  for (let index = 0; index < 5; index += 1) subject.insertAndFlush(`${index}`);
  expect(subject.looks).toBe(1 + 5);
  await turn();
  // The mark's.
  expect(subject.looks).toBe(7);
  subject.insert("next");
  expect(subject.looks).toBe(8);
});

test("a lock that is broken while code runs is seen before its next write to the file, and at its next chance by a write", async () => {
  using subject = new Watched();
  subject.insertAndFlush("one");
  subject.isRobbed = true;
  subject.insert("two");
  const locked = expect.objectContaining({ code: "EMDB_LOCKED" });
  expect(() => subject.opened.sync!.flush()).toThrow(locked);
  expect(() => subject.insert("three")).toThrow(locked);
  await turn();
  expect(() => subject.insert("four")).toThrow(locked);
  expect(subject.marks).toBe(0);
});

test("a value that goes to the file at once is refused when the lock was broken, though the code that runs has asked before", () => {
  using subject = new Watched();
  subject.insertAndFlush("one");
  subject.isRobbed = true;
  const { engine } = subject.opened;
  const insertLong = (): void => engine.insert(engine.defaultSpace, "long", new Uint8Array(100_000), 0);
  expect(insertLong).toThrow(expect.objectContaining({ code: "EMDB_LOCKED" }));
  // What would begin the value stands where a mark would.
  expect(subject.marks).toBe(0);
});
