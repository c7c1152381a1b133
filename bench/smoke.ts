/**
 * Runs every workload once with 1000 records and checks that each ended with numbers, and the programs beside them, which
 * have to end and print something; nothing is judged by its speed. A store that answers wrongly has to be noticed.
 */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Data } from "./lib/data.ts";
import { load } from "./lib/load.ts";
import { unsynced } from "./lib/peers-of.ts";
import { runProgram, workloads } from "./lib/programs.ts";
import { peerNamed } from "./peers/registry.ts";

/** Sizes that make each workload end in a second or two. */
const small = [
  "--repeat=1",
  "--records=1000",
  "--lookups=1000",
  "--inserts=1000",
  "--removes=100",
  "--durable=20",
  "--mebibytes=1",
  "--steps=10000",
  "--calls=1000",
  "--syncs=20",
  "--workers=1,2",
  "--callers=8",
  "--each=5",
  "--alone=5",
  "--worker-writes=5",
  "--ranges=1000",
  "--writes=100",
  "--sizes=16,4096",
  "--starts=2",
  "--total-bytes=1m",
  "--bytes=4m",
  "--rounds=20000",
  "--pairs=1",
  "--individual=20",
  "--batches=2",
  "--batch=500",
  "--nosync=100",
  "--reads=1000",
  "--threads=2",
  "--spaces=20",
  "--child-seconds=60",
  "--touch=1m",
];

/** What writes no table, and its arguments. */
const programs: Readonly<Record<string, readonly string[]>> = {
  ordered: ["1000"],
  "ordered-structures": ["1000"],
  "range-floor": ["1000"],
  micro: ["--records=1000", "--peers=emdb"],
};

interface Written {
  readonly skipped: Readonly<Record<string, string>>;
  readonly series: readonly { readonly row: string; readonly median: Readonly<Record<string, number | null>> }[];
}

const folder = mkdtempSync(join(tmpdir(), "emdb-smoke-"));
let passed = 0;
let failed = 0;
for (const name of workloads) {
  const path = join(folder, `${name}.json`);
  // Only "workers" takes a list of Worker counts; for the others it is one number.
  const args = small.map((arg) => (arg.startsWith("--workers=") && name !== "workers" ? "--workers=2" : arg));
  const { isSound } = await runProgram(name, [...args, `--json=${path}`]);
  const written = isSound ? (JSON.parse(readFileSync(path, "utf8")) as Written) : undefined;
  // A library that is there and does not load is a failure; one that lacks a feature yet is not.
  const isBroken = Object.values(written?.skipped ?? {}).some((reason) => reason.includes("does not load"));
  const isGood = written !== undefined && written.series.length > 0 && !isBroken;
  if (isGood) passed++;
  else failed++;
  const skipped = Object.entries(written?.skipped ?? {}).map(([subject, reason]) => ` (${subject} skipped: ${reason})`);
  process.stdout.write(`${isGood ? "ok" : "FAILED"} ${name}: ${written?.series.length ?? 0} rows${skipped.join("")}\n`);
}
for (const [name, args] of Object.entries(programs)) {
  const { isSound, markdown } = await runProgram(name, args);
  const isGood = isSound && markdown !== "";
  if (isGood) passed++;
  else failed++;
  process.stdout.write(`${isGood ? "ok" : "FAILED"} ${name}: ${markdown.split("\n").length - 1} lines\n`);
}
for (const way of ["get", "getMany"] as const) {
  const data = new Data({ seed: 1 });
  const right = await peerNamed("map").open("", unsynced);
  const none = way === "get" ? () => undefined : (keys: readonly unknown[]) => keys.map(() => undefined);
  const isNoticed = await load({ ...right, [way]: none }, data, 1000).then(
    () => false,
    (error: unknown) => String(error).includes("gives other bytes than were written"),
  );
  if (isNoticed) passed++;
  else failed++;
  process.stdout.write(`${isNoticed ? "ok" : "FAILED"} a store whose ${way} finds nothing is noticed\n`);
}
rmSync(folder, { recursive: true, force: true });
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exit(failed === 0 ? 0 : 1);
