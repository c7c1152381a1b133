/** Durable writes by many at once: 64 async callers on one event loop, and 8 Workers of 200 writes each. */

import { crew } from "./lib/crew.ts";
import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { LoopDelay } from "./lib/loop-delay.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { openStore, peerUnavailable, settingsOf } from "./lib/peers-of.ts";
import { quantile } from "./lib/statistics.ts";
import { perCall } from "./lib/time.ts";
import { ifSupported } from "./lib/unsupported.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";
import type { Store } from "./peers/peer.ts";

const grouped = { durability: "group", isOrdered: false } as const;

async function callers(store: Store, data: Data, count: number, each: number): Promise<Row[]> {
  const { insertAsync } = store;
  if (insertAsync === undefined) throw new Error("no durable insert");
  const delay = new LoopDelay();
  const latencies: number[] = [];
  delay.start();
  const start = Bun.nanoseconds();
  await Promise.all(
    Array.from({ length: count }, async (_, caller) => {
      for (let index = 0; index < each; index++) {
        const before = Bun.nanoseconds();
        await insertAsync(data.key(10_000_000 + caller * each + index), data.value(index));
        latencies.push(Bun.nanoseconds() - before);
      }
    }),
  );
  const seconds = (Bun.nanoseconds() - start) / 1e9;
  delay.stop();
  // A loop that never turned took no sample; its delay is then the whole run.
  const delays = delay.samplesMs.length > 0 ? delay.samplesMs : [seconds * 1000];
  const late = (part: number): number => quantile(delays, part);
  return [
    { row: `${count} callers: durable writes`, value: (count * each) / seconds, unit: "1/s", better: "higher" },
    { row: `${count} callers: latency p50`, value: quantile(latencies, 0.5) / 1e6, unit: "ms", better: "lower" },
    { row: `${count} callers: latency p99`, value: quantile(latencies, 0.99) / 1e6, unit: "ms", better: "lower" },
    { row: `${count} callers: event-loop delay p50`, value: late(0.5), unit: "ms", better: "lower" },
    { row: `${count} callers: event-loop delay p99`, value: late(0.99), unit: "ms", better: "lower" },
    { row: `${count} callers: event-loop delay max`, value: late(1), unit: "ms", better: "lower" },
  ];
}

async function run(subject: string, options: Options): Promise<Outcome> {
  using folder = new Folder();
  const seed = numberOption(options, "seed");
  const data = new Data({ seed });
  const store = await openStore(subject, folder, "group", grouped);
  const { insertAsync, insertDurable } = store;
  if (insertAsync === undefined || insertDurable === undefined) throw new Error("no durable insert");
  await callers(store, data, 8, 10);
  const alone = numberOption(options, "alone");
  const syncNs = await perCall(alone, (index) => insertDurable(data.key(index), data.value(index)));
  const awaitNs = await perCall(alone, (index) => insertAsync(data.key(1_000_000 + index), data.value(index)));
  const rows: Row[] = [
    { row: "1 caller, a sync per write", value: 1e9 / syncNs, unit: "1/s", better: "higher" },
    { row: "1 caller, awaited", value: 1e9 / awaitNs, unit: "1/s", better: "higher" },
  ];
  const many = await callers(store, data, numberOption(options, "callers"), numberOption(options, "each"));
  rows.push(...many);
  rows.push({
    row: "callers together over a sync per write",
    value: ((many[0]?.value ?? Number.NaN) * syncNs) / 1e9,
    unit: "ratio",
  });
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
    "A write counts when it is durable. lmdb: await put, await flushed; sqlite: synchronous = full, which blocks its thread; level: put with sync: true.",
    "Event-loop delay: by how much a timer of 1 ms comes late; where no timer ran at all, the length of the run.",
  ],
  defaults: {
    peers: "emdb,emdb-each-flush,lmdb,sqlite,level",
    callers: "64",
    each: "100",
    alone: "300",
    workers: "8",
    "worker-writes": "200",
  },
  unavailable: peerUnavailable,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
