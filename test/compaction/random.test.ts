/** Whatever is written, removed, read and held before, during and after a compaction is right at every moment, and after a reopen. */

import { test } from "bun:test";
import { sampleOf } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import type { Config } from "../engine/open-engine.ts";
import { liveThrough } from "./life.ts";

const key = new Uint8Array(32).fill(9);
/** An emulator takes those that differ in what they ask of the platform. */
const ways = sampleOf<readonly [string, Partial<Config>]>(
  [
    ["a file", {}],
    ["a write-through file", { flushPlan: { kind: "write-through" } }],
    ["memory with ranges", { rangeScans: true }],
    ["a chacha20-poly1305 file with ranges", { encryption: { key }, cipher: "chacha20-poly1305", rangeScans: true }],
    ["memory", {}],
    ["a file with ranges and checked reads", { rangeScans: true, verifyReads: true }],
    ["an aes-256-gcm file", { encryption: { key }, cipher: "aes-256-gcm" }],
  ],
  4,
);
const SEEDS = process.env["EMDB_SOAK"] !== undefined ? 200 : 1;
const FIRST = Number(process.env["EMDB_TEST_SEED"] ?? 1);

for (const [name, config] of ways) {
  test(`a life of compactions in ${name} loses, revives and changes nothing`, () => {
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
      using folder = temporaryFolder();
      const path = name.startsWith("memory") ? undefined : folder.file("data.emdb");
      liveThrough(path, { seed, config, rounds: 5 });
    }
  }, 300_000);
}
