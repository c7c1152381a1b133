/** The time to open by number of records: after a clean close, and (emdb) after its checkpoint image is taken away. */

import { rmSync } from "node:fs";

import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { load } from "./lib/load.ts";
import { numberOption, numbersOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { fileUnavailable, openStore, settingsOf } from "./lib/peers-of.ts";
import { once } from "./lib/time.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

async function timeOpen(subject: string, folder: Folder, key: Uint8Array): Promise<number> {
  let nanoseconds = 0;
  const start = Bun.nanoseconds();
  const store = await openStore(subject, folder, "open");
  // One read belongs to it: an open that puts its work off to the first read is no faster.
  const value = await store.get(key);
  nanoseconds = Bun.nanoseconds() - start;
  if (value === undefined) throw new Error("a record is missing after open");
  await store.close();
  return nanoseconds;
}

async function run(subject: string, options: Options): Promise<Outcome> {
  const data = new Data({ seed: numberOption(options, "seed") });
  const rows: Row[] = [];
  for (const records of numbersOption(options, "records")) {
    using folder = new Folder();
    const store = await openStore(subject, folder, "open");
    await load(store, data, records);
    const closeNs = await once(() => store.close());
    const key = data.key(records - 1);
    const size = records.toLocaleString("en-US").replaceAll(",", " ");
    const row = (what: string, nanoseconds: number): void =>
      void rows.push({ row: `${size} records: ${what}`, value: nanoseconds / 1e6, unit: "ms", better: "lower" });
    row("close after the load", closeNs);
    row("open + first get", await timeOpen(subject, folder, key));
    row("open + first get, again", await timeOpen(subject, folder, key));
    if (!subject.startsWith("emdb")) continue;
    rmSync(folder.at("open.hint"), { force: true });
    const nanoseconds = await timeOpen(subject, folder, key);
    row("open without the image", nanoseconds);
    rows.push({
      row: `${size} records: replay without the image`,
      value: records / (nanoseconds / 1e3),
      unit: "M records/s",
      better: "higher",
    });
  }
  return { rows, settings: settingsOf(subject, "none") };
}

const workload: Workload = {
  title: "Time to open",
  notes: [
    "The file lies in the page cache. The first open in a process loads code as well; the second shows the open alone.",
  ],
  defaults: { peers: "emdb,lmdb,sqlite,level", records: "10k,100k,1m" },
  unavailable: fileUnavailable,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
