/** A Worker of a test: started from a file beside this one, spoken to by messages, awaited to its end. */

import { afterAll } from "bun:test";
import { basename, join } from "node:path";
import { emulator } from "../support/platform.ts";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";

/** Programs made into one file each: a thread starts from one in two thirds of the time that it takes from two hundred. */
const bundles = new Map<string, string>();
let folder: TemporaryFolder | undefined;
afterAll(() => {
  folder?.[Symbol.dispose]();
  folder = undefined;
  bundles.clear();
});

/** The program of a thread; Bun writes no bundle under Wine. */
function programOf(file: string): string {
  const source = join(import.meta.dir, file);
  const known = emulator === undefined ? bundles.get(source) : source;
  if (known !== undefined) return known;
  folder ??= temporaryFolder();
  const program = folder.file(`${basename(file, ".ts")}.js`);
  // The instructions of a Worker's file are its effects, whatever package.json says of the modules of a library.
  const flags = ["--target=bun", "--ignore-dce-annotations", `--outfile=${program}`];
  const build = Bun.spawnSync([process.execPath, "build", ...flags, source], { stdio: ["ignore", "pipe", "pipe"] });
  if (build.exitCode !== 0) throw new Error(`${file} cannot be bundled: ${build.stderr.toString()}`);
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
