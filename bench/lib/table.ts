/** A report as markdown. */

import { median } from "./statistics.ts";
import type { Report, Series } from "./workload.ts";

function rounded(value: number): string {
  if (!Number.isFinite(value)) return "-";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value
    .toLocaleString("en-US", { minimumFractionDigits: 0, maximumFractionDigits: digits })
    .replaceAll(",", " ");
}

/** How many times better the base is than the other; below 1 the base is worse. */
function ratio(base: number, other: number, better: Series["better"]): string {
  if (better === undefined || !(base > 0) || !(other > 0)) return "";
  const times = better === "lower" ? other / base : base / other;
  return ` (${times < 0.095 ? times.toFixed(3) : times < 9.95 ? times.toFixed(2) : times.toFixed(0)}x)`;
}

/** A revision is shown by the name of its folder, not by the path of its source. */
function shown(subject: string): string {
  const match = /^([^@]+)@.*?([^/]+)\/src\/index\.ts$/.exec(subject);
  return match === null ? subject : `${match[1]} ${match[2]}`;
}

function cell(series: Series, subject: string, base: string): string {
  const values = series.values[subject];
  if (values === undefined || values.length === 0) return "";
  const middle = median(values);
  const best = series.better === "higher" ? Math.max(...values) : Math.min(...values);
  const baseValues = series.values[base];
  const against = subject === base || baseValues === undefined ? "" : ratio(median(baseValues), middle, series.better);
  const spread = values.length > 1 ? ` [${rounded(best)}]` : "";
  return `${rounded(middle)}${spread}${against}`;
}

/** The table: medians, the best repetition in brackets, and how many times better the first subject that ran is. */
export function markdown(report: Report, subjects: readonly string[]): string {
  const ran = subjects.filter((subject) => report.settings[subject] !== undefined);
  const base = ran[0] ?? "";
  const options = Object.entries(report.options).map(([name, value]) => `${name} ${value}`);
  const lines = [
    `## ${report.title}`,
    "",
    `${Object.values(report.machine).join(", ")}; ${options.join(", ")}.`,
    `Median of the repetitions, [best], (how many times better ${shown(base)} is).`,
    "",
    `| | unit | ${ran.map(shown).join(" | ")} |`,
    `|---|---|${ran.map(() => "---:").join("|")}|`,
    ...report.series.map(
      (series) =>
        `| ${series.row} | ${series.unit} | ${ran.map((subject) => cell(series, subject, base)).join(" | ")} |`,
    ),
    "",
    ...ran.map((subject) => `- ${shown(subject)}: ${report.settings[subject]}`),
    ...Object.entries(report.skipped).map(([subject, reason]) => `- ${shown(subject)}: skipped, ${reason}`),
    ...report.notes.map((note) => `- ${note}`),
  ];
  return lines.join("\n");
}
