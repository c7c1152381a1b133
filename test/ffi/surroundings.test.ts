import { expect, test } from "bun:test";
import { hostname } from "node:os";
import { hostSystem } from "../../src/ffi/host.ts";
import { openLibrary, requireBun } from "../../src/ffi/library.ts";
import { childCommand } from "../support/platform.ts";
import { until } from "../support/turns.ts";
import { system } from "./temporary-folder.ts";

interface Report {
  readonly thread: number;
  readonly process: number;
  readonly monotonic: number;
}

/** A Worker with a system of its own, and what it says first. */
async function startWorker(): Promise<{ worker: Worker; report: Report; closed: Promise<void> }> {
  const worker = new Worker(new URL("thread-worker.ts", import.meta.url).href);
  const closed = new Promise<void>((resolve) => worker.addEventListener("close", () => resolve()));
  const report = await new Promise<Report>((resolve, reject) => {
    worker.addEventListener("message", ({ data }) => resolve(data));
    worker.addEventListener("error", ({ message }) => reject(new Error(message)));
  });
  return { worker, report, closed };
}

test("the host's system is one object per thread", () => {
  expect(hostSystem()).toBe(system);
});

test("this thread is alive, and a number that names no thread is not", () => {
  expect(system.isThreadAlive(system.threadId())).toBe(true);
  expect(system.threadId()).toBe(system.threadId());
  expect(system.isThreadAlive(0x3fff_fffc)).toBe(false);
});

test("a Worker's thread has another number in the same process, lives, and is dead soon after it is terminated", async () => {
  const { worker, report, closed } = await startWorker();
  expect(report.thread).not.toBe(system.threadId());
  expect(report.process).toBe(system.processId());
  expect(system.isThreadAlive(report.thread)).toBe(true);
  worker.terminate();
  await closed;
  await until(() => !system.isThreadAlive(report.thread));
}, 60_000);

test("the monotonic clock is one clock for all threads and never goes back", async () => {
  const before = system.monotonic();
  const { worker, report, closed } = await startWorker();
  const after = system.monotonic();
  expect(report.monotonic).toBeGreaterThanOrEqual(before);
  expect(report.monotonic).toBeLessThanOrEqual(after);
  worker.terminate();
  await closed;
  let last = after;
  for (let count = 0; count < 10_000; count += 1) {
    const now = system.monotonic();
    if (now < last) throw new Error(`${now} after ${last}`);
    last = now;
  }
}, 60_000);

test("now is whole milliseconds of this century", () => {
  expect(Number.isInteger(system.now())).toBe(true);
  expect(system.now()).toBeGreaterThan(Date.UTC(2020));
});

test("random fills the whole view, whatever its length, and nothing beside it", () => {
  for (const length of [0, 1, 65_536, 65_537, 200_000]) {
    const around = new Uint8Array(length + 2);
    system.random(around.subarray(1, length + 1));
    expect([around[0], around[length + 1]]).toEqual([0, 0]);
    // Of 64 bytes at the end not one is set once in 2^512 runs.
    if (length > 64) expect(around.subarray(length - 63, length + 1).some((byte) => byte !== 0)).toBe(true);
  }
  const [first, second] = [new Uint8Array(16), new Uint8Array(16)];
  system.random(first);
  system.random(second);
  expect(first).not.toEqual(second);
});

test("process and host are what the system says", () => {
  expect(system.processId()).toBe(process.pid);
  expect(system.hostName()).toBe(hostname());
});

test("a Bun that is too old is told so", () => {
  for (const version of ["1.3.11", "1.0.0", "0.8.1"]) {
    const message = `emdb needs Bun 1.4 or later; this is Bun ${version}`;
    expect(() => requireBun(version)).toThrow(expect.objectContaining({ code: "EMDB_UNSUPPORTED", message }));
  }
  for (const version of ["1.4.0", "1.4.5", "1.10.0-canary.1", "2.0.0"]) expect(() => requireBun(version)).not.toThrow();
});

test.skipIf(process.platform === "win32")("a process without a JIT is told what may keep it away", () => {
  const program = `import(${JSON.stringify(`${import.meta.dir}/../../src/index.ts`)}).catch(({ code, message }) => console.log(code, message))`;
  const env = { ...process.env, BUN_JSC_useJIT: "0" };
  const said = Bun.spawnSync([...childCommand(), "-e", program], { env }).stdout.toString();
  for (const word of ["EMDB_UNSUPPORTED emdb needs Bun's JIT", "MemoryDenyWriteExecute", "ulimit -v"])
    expect(said).toContain(word);
});

test("a Bun that is too old is told so also where it opens no library", () => {
  const opening = (version: string) => () => openLibrary(["no-such-library"], {}, version);
  expect(opening("1.2.0")).toThrow("emdb needs Bun 1.4 or later; this is Bun 1.2.0");
  expect(opening("1.4.5")).toThrow("no system library offers");
});
