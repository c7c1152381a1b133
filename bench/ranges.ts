/** Reads in key order: short and long ranges from random keys, a full scan, and what keeping the order costs a writer. */

import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { load } from "./lib/load.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { openStore, peerUnavailable, settingsOf } from "./lib/peers-of.ts";
import { once, perCall } from "./lib/time.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

const ordered = { durability: "none", isOrdered: true } as const;

async function run(subject: string, options: Options): Promise<Outcome> {
  using folder = new Folder();
  const records = numberOption(options, "records");
  const data = new Data({ seed: numberOption(options, "seed") });
  const store = await openStore(subject, folder, "ranges", ordered);
  const { range } = store;
  const loadNs = await load(store, data, records, numberOption(options, "batch"));
  const rows: Row[] = [{ row: "bulk load, per record", value: loadNs / records, unit: "ns", better: "lower" }];
  if (store.indexBytes !== undefined)
    rows.push({ row: "index memory per record", value: store.indexBytes() / records, unit: "B" });
  if (range !== undefined) {
    const firsts = data.shuffledKeys(records, Math.min(records, numberOption(options, "ranges")));
    for (const limit of [10, 1000]) {
      const count = Math.max(1, Math.floor(limit === 10 ? firsts.length : firsts.length / 50));
      const visit = (index: number): unknown => range(firsts[index] ?? firsts[0]!, limit);
      // In the first pass code is compiled and pages are touched for the first time.
      for (const row of [`first ranges of ${limit}`, `range of ${limit} from a random key`])
        rows.push({ row, value: (await perCall(count, visit)) / 1000, unit: "us", better: "lower" });
    }
    let seen = 0;
    const scan = await once(async () => {
      seen = await range(new Uint8Array(1), records + 1);
    });
    if (seen < records * 0.99) throw new Error(`the full scan saw ${seen} of ${records} records`);
    rows.push({ row: "full ordered scan, per record", value: scan / seen, unit: "ns", better: "lower" });
  }
  const fresh = data.entries(records, records + Math.min(records, numberOption(options, "writes")));
  const insertNs = await perCall(fresh.length, (index) => store.insert(...(fresh[index] ?? fresh[0]!)));
  const removeNs = await perCall(fresh.length, (index) => store.remove((fresh[index] ?? fresh[0]!)[0]));
  rows.push(
    { row: "insert", value: insertNs, unit: "ns", better: "lower" },
    { row: "remove", value: removeNs, unit: "ns", better: "lower" },
  );
  await store.close();
  return { rows, settings: settingsOf(subject, "none", ordered) };
}

const workload: Workload = {
  title: "Keys in order",
  notes: [
    "A range yields key and value of each record; sqlite's collects its rows with .all, lmdb's is getRange with a limit.",
    "The first ranges after the load, and then the same keys once more.",
  ],
  defaults: { peers: "emdb,lmdb,sqlite,level", records: "1m", batch: "1m", ranges: "100k", writes: "50k" },
  unavailable: peerUnavailable,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
