/** Reads of one database from 1 to 8 Workers of the process. */

import { crew, type CrewResult } from "./lib/crew.ts";
import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { load } from "./lib/load.ts";
import { numberOption, numbersOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { openStore, peerUnavailable, settingsOf, unsynced } from "./lib/peers-of.ts";
import { median } from "./lib/statistics.ts";
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
  const share = store.share();
  const read = async (workers: number): Promise<CrewResult> =>
    crew(workers, {
      task: "read",
      subject,
      path: folder.at("shared"),
      settings: unsynced,
      share,
      seed,
      records,
      calls: Math.min(records, numberOption(options, "lookups")),
    });
  const rows: Row[] = [];
  const counts = numbersOption(options, "workers");
  const rounds = numberOption(options, "pairs");
  const single: CrewResult[] = [];
  for (const workers of counts) {
    const many: CrewResult[] = [];
    // One Worker and many in turn: what else the machine does hits both.
    for (let round = 0; round < rounds; round++) {
      single.push(await read(1));
      many.push(await read(workers));
    }
    const alone = single.slice(-rounds);
    const over = (of: (result: CrewResult) => number): number =>
      median(many.map((result, round) => of(result) / of(alone[round]!)));
    const speed = median(many.map(({ callsPerSecond }) => callsPerSecond));
    rows.push({ row: `get, ${workers} Workers`, value: speed / 1e3, unit: "1000/s", better: "higher" });
    rows.push({
      row: `speed-up over 1 Worker, ${workers} Workers`,
      value: over((one) => one.callsPerSecond),
      unit: "ratio",
    });
    rows.push({
      row: `processor time of a get over 1 Worker's, ${workers} Workers`,
      value: over((one) => one.cpuNsPerCall),
      unit: "ratio",
    });
  }
  await store.close();
  return { rows, settings: settingsOf(subject, "none") };
}

const workload: Workload = {
  title: "Reads from Workers",
  notes: [
    "Each Worker reads its own 24-byte keys out of the same records, after a warm-up; the clock runs from the common start to the last one's end.",
    "Each run of several Workers stands beside a run of one, and ratios are medians of such pairs. The speed-up says what the machine had cores for; the processor time says what the Workers cost each other: 1 is nothing, more is waiting for cache lines and memory.",
  ],
  defaults: { peers: "emdb,lmdb,sqlite,level", records: "1m", lookups: "1m", workers: "1,2,4,8", pairs: "5" },
  unavailable: peerUnavailable,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
