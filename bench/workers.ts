/** Reads of one database from 1 to 8 Workers of the process. */

import { crew } from "./lib/crew.ts";
import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { load } from "./lib/load.ts";
import { numberOption, numbersOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { openStore, peerUnavailable, settingsOf, unsynced } from "./lib/peers-of.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

async function run(subject: string, options: Options): Promise<Outcome> {
  using folder = new Folder();
  const records = numberOption(options, "records");
  const seed = numberOption(options, "seed");
  const store = await openStore(subject, folder, "shared");
  await load(store, new Data({ seed }), records);
  await store.flush();
  if (store.share === undefined) throw new Error("sharing between Workers is not there");
  const rows: Row[] = [];
  let single = Number.NaN;
  for (const workers of numbersOption(options, "workers")) {
    const { callsPerSecond } = await crew(workers, {
      task: "read",
      subject,
      path: folder.at("shared"),
      settings: unsynced,
      share: store.share(),
      seed,
      records,
      calls: Math.min(records, numberOption(options, "lookups")),
    });
    if (workers === 1) single = callsPerSecond;
    rows.push({ row: `get, ${workers} Workers`, value: callsPerSecond / 1e3, unit: "1000/s", better: "higher" });
    rows.push({ row: `speed-up over 1 Worker, ${workers} Workers`, value: callsPerSecond / single, unit: "ratio" });
  }
  await store.close();
  return { rows, settings: settingsOf(subject, "none") };
}

const workload: Workload = {
  title: "Reads from Workers",
  notes: [
    "Each Worker reads its own 24-byte keys out of the same records, after a warm-up; the clock runs from the common start to the last one's end.",
  ],
  defaults: { peers: "emdb,lmdb,sqlite,level", records: "1m", lookups: "300k", workers: "1,2,4,8" },
  unavailable: peerUnavailable,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
