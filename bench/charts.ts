/**
 * Draws the results of the workloads: `bun run charts` reads results/*.json and writes docs/charts/*.svg, one for each
 * chart of the list whose workload has been run. `--results` and `--out` name other folders.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { shownDuration, svg, type Chart, type ChartRow } from "./lib/chart.ts";
import { parseOptions } from "./lib/options.ts";

interface Plan {
  readonly workload: string;
  /** The file's name; a workload may have several charts. */
  readonly name: string;
  readonly title: string;
  readonly rows: RegExp;
  readonly kind: Chart["kind"];
}

/** What a workload wrote, as far as it is drawn. */
interface Written {
  readonly options: Readonly<Record<string, string>>;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly series: readonly {
    readonly row: string;
    readonly unit: string;
    readonly better?: string;
    readonly median: Readonly<Record<string, number | null>>;
  }[];
}

const plans: readonly Plan[] = [
  {
    workload: "core",
    name: "point-operations",
    title: "One record at a time, and many",
    kind: "duration",
    rows: /^(bulk load|get, (hits|misses)$|getMany of|iterate|remove|insert, visible)/,
  },
  {
    workload: "core",
    name: "durable-writes",
    title: "Writes that survive a loss of power",
    kind: "duration",
    rows: /^(insert, durable|bare pwrite|durable batches)/,
  },
  {
    workload: "ranges",
    name: "ranges",
    title: "Keys in order",
    kind: "duration",
    rows: /^(range of|full ordered|insert$|remove$)/,
  },
  { workload: "redb", name: "redb", title: "The phases of redb's benchmark", kind: "duration", rows: /./ },
  { workload: "skew", name: "latency", title: "Single reads: median and tails", kind: "duration", rows: /./ },
  {
    workload: "value-sizes",
    name: "value-sizes",
    title: "Reading values by their size",
    kind: "duration",
    rows: /: get/,
  },
  { workload: "open-time", name: "open-time", title: "Opening, by the number of records", kind: "duration", rows: /./ },
  { workload: "workers", name: "workers", title: "Reads from several Workers", kind: "rate", rows: /^get, / },
  {
    workload: "group-commit",
    name: "group-commit",
    title: "Durable writes of callers that share",
    kind: "rate",
    rows: /(awaited|durable writes|sync per write)$/,
  },
];

const nanoseconds: Readonly<Record<string, number>> = { ns: 1, us: 1e3, ms: 1e6, s: 1e9 };

/** Undefined when the workload has no row for it. */
function chartOf(plan: Plan, written: Written): Chart | undefined {
  const isDuration = plan.kind === "duration";
  const chosen = written.series.filter(
    ({ row, unit, better }) => plan.rows.test(row) && (isDuration ? unit in nanoseconds : better === "higher"),
  );
  const rows = chosen.map(({ row, unit, median }): ChartRow => {
    const factor = isDuration ? (nanoseconds[unit] ?? 1) : 1;
    const present = Object.entries(median).filter(
      (entry): entry is [string, number] => entry[1] !== null && entry[1] > 0,
    );
    return { label: row, values: Object.fromEntries(present.map(([subject, value]) => [subject, value * factor])) };
  });
  if (rows.length === 0) return undefined;
  const subjects = [...new Set(rows.flatMap((row) => Object.keys(row.values)))];
  const { records, repeat } = written.options;
  const { bun, platform, cores } = written.machine;
  const subtitle = `${records === undefined ? "" : `${records} records, `}median of ${repeat}, Bun ${bun}, ${platform}, ${cores} cores. bench/${plan.workload}.ts`;
  return { title: plan.title, subtitle, rows, subjects, kind: plan.kind, unit: chosen[0]?.unit ?? "" };
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const { results = here("./results"), out = here("../docs/charts") } = parseOptions(process.argv.slice(2));
mkdirSync(out, { recursive: true });
let drawn = 0;
for (const plan of plans) {
  const path = join(results, `${plan.workload}.json`);
  const chart = existsSync(path) ? chartOf(plan, JSON.parse(readFileSync(path, "utf8")) as Written) : undefined;
  if (chart === undefined) {
    process.stdout.write(`${plan.name}: no results of bench/${plan.workload}.ts\n`);
    continue;
  }
  writeFileSync(join(out, `${plan.name}.svg`), svg(chart));
  drawn++;
  const [row] = chart.rows;
  const value = row === undefined ? 0 : (Object.values(row.values)[0] ?? 0);
  const shown = plan.kind === "duration" ? shownDuration(value) : String(Math.round(value));
  process.stdout.write(
    `${plan.name}: ${chart.rows.length} rows of ${chart.subjects.join(", ")}; ${row?.label} ${shown}\n`,
  );
}
process.stdout.write(`${drawn} of ${plans.length} charts written to ${out}\n`);
if (drawn === 0) process.exitCode = 1;
