/** The workload of redb's published benchmark: 24-byte random keys, 150-byte random values, one row per phase. */

import { crew } from "./lib/crew.ts";
import { Data } from "./lib/data.ts";
import { bytesUnder, Folder } from "./lib/folder.ts";
import { checkLoaded } from "./lib/load.ts";
import { numberOption, numbersOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { fileUnavailable, openStore, settingsOf, unsynced } from "./lib/peers-of.ts";
import { once, perCall } from "./lib/time.ts";
import { ifSupported } from "./lib/unsupported.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";
import type { Store } from "./peers/peer.ts";

class Phases {
  readonly rows: Row[] = [];

  async time(row: string, work: () => unknown): Promise<void> {
    this.rows.push({ row, value: (await once(work)) / 1e6, unit: "ms", better: "lower" });
  }

  size(row: string, bytes: number): void {
    this.rows.push({ row, value: bytes / 2 ** 20, unit: "MiB", better: "lower" });
  }
}

interface Sizes {
  readonly bulk: number;
  readonly individual: number;
  readonly batches: number;
  readonly nosync: number;
  readonly reads: number;
  readonly ranges: number;
}

function sizesOf(options: Options): Sizes {
  const bulk = numberOption(options, "records");
  // redb's own counts at 5 M records are 1000, 100, 50 000, 1 M and 500 000; tiny runs are cut to fit.
  return {
    bulk,
    individual: Math.min(bulk, numberOption(options, "individual")),
    batches: Math.max(1, Math.min(Math.floor(bulk / 1000), numberOption(options, "batches"))),
    nosync: Math.min(bulk, numberOption(options, "nosync")),
    reads: Math.min(bulk, numberOption(options, "reads")),
    ranges: Math.min(bulk, numberOption(options, "ranges")),
  };
}

async function durableWrites(store: Store, data: Data, sizes: Sizes, phases: Phases): Promise<number> {
  const { bulk, individual, batches } = sizes;
  const { insertDurable } = store;
  let next = 0;
  const take = (count: number) => data.entries(next, (next += count));
  const all = take(bulk);
  await phases.time("bulk load", () => store.insertMany(all));
  if (insertDurable !== undefined) {
    const singles = take(individual);
    await phases.time(`individual writes, durable each (${individual})`, () =>
      perCall(individual, (index) => insertDurable(...(singles[index] ?? singles[0]!))),
    );
  }
  const groups = Array.from({ length: batches }, () => take(1000));
  await phases.time(`batch writes of 1000, durable each (${batches})`, () =>
    perCall(batches, (index) => store.insertMany(groups[index] ?? [])),
  );
  return next;
}

async function readPhases(store: Store, data: Data, records: number, sizes: Sizes, phases: Phases): Promise<void> {
  const { range, length } = store;
  await checkLoaded(store, data, records);
  if (length !== undefined) {
    await phases.time("len()", async () => {
      const count = await length();
      if (count !== records) throw new Error(`len() is ${count}, ${records} were written`);
    });
  }
  const keys = data.shuffledKeys(records, sizes.reads);
  for (const pass of [1, 2]) {
    await phases.time(`random reads, pass ${pass} (${sizes.reads})`, () =>
      perCall(sizes.reads, (index) => {
        const value = store.get(keys[index] ?? keys[0]!);
        if (value === undefined) throw new Error("a record is missing");
        return value;
      }),
    );
  }
  if (range !== undefined) {
    await phases.time(`random range reads of 10 (${sizes.ranges})`, () =>
      perCall(sizes.ranges, (index) => range(keys[index % keys.length] ?? keys[0]!, 10)),
    );
  }
}

/** A revision without an ordered index still runs all but the ranges. */
async function keepsOrder(subject: string, folder: Folder, key: Uint8Array): Promise<boolean> {
  const answer = await ifSupported("ranges", async () => {
    const store = await openStore(subject, folder, "probe", { ...unsynced, isOrdered: true });
    try {
      await store.range?.(key, 1);
      return true;
    } finally {
      await store.close();
    }
  });
  return answer ?? false;
}

async function run(subject: string, options: Options): Promise<Outcome> {
  using folder = new Folder();
  const seed = numberOption(options, "seed");
  const data = new Data({ seed });
  const sizes = sizesOf(options);
  const phases = new Phases();
  const isOrdered = await keepsOrder(subject, folder, data.key(0));
  const first = await openStore(subject, folder, "redb", { durability: "sync", isOrdered });
  let records = await durableWrites(first, data, sizes, phases);
  await first.close();
  const store = await openStore(subject, folder, "redb", { ...unsynced, isOrdered });
  const fresh = data.entries(records, (records += sizes.nosync));
  await phases.time(`unsynced writes (${sizes.nosync})`, () =>
    perCall(fresh.length, (index) => store.insert(...(fresh[index] ?? fresh[0]!))),
  );
  await readPhases(store, data, records, sizes, phases);
  const { share } = store;
  if (share !== undefined) {
    for (const workers of numbersOption(options, "threads")) {
      const calls = Math.floor(sizes.reads / workers);
      const job = {
        task: "read",
        subject,
        path: folder.at("redb"),
        settings: { ...unsynced, isOrdered },
        seed,
        records,
        calls,
      } as const;
      const result = await ifSupported("Workers", async () => crew(workers, { ...job, share: share() }));
      if (result === undefined) break;
      const { callsPerSecond } = result;
      phases.rows.push({
        row: `random reads from ${workers} threads (${calls * workers})`,
        value: (calls * workers * 1e3) / callsPerSecond,
        unit: "ms",
        better: "lower",
      });
    }
  }
  const half = data.shuffledKeys(records, Math.floor(records / 2));
  await phases.time(`removals (${half.length})`, () => store.removeMany(half));
  await store.flush?.();
  phases.size("uncompacted size", bytesUnder(folder.at("redb")));
  const { compact } = store;
  if (compact !== undefined) {
    await ifSupported("compaction", () => phases.time("compaction", compact));
    await store.close();
    phases.size("compacted size", bytesUnder(folder.at("redb")));
  } else await store.close();
  return { rows: phases.rows, settings: settingsOf(subject, "sync", { isOrdered }) };
}

const workload: Workload = {
  title: "redb's benchmark",
  notes: [
    "Bulk load, individual and batch writes are durable; the rest runs after reopening without syncs (where a killed process would lose emdb's last 2 MiB, and nothing of the others). Threads are Workers.",
    "len() is a count over all records where the peer keeps none (sqlite, level). lmdb-js has no compaction in place.",
  ],
  defaults: {
    peers: "emdb,lmdb,sqlite,level",
    records: "1m",
    individual: "1000",
    batches: "100",
    nosync: "50k",
    reads: "1m",
    ranges: "100k",
    threads: "4,8",
  },
  unavailable: fileUnavailable,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
