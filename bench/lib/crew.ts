/** Several Workers over one database, started together. */

import type { OpenSettings } from "../peers/peer.ts";

export interface Job {
  readonly task: "read" | "bare" | "commit";
  readonly subject: string;
  readonly path: string;
  readonly settings: OpenSettings;
  /** What `Store.share` gave; for `bare`, where everything is. */
  readonly share: unknown;
  readonly seed: number;
  /** Records in the store. */
  readonly records: number;
  /** Calls of each Worker. */
  readonly calls: number;
  /** Which Worker this is, from 0. */
  readonly number: number;
  /** Becomes 1 when all may start. */
  readonly gate: Int32Array;
}

export interface CrewResult {
  readonly callsPerSecond: number;
  /** Processor time of the whole process, all its threads, for one call. */
  readonly cpuNsPerCall: number;
  /** Nanoseconds of single calls, where the task takes them. */
  readonly samples: readonly number[];
}

type Report =
  | { readonly state: "ready" }
  | { readonly state: "closed" }
  | { readonly state: "done"; readonly samples: readonly number[] }
  | { readonly state: "failed"; readonly message: string };

/** One Worker with its reports as promises, all of them made before the first message can come. */
class Hand {
  readonly worker: Worker;
  readonly ready: Promise<unknown>;
  readonly done: Promise<readonly number[]>;
  readonly closed: Promise<unknown>;

  constructor(job: Job) {
    this.worker = new Worker(new URL("./worker.ts", import.meta.url).href);
    const ready = Promise.withResolvers<unknown>();
    const done = Promise.withResolvers<readonly number[]>();
    const closed = Promise.withResolvers<unknown>();
    const fail = (message: string): void => {
      for (const promise of [ready, done, closed]) promise.reject(new Error(message));
    };
    this.worker.onmessage = (event: MessageEvent<Report>) => {
      const report = event.data;
      if (report.state === "failed") fail(report.message);
      else if (report.state === "ready") ready.resolve(undefined);
      else if (report.state === "closed") closed.resolve(undefined);
      else done.resolve(report.samples);
    };
    this.worker.onerror = (event) => fail(event.message);
    this.ready = ready.promise;
    this.done = done.promise;
    this.closed = closed.promise;
    for (const promise of [this.ready, this.done, this.closed]) promise.catch(() => {});
    this.worker.postMessage(job);
  }
}

/** Runs `workers` Workers at once; the clock runs from the common start to the last one's end. */
export async function crew(workers: number, job: Omit<Job, "number" | "gate">): Promise<CrewResult> {
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const hands = Array.from({ length: workers }, (_, number) => new Hand({ ...job, number, gate }));
  try {
    await Promise.all(hands.map((hand) => hand.ready));
    const start = Bun.nanoseconds();
    const cpu = process.cpuUsage();
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
    const samples = await Promise.all(hands.map((hand) => hand.done));
    const seconds = (Bun.nanoseconds() - start) / 1e9;
    const used = process.cpuUsage(cpu);
    await Promise.all(hands.map((hand) => hand.closed));
    const calls = workers * job.calls;
    const cpuNsPerCall = ((used.user + used.system) * 1000) / calls;
    return { callsPerSecond: calls / seconds, cpuNsPerCall, samples: samples.flat() };
  } finally {
    for (const { worker } of hands) worker.terminate();
  }
}
