/** Reads of one database from 1 to 8 Workers of the process. */

import { bareStore } from "./lib/bare-get.ts";
import { crew, type CrewResult } from "./lib/crew.ts";
import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { libc } from "./lib/libc.ts";
import { load } from "./lib/load.ts";
import { numberOption, numbersOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { openStore, peerUnavailable, settingsOf, unsynced } from "./lib/peers-of.ts";
import { median } from "./lib/statistics.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

const BARE = "bare";

/** What is read, and how: a database, or for the subject `bare` the least that such a get can cost (`lib/bare-get.ts`). */
interface Read extends AsyncDisposable {
  readonly task: "read" | "bare";
  readonly share: unknown;
}

async function prepare(subject: string, options: Options, folder: Folder): Promise<Read> {
  const records = numberOption(options, "records");
  const data = new Data({ seed: numberOption(options, "seed") });
  if (subject === BARE) {
    const bare = bareStore(libc!, data, { records, path: folder.at("bare") });
    return { task: "bare", share: bare.places, [Symbol.asyncDispose]: async () => bare[Symbol.dispose]() };
  }
  const store = await openStore(subject, folder, "shared");
  await load(store, data, records);
  await store.flush?.();
  if (store.share === undefined) throw new Error("sharing between Workers is not there");
  return { task: "read", share: store.share(), [Symbol.asyncDispose]: async () => void (await store.close()) };
}

async function run(subject: string, options: Options): Promise<Outcome> {
  using folder = new Folder();
  const records = numberOption(options, "records");
  await using source = await prepare(subject, options, folder);
  const read = async (workers: number): Promise<CrewResult> =>
    crew(workers, {
      task: source.task,
      subject,
      path: folder.at("shared"),
      settings: unsynced,
      share: source.share,
      seed: numberOption(options, "seed"),
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
  return { rows, settings: subject === BARE ? "no database: see lib/bare-get.ts" : settingsOf(subject, "none") };
}

const workload: Workload = {
  title: "Reads from Workers",
  notes: [
    "Each Worker reads its own 24-byte keys out of the same records, after a warm-up; the clock runs from the common start to the last one's end.",
    "Each run of several Workers stands beside a run of one, and ratios are medians of such pairs. The speed-up says what the machine had cores for; the processor time says what the Workers cost each other: 1 is nothing, more is waiting for cache lines and memory.",
    "The subject bare shares nothing that is ever written: what its speed-up lacks, the machine lacks.",
  ],
  defaults: { peers: "emdb,bare,lmdb,sqlite,level", records: "1m", lookups: "1m", workers: "1,2,4,8", pairs: "5" },
  unavailable: async (subject) => {
    if (subject !== BARE) return peerUnavailable(subject);
    return libc === undefined ? "there is no C library to call" : undefined;
  },
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
