import { expect, test } from "bun:test";
import { childCommand } from "../support/platform.ts";
import { bytesOf, outcome, readText, system, TemporaryFolder } from "./temporary-folder.ts";

test("a second handle of the same process does not get the lock until the first lets go", () => {
  using folder = new TemporaryFolder();
  const first = folder.opened("a", "");
  const second = folder.open("a", "write");
  expect(system.lock(first)).toBe(0);
  expect(outcome(system.lock(second))).toBe("EAGAIN");
  expect(outcome(system.lock(second))).toBe("EAGAIN");
  expect(system.unlock(first)).toBe(0);
  expect(system.lock(second)).toBe(0);
  expect(outcome(system.lock(first))).toBe("EAGAIN");
});

test("closing the handle lets go of the lock", () => {
  using folder = new TemporaryFolder();
  const first = folder.opened("a", "");
  const second = folder.open("a", "write");
  expect(system.lock(first)).toBe(0);
  expect(folder.close(first)).toBe(0);
  expect(system.lock(second)).toBe(0);
});

test("closing another handle of the file leaves the lock", () => {
  using folder = new TemporaryFolder();
  const first = folder.opened("a", "");
  expect(system.lock(first)).toBe(0);
  expect(folder.close(folder.open("a", "write"))).toBe(0);
  expect(outcome(system.lock(folder.open("a", "write")))).toBe("EAGAIN");
});

test("a locked file is read and written by others, record and all", () => {
  using folder = new TemporaryFolder();
  const holder = folder.opened("a", "");
  expect(system.lock(holder)).toBe(0);
  expect(system.write(holder, bytesOf("pid 1"), { position: 0, bytes: 5 })).toBe(5);
  const other = folder.open("a", "write");
  expect(readText(other, 0, 10)).toBe("pid 1");
  expect(system.write(other, bytesOf("P"), { position: 0, bytes: 1 })).toBe(1);
  expect(system.truncate(holder, 0)).toBe(0);
  expect(system.truncate(holder, 8192)).toBe(0);
});

test("a lock is taken through the name of a file, not kept with the name", () => {
  using folder = new TemporaryFolder();
  const first = folder.opened("a", "");
  expect(system.lock(first)).toBe(0);
  expect(system.rename(folder.at("a"), folder.at("b"))).toBe(0);
  expect(system.lock(folder.opened("a", ""))).toBe(0);
  expect(outcome(system.lock(folder.open("b", "write")))).toBe("EAGAIN");
});

test("another process does not get the lock, and gets it once this one lets go", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "");
  const attempt = (): string => {
    const child = Bun.spawnSync([...childCommand(), `${import.meta.dir}/lock-child.ts`, folder.at("a")]);
    return child.stdout.toString().trim();
  };
  expect(system.lock(file)).toBe(0);
  expect(attempt()).toBe("EAGAIN");
  expect(system.unlock(file)).toBe(0);
  expect(attempt()).toBe("ok");
  // The child ended holding it.
  expect(system.lock(file)).toBe(0);
}, 60_000);
