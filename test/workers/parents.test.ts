/**
 * What the runtime does with the Workers of a Worker that ends. A commit Worker speaks in the conversation of flushes under its
 * host's name, which is taken for dead when the host's thread is. So that thread must outlive it: of two syncs of
 * one open file at a time the system would tell one alone that bytes were lost, and the other would acknowledge them.
 */

import { afterAll, expect, test } from "bun:test";
import { closeSync, openSync, writeSync } from "node:fs";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import type { Ending, Family } from "./parent-worker.ts";
import { Thread } from "./thread.ts";
import { until } from "../support/turns.ts";

const folder = temporaryFolder();
afterAll(() => folder[Symbol.dispose]());

/** A Worker whose own Worker is in a system call until it is let go of. */
class Parent implements Disposable {
  readonly #file: number;
  readonly #threads = new Int32Array(new SharedArrayBuffer(8));
  readonly #thread: Thread;

  constructor(name: string) {
    const path = folder.file(name);
    Bun.spawnSync(["mkfifo", path]);
    this.#file = openSync(path, "r+");
    const family: Family = { threads: this.#threads, file: this.#file };
    this.#thread = new Thread("parent-worker.ts", family);
  }

  async begun(): Promise<void> {
    await until(() => Atomics.load(this.#threads, 1) !== 0);
  }

  end(how: Ending | "terminate"): void {
    if (how === "terminate") this.#thread.worker.terminate();
    else this.#thread.tell(how);
  }

  /** Lets the call of its Worker return. */
  release(): void {
    writeSync(this.#file, "x");
  }

  get isAlive(): boolean {
    return hostSystem().isThreadAlive(this.#threads[0]!);
  }

  get isChildAlive(): boolean {
    return hostSystem().isThreadAlive(this.#threads[1]!);
  }

  async ended(): Promise<void> {
    await until(() => !this.isAlive);
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}

test.skipIf(process.platform !== "linux").each(["terminate", "exit", "throw"] as const)(
  "the thread of a Worker that ends by %s outlives the Worker that it has started, also one that is in a system call",
  async (how) => {
    using parent = new Parent(`${how} slowly`);
    using other = new Parent(`${how} at once`);
    await parent.begun();
    await other.begun();
    other.release();
    parent.end(how);
    other.end(how);
    // As long as another takes that nothing keeps.
    await other.ended();
    expect(other.isChildAlive).toBe(false);
    // The parent is looked at first.
    expect(parent.isAlive || !parent.isChildAlive).toBe(true);
    parent.release();
    await parent.ended();
    expect(parent.isChildAlive).toBe(false);
  },
);
