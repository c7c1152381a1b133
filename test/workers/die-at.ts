/** A thread that compacts or backs up and dies there, over records that tell whether all of them are still found. */

import { expect } from "bun:test";
import type { Emdb } from "../../src/index.ts";
import { Thread } from "./thread.ts";

export const RECORDS = 1500;

export function fill(db: Emdb, round: number): void {
  db.insertMany(Array.from({ length: RECORDS }, (_, index) => [`key ${index}`, `${round} of ${index}`] as const));
}

export function expectWhole(db: Emdb, round: number): void {
  const keys = Array.from({ length: RECORDS }, (_, index) => `key ${index}`);
  const wrong = db
    .getMany(keys)
    .filter((value, index) => Buffer.from(value ?? []).toString() !== `${round} of ${index}`);
  expect(wrong.length).toBe(0);
  expect([...db.range()].length).toBe(db.len());
}

/** Lets a thread work up to a step and ends it there; returns how many steps it took if it was not ended, and how many of files. */
export async function dieAt(
  db: Emdb,
  order: {
    readonly target?: string;
    readonly step: number;
    readonly call?: string;
    readonly after?: string;
    readonly isOfFiles?: boolean;
  },
): Promise<[number, number]> {
  const report = new SharedArrayBuffer(16);
  const words = new Int32Array(report);
  const thread = new Thread("compacting-worker.ts", { share: db.share(), report, ...order });
  const outcome = Atomics.waitAsync(words, 0, 0, 100_000);
  const said = outcome.async ? await Promise.race([outcome.value, thread.said()]) : outcome.value;
  await thread.kill();
  expect([thread.failure, said]).toEqual([undefined, said === "timed-out" ? "ok" : said]);
  return [words[1]!, words[2]!];
}
