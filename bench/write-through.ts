/** "write-through": an insert that is durable on return, beside a bare loop of O_DSYNC writes on the same disk. */

import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { AppendFile, libc } from "./lib/libc.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { fileUnavailable, openStore, settingsOf } from "./lib/peers-of.ts";
import { median } from "./lib/statistics.ts";
import { perCall } from "./lib/time.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

const reserveBytes = 64 << 20;
const blockCount = 20;
/** What a frame of a 24-byte key and a 150-byte value takes. */
const frameBytes = 200;

async function run(subject: string, options: Options): Promise<Outcome> {
  using folder = new Folder();
  const data = new Data({ seed: numberOption(options, "seed") });
  const store = await openStore(subject, folder, "through", { durability: "sync", isOrdered: false });
  const { insertDurable } = store;
  if (insertDurable === undefined || libc === undefined) throw new Error("no durable insert, or no bare calls here");
  using through = new AppendFile(libc, folder.at("through-bare"), reserveBytes, { isWriteThrough: true });
  using synced = new AppendFile(libc, folder.at("synced-bare"), reserveBytes);
  const record = new Uint8Array(frameBytes);
  const block = Math.max(5, Math.floor(numberOption(options, "durable") / blockCount));
  const times: Record<"own" | "through" | "synced", number[]> = { own: [], through: [], synced: [] };
  // Compiled before anything is timed: the checksum of a frame alone takes 50 us before that.
  await perCall(4000, (index) => insertDurable(data.key(1_000_000 + index), data.value(index)));
  for (let from = 0; from < block * blockCount; from += block) {
    times.own.push(await perCall(block, (index) => insertDurable(data.key(from + index), data.value(index))));
    times.through.push(await perCall(block, () => through.append(record)));
    times.synced.push(
      await perCall(block, () => {
        synced.append(record);
        synced.sync();
      }),
    );
  }
  const over = (floor: readonly number[]): number => median(times.own.map((own, index) => own / floor[index]!));
  const rows: Row[] = [
    { row: "insert, durable on return", value: median(times.own) / 1000, unit: "us", better: "lower" },
    { row: "bare O_DSYNC pwrite beside it", value: median(times.through) / 1000, unit: "us" },
    { row: "bare pwrite + fdatasync beside it", value: median(times.synced) / 1000, unit: "us" },
    { row: "insert over O_DSYNC pwrite", value: over(times.through), unit: "ratio" },
    { row: "insert over pwrite + fdatasync", value: over(times.synced), unit: "ratio" },
  ];
  await store.close();
  return { rows, settings: settingsOf(subject, "sync") };
}

const workload: Workload = {
  title: "Write-through",
  notes: ["Blocks of the three loops alternate, in preallocated files; ratios are medians over the blocks."],
  defaults: { peers: "emdb-write-through,emdb", durable: "400" },
  unavailable: async (subject) =>
    libc === undefined ? "bare system calls are probed on Linux only" : fileUnavailable(subject),
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
