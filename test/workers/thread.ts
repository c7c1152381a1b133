/** A Worker of a test: started from a file beside this one, spoken to by messages, awaited to its end. */

import { afterAll } from "bun:test";
import { join } from "node:path";
import { bundled } from "../support/bundle.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";

/** Starts of a program after which it pays to bundle it. */
const STARTS_MIN = 8;
const starts = new Map<string, number>();
const bundles = new Map<string, string>();
let folder: TemporaryFolder | undefined;
afterAll(() => {
  folder?.[Symbol.dispose]();
  folder = undefined;
  starts.clear();
  bundles.clear();
});

/** The program of a thread; Bun writes no bundle under Wine. */
function programOf(file: string): string {
  const source = join(import.meta.dir, file);
  const count = (starts.get(source) ?? 0) + 1;
  starts.set(source, count);
  if (count <= STARTS_MIN || emulator !== undefined) return source;
  const known = bundles.get(source);
  if (known !== undefined) return known;
  folder ??= temporaryFolder();
  const program = bundled(source, folder.path);
  bundles.set(source, program);
  return program;
}

export class Thread {
  readonly worker: Worker;
  readonly #ended: Promise<void>;
  readonly #said: unknown[] = [];
  #hear: ((message: unknown) => void) | undefined;
  /** What an uncaught error in it said. */
  failure: string | undefined;

  constructor(file: string, ...messages: readonly unknown[]) {
    this.worker = new Worker(programOf(file));
    this.#ended = new Promise((resolve) => this.worker.addEventListener("close", () => resolve()));
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.failure = event.message;
      this.#take({ failure: event.message });
    });
    this.worker.addEventListener("message", ({ data }: MessageEvent<unknown>) => this.#take(data));
    for (const message of messages) this.worker.postMessage(message);
  }

  #take(message: unknown): void {
    const hear = this.#hear;
    this.#hear = undefined;
    if (hear === undefined) this.#said.push(message);
    else hear(message);
  }

  /** The next thing that it says; an uncaught error says `{ failure }`. */
  async said<T = unknown>(): Promise<T> {
    if (this.#said.length > 0) return this.#said.shift() as T;
    return new Promise((resolve) => (this.#hear = resolve as (message: unknown) => void));
  }

  tell(message: unknown): void {
    this.worker.postMessage(message);
  }

  /** Ends it wherever it stands. */
  async kill(): Promise<void> {
    this.worker.terminate();
    await this.#ended;
  }

  /** Waits until it has ended by itself. */
  async ended(): Promise<void> {
    await this.#ended;
  }
}
