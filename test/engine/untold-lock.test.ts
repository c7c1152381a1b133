/** A lock file of which the system does not tell: that is an error of the system, and no sign that somebody has the lock. */

import { expect, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { expectCode } from "../contract/fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";

/** The host's system, on which no `stat` of a lock file goes through while `answer` has an error. */
class Untold {
  answer: number | undefined;
  readonly system = faulty(hostSystem(), (call, [path]) =>
    call === "status" && String(path).endsWith(".lock") ? this.answer : undefined,
  );
}

/** Windows says EACCES of a file that has been removed and is still open. */
const NAMES = process.platform === "win32" ? (["EIO"] as const) : (["EACCES", "EIO"] as const);
const ERRORS = NAMES.map((name) => [name, -Errno[name]] as const);

test.each(ERRORS)("an open says %s, and lets go of the lock", (errno, answer) => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  new EngineFixture(path, hostSystem()).close();
  const told = new Untold();
  told.answer = answer;
  const error = expectCode("EMDB_IO", () => new EngineFixture(path, told.system));
  expect([error.errno, error.syscall, error.path]).toEqual([errno, "stat", `${path}.lock`]);
  told.answer = undefined;
  using again = new EngineFixture(path, told.system);
  expect(again.engine.isOpen).toBe(true);
});

test("an open whose own lock file cannot be asked says so", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const system = faulty(hostSystem(), (call) => (call === "statusOf" ? -Errno.EIO : undefined));
  const error = expectCode("EMDB_IO", () => new EngineFixture(path, system));
  expect([error.errno, error.syscall, error.path]).toEqual(["EIO", "fstat", `${path}.lock`]);
});

test("a lock file that is gone whenever it has been locked is one that others keep changing", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  new EngineFixture(path, hostSystem()).close();
  const told = new Untold();
  told.answer = -Errno.ENOENT;
  const error = expectCode("EMDB_LOCKED", () => new EngineFixture(path, told.system));
  expect(error.message).toContain("kept changing");
  told.answer = undefined;
  using again = new EngineFixture(path, told.system);
  expect(again.engine.isOpen).toBe(true);
});

const PLANS = ["group", "write-through"] as const;

test.each(PLANS.flatMap((plan) => ERRORS.map(([errno, answer]) => [plan, errno, answer] as const)))(
  "with %s a write and a flush say %s, and go on once the lock file can be asked",
  (plan, errno, answer) => {
    using folder = temporaryFolder();
    const told = new Untold();
    const flushPlan = plan === "group" ? ({ kind: plan, waitMsMax: 0, batchMax: 1 } as const) : { kind: plan };
    const path = folder.file("data.emdb");
    using fixture = new EngineFixture(path, told.system, { flushPlan });
    const { engine, sync } = fixture;
    const insert = (key: string): void => engine.insert(engine.defaultSpace, key, "value", 0);
    insert("before");
    told.answer = answer;
    if (plan === "group") expect(expectCode("EMDB_IO", () => sync.flush()).errno).toBe(errno);
    told.answer = undefined;
    sync.flush();
    // With nothing pending the write itself asks; the one before it may have done so for this turn.
    fixture.opened.engine.core.lockWatch.wasRobbed = true;
    told.answer = answer;
    const error = expectCode("EMDB_IO", () => insert("refused"));
    expect([error.errno, error.syscall, error.path]).toEqual([errno, "stat", `${path}.lock`]);
    told.answer = undefined;
    insert("after");
    sync.flush();
    expect(engine.count(engine.defaultSpace)).toBe(2);
  },
);

test("with write-through a write that cannot ask before it goes to the file is taken back, and the next one goes on", () => {
  using folder = temporaryFolder();
  let asked = 0;
  let refusedAt = Infinity;
  const system = faulty(hostSystem(), (call, [path]) =>
    call === "status" && String(path).endsWith(".lock") && ++asked >= refusedAt ? -Errno.EIO : undefined,
  );
  using fixture = new EngineFixture(folder.file("data.emdb"), system, { flushPlan: { kind: "write-through" } });
  const { engine } = fixture;
  const insert = (key: string): void => engine.insert(engine.defaultSpace, key, "value", 0);
  insert("before");
  // The turn that `begin` asks in has been asked for already.
  refusedAt = asked + 1;
  expectCode("EMDB_IO", () => insert("refused"));
  refusedAt = Infinity;
  insert("after");
  expect(engine.count(engine.defaultSpace)).toBe(2);
});

test.each(["ENOENT", "ENOTDIR"] as const)("one that is gone (%s) has been broken", (errno) => {
  using folder = temporaryFolder();
  const told = new Untold();
  using fixture = new EngineFixture(folder.file("data.emdb"), told.system);
  const { engine } = fixture;
  engine.insert(engine.defaultSpace, "key", "value", 0);
  told.answer = -Errno[errno];
  expectCode("EMDB_LOCKED", () => fixture.sync.flush());
  told.answer = undefined;
});
