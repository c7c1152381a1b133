/** Has threads use a cipher and end in all ways, and prints how often its key stood in memory in between and afterwards. */

import { openSync, readSync } from "node:fs";
import { join } from "node:path";
import type { Cipher } from "../../src/crypto/cipher.ts";
import type { ThreadOrders } from "./memory-thread.ts";
import { countInMemory } from "./process-memory.ts";

const cipher = process.argv[2] as Cipher;
const urandom = openSync("/dev/urandom", "r");

async function count(end: ThreadOrders["end"]): Promise<{ readonly inUse: number; readonly afterwards: number }> {
  const masked = new Uint8Array(new ArrayBuffer(32));
  readSync(urandom, masked, 0, 32, 0);
  const worker = new Worker(join(import.meta.dir, "memory-thread.ts"));
  const hasEnded = new Promise((resolve) => worker.addEventListener("close", resolve));
  const hasUsed = new Promise((resolve) => worker.addEventListener("message", resolve));
  worker.postMessage({ cipher, masked, end } satisfies ThreadOrders);
  await hasUsed;
  const inUse = countInMemory(masked);
  if (end === "terminated") worker.terminate();
  if (end === "ends") worker.postMessage("end");
  await hasEnded;
  return { inUse, afterwards: countInMemory(masked) };
}

console.log(
  JSON.stringify({
    terminated: await count("terminated"),
    exits: await count("exits"),
    ends: await count("ends"),
  }),
);
