/** Dependent random misses by region size: the machine's own price for one step of a lookup. */

import { chase } from "./lib/chase.ts";
import { Folder } from "./lib/folder.ts";
import { numberOption, numbersOption } from "./lib/options.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

async function run(_subject: string, options: Readonly<Record<string, string>>): Promise<Outcome> {
  using folder = new Folder();
  const rows: Row[] = [];
  for (const mebibytes of numbersOption(options, "mebibytes")) {
    const { typedArrayNs, pointerNs, memcpyNs } = chase(
      mebibytes * 2 ** 20,
      numberOption(options, "steps"),
      folder.at("chase"),
    );
    const region = `${mebibytes} MiB`;
    rows.push({ row: `${region}, typed array`, value: typedArrayNs, unit: "ns", better: "lower" });
    rows.push({ row: `${region}, mapped file, read.u32`, value: pointerNs, unit: "ns", better: "lower" });
    rows.push({ row: `${region}, mapped file, FFI memcpy of 24 B`, value: memcpyNs, unit: "ns", better: "lower" });
  }
  return { rows, settings: "pointer chase over 64-byte lines, one cycle" };
}

const workload: Workload = {
  title: "Memory latency",
  notes: [
    "One dependent miss, page-table walks included; the mapped file lies in the page cache with its pages populated.",
  ],
  defaults: { peers: "machine", mebibytes: "16,250,1024", steps: "1m" },
  unavailable: async () => undefined,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
