/** Whatever is written, removed, read and held before, during and after a compaction is right at every moment, and after a reopen. */

import { expect, test } from "bun:test";
import { sampleOf } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import type { Config } from "../engine/open-engine.ts";
import { Life } from "./life.ts";

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
      const life = new Life(name.startsWith("memory") ? undefined : folder.file("data.emdb"), seed, config);
      for (let round = 0; round < 5; round++) {
        for (let change = life.random.below(900); change > 0; change--) life.one();
        expect(life.compact([0, 3, 40][round % 3]!)).toBeGreaterThan(0);
        life.check();
        if (round % 2 === 1) life.checkSweep();
        if (round >= 2) life.reopen({ hasImage: round === 2 });
        life.check();
      }
      life.finishHeld();
      life.reopen();
      life.check();
      life.end();
    }
  }, 300_000);
}
