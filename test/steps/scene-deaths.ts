/** Deaths at the stores of a scene, in a thread whose modules are changed as they are loaded (`ordered-life.ts`). */

import { expect } from "bun:test";
import { fastFolder } from "../engine/fixture.ts";
import { emulator } from "../support/platform.ts";
import type { Deaths, Findings, Job } from "./ordered-life.ts";

export const TIMEOUT_MS = 1_200_000;
/** Before every store, and not before some of them. */
export const diesAnywhere = process.env["EMDB_SOAK"] !== undefined;

/** How many deaths of a kind; an emulated processor takes ten times as long. */
export function atMost(count: number): number {
  if (diesAnywhere) return Infinity;
  return emulator === undefined ? count : Math.ceil(count / 16);
}

/** The thread in which a file's scenes are lived, one after the other: what it has loaded and compiled is good for all of them. */
export class DeathsThread {
  readonly #make: () => Worker;
  #worker: Worker | undefined;

  constructor(make: () => Worker) {
    this.#make = make;
  }

  async #findings(job: Omit<Job, "folder">): Promise<Findings> {
    using folder = fastFolder();
    const worker = (this.#worker ??= this.#make());
    const { promise, resolve, reject } = Promise.withResolvers<Findings>();
    worker.onmessage = ({ data }: MessageEvent<Findings>) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage({ ...job, folder: folder.path });
    try {
      return await promise;
    } catch (error) {
      // What a life has left half-done is no ground for the next one.
      this.end();
      throw error;
    }
  }

  /** Lets the writer of a scene die in each of the ways, and expects that nothing is found. */
  async expectDeaths(scene: string, ways: readonly Deaths[]): Promise<void> {
    for (const deaths of ways) {
      const found = await this.#findings({ ...deaths, scene });
      expect(found.faults).toEqual([]);
      expect(found.deaths).toBeGreaterThanOrEqual(Math.min(found.stores, deaths.deathsMax) / 2);
      if (deaths.secondsMax > 0) expect(found.seconds).toBeGreaterThanOrEqual(found.deaths);
    }
  }

  end(): void {
    this.#worker?.terminate();
    this.#worker = undefined;
  }
}
