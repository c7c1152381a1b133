/**
 * A report as an SVG drawing, readable on a light and on a dark page: nothing is painted behind it, the marks are of
 * middling brightness, and text and lines change with the reader's colour scheme.
 *
 * Durations of a workload span several powers of ten, so they are dots on a logarithmic axis: a bar would begin
 * nowhere. Rates begin at zero and are bars.
 */

import { init, type EChartsOption } from "echarts";

/** Values of one row by subject. */
export interface ChartRow {
  readonly label: string;
  readonly values: Readonly<Record<string, number>>;
}

export interface Chart {
  readonly title: string;
  readonly subtitle: string;
  readonly rows: readonly ChartRow[];
  readonly subjects: readonly string[];
  /** "duration": values in nanoseconds, less is better. "rate": as the unit says, more is better. */
  readonly kind: "duration" | "rate";
  readonly unit: string;
}

const WIDTH = 860;
const ROW_HEIGHT = 34;
const AROUND_HEIGHT = 130;
const LABEL_WIDTH = 260;
/** Of equal weight on white and on black, and told apart by the colour-blind; shapes tell them apart as well. */
const colours = ["#2f8fe0", "#e0851b", "#2fa56a", "#b277d6", "#8f8f8f", "#d65f5f"];
const shapes = ["circle", "rect", "triangle", "diamond", "emptyCircle", "emptyRect"];
const INK = "#333333";
const GRID = "#d4d4d4";
const darkStyle = `<style>@media (prefers-color-scheme: dark) {
[fill="${INK}"] { fill: #dddddd } [stroke="${GRID}"] { stroke: #4a4a4a } [stroke="${INK}"] { stroke: #dddddd }
}</style>`;

const units = [
  [1e9, "s"],
  [1e6, "ms"],
  [1e3, "us"],
  [1, "ns"],
] as const;

/** Nanoseconds in the unit that keeps the number short. */
export function shownDuration(nanoseconds: number): string {
  const [size, name] = units.find(([one]) => nanoseconds >= one) ?? ([1, "ns"] as const);
  return `${Number((nanoseconds / size).toPrecision(3))} ${name}`;
}

const text = { color: INK, fontFamily: "system-ui, sans-serif", fontSize: 12 };
const line = { lineStyle: { color: GRID, width: 1 } };

function durations(chart: Chart): EChartsOption {
  const labels = chart.rows.map((row) => row.label);
  return {
    xAxis: {
      type: "log",
      position: "bottom",
      axisLabel: { ...text, formatter: shownDuration, hideOverlap: true },
      splitLine: line,
      name: "less is better",
      nameLocation: "middle",
      nameGap: 28,
      nameTextStyle: text,
    },
    yAxis: {
      type: "category",
      inverse: true,
      data: labels,
      axisLabel: { ...text, width: LABEL_WIDTH - 20 },
      axisTick: { show: false },
      axisLine: line,
      splitLine: { show: true, ...line },
    },
    series: chart.subjects.map((subject, index) => ({
      type: "scatter" as const,
      name: subject,
      symbol: shapes[index % shapes.length] ?? "circle",
      symbolSize: 13,
      data: chart.rows.flatMap((row) => {
        const value = row.values[subject];
        return value === undefined ? [] : [[value, row.label]];
      }),
      label: {
        show: index === 0,
        position: "top" as const,
        distance: 4,
        formatter: ({ value }: { value?: unknown }) => shownDuration((value as number[])[0] ?? 0),
        ...text,
        fontSize: 10,
      },
    })),
  };
}

function rates(chart: Chart): EChartsOption {
  return {
    xAxis: {
      type: "value",
      axisLabel: text,
      splitLine: line,
      name: `${chart.unit}, more is better`,
      nameLocation: "middle",
      nameGap: 28,
      nameTextStyle: text,
    },
    yAxis: {
      type: "category",
      inverse: true,
      data: chart.rows.map((row) => row.label),
      axisLabel: text,
      axisTick: { show: false },
      axisLine: line,
    },
    series: chart.subjects.map((subject) => ({
      type: "bar" as const,
      name: subject,
      barMaxWidth: 16,
      data: chart.rows.map((row) => row.values[subject] ?? "-"),
    })),
  };
}

/** The drawing. The same numbers give the same bytes. */
export function svg(chart: Chart): string {
  const perRow = chart.kind === "rate" ? Math.max(ROW_HEIGHT, 12 * chart.subjects.length + 10) : ROW_HEIGHT;
  const height = AROUND_HEIGHT + perRow * chart.rows.length;
  const drawing = init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height });
  drawing.setOption({
    animation: false,
    color: colours,
    title: {
      text: chart.title,
      subtext: chart.subtitle,
      left: 8,
      top: 4,
      itemGap: 6,
      textStyle: { ...text, fontSize: 15 },
      subtextStyle: { ...text, fontSize: 11 },
    },
    legend: { top: 50, left: LABEL_WIDTH, textStyle: text, data: [...chart.subjects] },
    grid: { left: LABEL_WIDTH, right: 36, top: 84, bottom: 44 },
    ...(chart.kind === "duration" ? durations(chart) : rates(chart)),
  });
  const drawn = drawing.renderToSVGString();
  drawing.dispose();
  // Identifiers count up over all drawings of a process.
  const named = drawn.replaceAll(/zr\d+-/g, "zr-");
  return `${named.replace(/(<svg[^>]*>)/, `$1\n${darkStyle}`)}\n`;
}
