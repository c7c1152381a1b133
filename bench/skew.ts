/** Single-call latencies: uniform, skewed (Zipf) and missing keys, with percentiles. */

import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { load } from "./lib/load.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { openStore, peerUnavailable, settingsOf } from "./lib/peers-of.ts";
import { quantile } from "./lib/statistics.ts";
import { eachCall } from "./lib/time.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

async function run(subject: string, options: Options): Promise<Outcome> {
  using folder = new Folder();
  const records = numberOption(options, "records");
  const lookups = Math.min(records, numberOption(options, "lookups"));
  const data = new Data({ seed: numberOption(options, "seed") });
  const store = await openStore(subject, folder, "skew");
  await load(store, data, records);
  await store.flush?.();
  const rows: Row[] = [];
  const orders = {
    "shuffled hits": data.shuffledKeys(records, lookups),
    "zipf hits": data.zipfKeys(records, lookups),
    misses: data.missingKeys(records, lookups),
  };
  for (const [order, keys] of Object.entries(orders)) {
    const isThere = order !== "misses";
    const get = (index: number): unknown => {
      const value = store.get(keys[index] ?? keys[0]!);
      if ((value !== undefined) !== isThere)
        throw new Error(isThere ? "a record is missing" : "a missing key was found");
      return value;
    };
    await eachCall(Math.min(20_000, lookups), get);
    const samples = [...(await eachCall(lookups, get))];
    for (const part of [0.5, 0.99, 0.999]) {
      rows.push({ row: `get, ${order}, p${part * 100}`, value: quantile(samples, part), unit: "ns", better: "lower" });
    }
  }
  await store.close();
  return { rows, settings: settingsOf(subject, "none") };
}

const workload: Workload = {
  title: "Latency of single reads",
  notes: ["Each call is timed by itself, which adds the clock's own 20 to 40 ns to every number."],
  defaults: { peers: "emdb,lmdb,sqlite,level,map", records: "1m", lookups: "300k" },
  unavailable: peerUnavailable,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
