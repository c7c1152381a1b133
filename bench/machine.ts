/** What the machine charges: a system call, writes of two sizes, a sync after a small append. */

import { Folder } from "./lib/folder.ts";
import { AppendFile, libc } from "./lib/libc.ts";
import type { Libc } from "./lib/libc.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { median, quantile } from "./lib/statistics.ts";
import { eachCall, perCall } from "./lib/time.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

const recordBytes = 190;
const reserve = 64 << 20;
/** As `ZEROED_BYTES` of the library's limits. */
const zerosAhead = 256 << 10;
/** What a sync covers: one record, those of 8 and of 64 callers, and what is no small sync any more. */
const blockSyncs = 40;
const syncedBytes = [190, 1_600, 13_000, 50_000, 200_000];

async function writes(calls: Libc, folder: Folder, count: number): Promise<Row[]> {
  const small = new Uint8Array(recordBytes);
  const large = new Uint8Array(1 << 20);
  const rows: Row[] = [];
  await perCall(1000, () => calls.getppid());
  rows.push({
    row: "system call (getppid)",
    value: await perCall(count, () => calls.getppid()),
    unit: "ns",
    better: "lower",
  });
  using warm = new AppendFile(calls, folder.at("writes"), reserve);
  await perCall(64, () => warm.append(large));
  warm.rewind();
  const appends = Math.min(count, 200_000);
  rows.push({
    row: "pwrite of 190 B",
    value: await perCall(appends, () => warm.append(small)),
    unit: "ns",
    better: "lower",
  });
  warm.rewind();
  const megabytes = await perCall(60, () => warm.append(large));
  rows.push({ row: "pwrite of 1 MiB", value: megabytes / 1000, unit: "us", better: "lower" });
  rows.push({
    row: "pwrite of 1 MiB, per 190 B",
    value: (megabytes * recordBytes) / large.length,
    unit: "ns",
    better: "lower",
  });
  return rows;
}

async function syncs(calls: Libc, folder: Folder, count: number): Promise<Row[]> {
  const small = new Uint8Array(recordBytes);
  using growing = new AppendFile(calls, folder.at("growing"), 0);
  using reserved = new AppendFile(calls, folder.at("reserved"), reserve);
  const samples: Record<string, number[]> = { growing: [], preallocated: [] };
  // Alternating blocks: a busy disk hits both.
  for (let from = 0; from < count; from += 20) {
    for (const [name, file] of [
      ["growing", growing],
      ["preallocated", reserved],
    ] as const) {
      const block = await eachCall(20, () => {
        file.append(small);
        file.sync();
      });
      samples[name]?.push(...block);
    }
  }
  return Object.entries(samples).flatMap(([name, all]) =>
    [0.5, 0.99].map((part) => ({
      row: `pwrite of 190 B + fdatasync, ${name}, p${part * 100}`,
      value: quantile(all, part) / 1000,
      unit: "us",
      better: "lower" as const,
    })),
  );
}

/** Syncs of reserved space that is written for the first time, beside such that zeros were written to ahead: the zeros' time counts. */
async function zeros(calls: Libc, folder: Folder, count: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const bytes of syncedBytes) {
    using first = new AppendFile(calls, folder.at(`first-${bytes}`), reserve);
    using zeroed = new AppendFile(calls, folder.at(`zeroed-${bytes}`), reserve, { zerosAhead });
    const append = new Uint8Array(bytes).fill(7);
    const turn = async (file: AppendFile): Promise<number> =>
      perCall(1, () => {
        file.append(append);
        file.sync();
      });
    const means: number[] = [];
    const ratios: number[] = [];
    // In turn, by blocks in which there are zeros too: a stall of the disk spoils one of them.
    for (
      let block = 0;
      block < Math.min(count / blockSyncs, (reserve - zerosAhead) / bytes / blockSyncs - 1);
      block++
    ) {
      const spent = { first: 0, zeroed: 0 };
      for (let sync = 0; sync < blockSyncs; sync++) {
        spent.first += await turn(first);
        spent.zeroed += await turn(zeroed);
      }
      means.push(spent.first / blockSyncs);
      ratios.push(spent.zeroed / spent.first);
    }
    rows.push({ row: `sync of ${bytes} B, first write of its blocks`, value: median(means) / 1000, unit: "us" });
    rows.push({ row: `sync of ${bytes} B, into zeros, over that`, value: median(ratios), unit: "ratio" });
  }
  return rows;
}

async function run(_subject: string, options: Options): Promise<Outcome> {
  if (libc === undefined) throw new Error("no C library");
  using folder = new Folder();
  const rows = [
    ...(await writes(libc, folder, numberOption(options, "calls"))),
    ...(await syncs(libc, folder, numberOption(options, "syncs"))),
    ...(await zeros(libc, folder, numberOption(options, "syncs"))),
  ];
  return {
    rows,
    settings: `called through bun:ffi; files in ${process.env["EMDB_BENCH_DIR"] ?? "the temporary folder"}`,
  };
}

const workload: Workload = {
  title: "The machine",
  notes: ["What lies below every durable write; read the durable rows of the other tables against these."],
  defaults: { peers: "machine", calls: "1m", syncs: "400" },
  unavailable: async () => (libc === undefined ? "bare system calls are probed on Linux only" : undefined),
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
