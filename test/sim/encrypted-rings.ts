/**
 * The rings over encrypted logs: what the others look for, and that no nonce is used twice under one key.
 *
 * All crashes of one seed are branches of one history: what is sealed in one of them would decrypt what is sealed in
 * another, since an attacker keeps old copies of the file. So the recorder watches over all branches together, and
 * each process of the simulated machines draws chance that no other draws.
 */

import { engineAdapter } from "./engine-adapter.ts";
import { NonceRecorder } from "./nonce-recorder.ts";
import { mixSeed, Random } from "./random.ts";
import { crashRing, DEFAULT_RING, type RingReport } from "./runner.ts";
import { randomScript } from "./script.ts";
import type { System } from "../../src/ffi/system.ts";
import type { Cipher } from "../../src/api/types.ts";
import type { Case } from "./finding.ts";
import type { Ring } from "./rings.ts";
import type { StoreAdapter } from "./store.ts";

const KEY = new Uint8Array(32).map((_, index) => index * 11 + 3);
let processCount = 0;

/** Chance of its own for a process: the machines that come up after two crashes may draw the same. */
function withOwnChance(system: System): System {
  processCount += 1;
  const chance = new Random(mixSeed(processCount, 0x5eed));
  const random = (into: Uint8Array): void => chance.randomize(into);
  Object.defineProperty(system, "random", { value: random, configurable: true });
  return system;
}

function encryptedAdapter(name: string, cipher: Cipher): StoreAdapter {
  const adapter = engineAdapter(name, { encryption: { key: KEY }, cipher });
  return { ...adapter, open: (system, path) => adapter.open(withOwnChance(system), path) };
}

export const ENCRYPTED = encryptedAdapter("encrypted", "aes-256-gcm");
export const ENCRYPTED_CHACHA = encryptedAdapter("encrypted with ChaCha", "chacha20-poly1305");

function watched(name: string, adapter: StoreAdapter, isWindows: boolean): Ring {
  const run = (seed: number, report: RingReport): void => {
    const journal = seed % 2 === 0 ? "strict" : "ordered";
    const work: Case = {
      machine: { journal, isWindows },
      script: randomScript({ seed, length: 16, isWide: true }),
      seed,
    };
    using recorder = new NonceRecorder();
    crashRing(adapter, { run: work, options: { ...DEFAULT_RING, randomDraws: 2 }, report });
    const [repeat] = recorder.repeats;
    if (repeat === undefined && recorder.sealCount > 0) return;
    const detail = repeat === undefined ? "nothing was sealed" : `a nonce was used twice under one key: ${repeat}`;
    report.findings.push({ store: adapter.name, run: work, problem: { property: 0, detail } });
  };
  return { name, adapter, run };
}

/** Crashes at every call, every seal watched. */
export const encrypted = watched("crashes, encrypted", ENCRYPTED, false);
export const encryptedChaCha = watched("crashes, encrypted with ChaCha", ENCRYPTED_CHACHA, false);
export const encryptedWindows = watched("crashes on Windows, encrypted", ENCRYPTED, true);
