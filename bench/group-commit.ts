/** Durable writes by many at once: 64 async callers on one event loop, and 8 Workers of 2000 writes each. */

import { crew } from "./lib/crew.ts";
import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { LoopDelay } from "./lib/loop-delay.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { fileUnavailable, openStore, settingsOf } from "./lib/peers-of.ts";
import { median, quantile } from "./lib/statistics.ts";
import { perCall } from "./lib/time.ts";
import { ifSupported } from "./lib/unsupported.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";
import type { Store } from "./peers/peer.ts";

const grouped = { durability: "group", isOrdered: false } as const;

/** What many callers on one event loop got: durable writes, how long each took, how late the loop was. */
interface Crowd {
  readonly perSecond: number;
  readonly latenciesNs: readonly number[];
  readonly delaysMs: readonly number[];
}

async function callers(store: Store, data: Data, job: { count: number; each: number; from: number }): Promise<Crowd> {
  const { insertAsync } = store;
  if (insertAsync === undefined) throw new Error("no durable insert");
  const { count, each, from } = job;
  const delay = new LoopDelay();
  const latenciesNs: number[] = [];
  delay.start();
  const start = Bun.nanoseconds();
  await Promise.all(
    Array.from({ length: count }, async (_, caller) => {
      for (let index = 0; index < each; index++) {
        const before = Bun.nanoseconds();
        await insertAsync(data.key(from + caller * each + index), data.value(index));
        latenciesNs.push(Bun.nanoseconds() - before);
      }
    }),
  );
  const seconds = (Bun.nanoseconds() - start) / 1e9;
  delay.stop();
  for (let caller = 0; caller < count; caller++)
    if ((await store.get(data.key(from + caller * each + each - 1))) === undefined)
      throw new Error("a write is missing");
  // A loop that never turned took no sample; its delay is then the whole run.
  const delaysMs = delay.samplesMs.length > 0 ? delay.samplesMs : [seconds * 1000];
  return { perSecond: (count * each) / seconds, latenciesNs, delaysMs };
}

/** How late the loop is while nothing happens: what the machine's other work costs. */
async function idleDelays(ms: number): Promise<readonly number[]> {
  const delay = new LoopDelay();
  delay.start();
  await new Promise((resolve) => setTimeout(resolve, ms));
  delay.stop();
  return delay.samplesMs;
}

function crowdRows(count: number, crowds: readonly Crowd[], ratios: readonly number[], idle: readonly number[]): Row[] {
  const latencies = crowds.flatMap(({ latenciesNs }) => latenciesNs);
  const delays = crowds.flatMap(({ delaysMs }) => delaysMs);
  const ms = (row: string, value: number): Row => ({ row, value, unit: "ms", better: "lower" });
  return [
    {
      row: `${count} callers: durable writes`,
      value: median(crowds.map(({ perSecond }) => perSecond)),
      unit: "1/s",
      better: "higher",
    },
    { row: `${count} callers over a sync per write`, value: median(ratios), unit: "ratio" },
    ms(`${count} callers: latency p50`, quantile(latencies, 0.5) / 1e6),
    ms(`${count} callers: latency p99`, quantile(latencies, 0.99) / 1e6),
    ms(`${count} callers: event-loop delay p50`, quantile(delays, 0.5)),
    ms(`${count} callers: event-loop delay p99`, quantile(delays, 0.99)),
    ms(`${count} callers: event-loop delay max`, quantile(delays, 1)),
    { row: "idle loop beside it: delay p99", value: quantile(idle, 0.99), unit: "ms" },
  ];
}

async function run(subject: string, options: Options): Promise<Outcome> {
  using folder = new Folder();
  const seed = numberOption(options, "seed");
  const data = new Data({ seed });
  const store = await openStore(subject, folder, "group", grouped);
  const { insertAsync, insertDurable } = store;
  if (insertAsync === undefined || insertDurable === undefined) throw new Error("no durable insert");
  await callers(store, data, { count: 8, each: 10, from: 50_000_000 });
  const [alone, rounds] = [numberOption(options, "alone"), numberOption(options, "pairs")];
  const [count, each] = [numberOption(options, "callers"), numberOption(options, "each")];
  const [syncs, awaits, ratios]: [number[], number[], number[]] = [[], [], []];
  const crowds: Crowd[] = [];
  const idle: number[] = [];
  // In turn: what else the disk and the machine do hits all of them.
  for (let round = 0; round < rounds; round++) {
    const key = (index: number): Uint8Array => data.key(round * alone + index);
    const syncNs = await perCall(alone, (index) => insertDurable(key(index), data.value(index)));
    const crowd = await callers(store, data, { count, each, from: 10_000_000 + round * count * each });
    awaits.push(await perCall(alone, async (index) => insertAsync(key(index), data.value(index + 1))));
    idle.push(...(await idleDelays(100)));
    syncs.push(syncNs);
    crowds.push(crowd);
    ratios.push((crowd.perSecond * syncNs) / 1e9);
  }
  const rows: Row[] = [
    { row: "1 caller, a sync per write", value: 1e9 / median(syncs), unit: "1/s", better: "higher" },
    { row: "1 caller, awaited", value: 1e9 / median(awaits), unit: "1/s", better: "higher" },
    ...crowdRows(count, crowds, ratios, idle),
  ];
  const { share } = store;
  if (share !== undefined) {
    const workers = numberOption(options, "workers");
    const calls = numberOption(options, "worker-writes");
    const job = {
      task: "commit",
      subject,
      path: folder.at("group"),
      settings: grouped,
      seed,
      records: 0,
      calls,
    } as const;
    const result = await ifSupported("Workers", async () => crew(workers, { ...job, share: share() }));
    const { callsPerSecond, samples } = result ?? { callsPerSecond: Number.NaN, samples: [] };
    const title = `${workers} Workers x ${calls}`;
    rows.push({ row: `${title}: durable writes`, value: callsPerSecond, unit: "1/s", better: "higher" });
    rows.push({ row: `${title}: latency p99`, value: quantile(samples, 0.99) / 1e6, unit: "ms", better: "lower" });
  }
  await store.close();
  return { rows, settings: settingsOf(subject, "group") };
}

const workload: Workload = {
  title: "Group commit",
  notes: [
    "A write counts when it is durable. lmdb: await put, await flushed; sqlite: synchronous = full, which blocks its thread, and callers that share nothing unless they share a transaction; level: put with sync: true. The 64 callers and the sync per write run in turn, and their ratio is the median of such pairs.",
    "Event-loop delay: by how much a timer of 1 ms comes late; where no timer ran at all, the length of the run.",
  ],
  defaults: {
    peers: "emdb,emdb-tuned,emdb-each-flush,lmdb,sqlite,level",
    callers: "64",
    each: "200",
    alone: "60",
    pairs: "5",
    workers: "8",
    "worker-writes": "2000",
  },
  unavailable: fileUnavailable,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
