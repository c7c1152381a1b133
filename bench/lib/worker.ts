/** The Worker's side of `crew.ts`: opens the shared database, waits for the start, does its share, reports. */

import { peerNamed } from "../peers/registry.ts";
import type { Store } from "../peers/peer.ts";
import { bareGet } from "./bare-get.ts";
import type { BarePlaces } from "./bare-get.ts";
import type { Job } from "./crew.ts";
import { Data, shuffledNumbers } from "./data.ts";
import { libc } from "./libc.ts";
import { eachCall, perCall } from "./time.ts";

declare const self: Worker;

/** Resolves when the start is given, without keeping the event loop from turning before that. */
function started(gate: Int32Array): void {
  Atomics.wait(gate, 0, 0);
}

async function read(find: Store["get"], job: Job): Promise<number[]> {
  // Each Worker asks in an order of its own; the records are the same.
  const data = new Data({ seed: job.seed, valueBytes: 1 });
  const keys = shuffledNumbers(job.records, job.calls, job.number + 1).map((index) => data.key(index));
  const get = (index: number): unknown => {
    const value = find(keys[index] ?? keys[0]!);
    if (value === undefined) throw new Error("a record is missing in a Worker");
    return value;
  };
  await perCall(Math.min(20_000, job.calls), get);
  self.postMessage({ state: "ready" });
  started(job.gate);
  await perCall(job.calls, get);
  return [];
}

async function commit(store: Store, job: Job): Promise<number[]> {
  const data = new Data({ seed: job.seed });
  const first = 100_000_000 + job.number * 1_000_000;
  const { insertAsync } = store;
  if (insertAsync === undefined) throw new Error("no durable insert");
  await insertAsync(data.key(first), data.value(0));
  self.postMessage({ state: "ready" });
  started(job.gate);
  return [...(await eachCall(job.calls, (index) => insertAsync(data.key(first + 1 + index), data.value(index))))];
}

self.onmessage = async (event: MessageEvent<Job>) => {
  const job = event.data;
  try {
    if (job.task === "bare") {
      if (libc === undefined) throw new Error("there is no C library to call");
      self.postMessage({ state: "done", samples: await read(bareGet(libc, job.share as BarePlaces), job) });
      self.postMessage({ state: "closed" });
      return;
    }
    const { openShared } = peerNamed(job.subject);
    if (openShared === undefined) throw new Error("cannot be opened in another Worker");
    const store = await openShared(job.path, job.settings, job.share);
    const samples = job.task === "read" ? await read((key) => store.get(key), job) : await commit(store, job);
    self.postMessage({ state: "done", samples });
    await store.close();
    self.postMessage({ state: "closed" });
  } catch (error) {
    self.postMessage({ state: "failed", message: String(error) });
  }
};
