/** How the cost grows along one axis, as a Markdown table with both engines side by side and as a drawing. */
import { type Panel, type Scale, drawPlot } from "../support/plot.ts";
import { markdownTable } from "./report.ts";

/** What is compared (`GRPC_ENGINE`): ratios are those of the first to the second. */
export const ENGINES = ["native", "grpc-js"] as const;
export type Engine = (typeof ENGINES)[number];

/** All that may be known of an engine at a point, in the order of the table's columns. */
const LEVELS = {
  cpuMicros: { title: "Server CPU", unit: "µs/op", isCompared: true },
  perSecond: { title: "Throughput", unit: "operations/s", isCompared: false },
  p50: { title: "p50", unit: "ms", isCompared: false },
  p99: { title: "p99", unit: "ms", isCompared: false },
  residentMib: { title: "Memory", unit: "MiB", isCompared: false },
  eachKib: { title: "Memory for each", unit: "KiB", isCompared: true },
  idleMillis: { title: "Server CPU while idle", unit: "ms/s", isCompared: false },
} as const;
export type Level = keyof typeof LEVELS;
/** Figures of one engine at one point; one that is missing was not measured, or is lost in the noise. */
export type Levels = Readonly<Partial<Record<Level, number>>>;

/** One point of an axis. */
export interface Row {
  /** Which of several loads, where an axis has more than one. */
  readonly load?: string;
  /** The place on the axis. */
  readonly at: number;
  readonly engines: Readonly<Record<Engine, Levels>>;
}

/** How an axis is shown. */
export interface AxisLook {
  /** Of the file and of `--axis`. */
  readonly name: string;
  readonly title: string;
  /** What the axis counts. */
  readonly label: string;
  readonly format: (at: number) => string;
  /** The load, in a sentence. */
  readonly description: string;
  /** What is drawn, a panel each. */
  readonly panels: readonly { readonly level: Level; readonly scale: Scale }[];
}

/** An axis with what was measured. */
export interface Growth extends AxisLook {
  readonly rows: readonly Row[];
  /** Points that were left out, and why. */
  readonly notes: readonly string[];
}

const PANEL_HEIGHT = 200;
const UNKNOWN = "–";

/** A section for `docs/benchmarks.md`: heading, load, table and a link to the drawing. */
export function formatGrowth(growth: Growth): string {
  const { name, title, description, notes } = growth;
  return [
    `### ${title}`,
    "",
    description,
    ...notes.flatMap((note) => ["", note]),
    "",
    formatRows(growth),
    "",
    `![${title}: ${growth.panels.map(({ level }) => captionOf(level)).join("; ")}](benchmarks/growth-${name}.svg)`,
    "",
  ].join("\n");
}

/** The drawing, with the machine in its first line. */
export function drawGrowth(growth: Growth, machine: string): string {
  const { title, label, format, description, notes, rows, panels } = growth;
  const points = [...new Set(rows.map(({ at }) => at))].toSorted((a, b) => a - b);
  return drawPlot({
    title: `Growth: ${title.toLowerCase()}`,
    lines: [machine, ...wrap(description), ...notes.flatMap(wrap)],
    marks: [],
    axis: { label, ticks: points.map((at) => ({ at, label: format(at) })) },
    panels: panels.map(({ level, scale }) => panelOf(rows, level, scale)),
    panelHeight: PANEL_HEIGHT,
  });
}

function panelOf(rows: readonly Row[], level: Level, scale: Scale): Panel {
  const loads = [...new Set(rows.map(({ load }) => load))];
  const series = loads.flatMap((load) =>
    ENGINES.map((engine) => ({
      name: load === undefined ? engine : `${load}, ${engine}`,
      points: rows
        .filter((row) => row.load === load)
        .map(({ at, engines }) => [at, engines[engine][level] ?? Number.NaN] as const),
    })),
  );
  const { title, unit } = LEVELS[level];
  return { title, unit, scale, series };
}

function formatRows({ label, format, rows }: Growth): string {
  const shown = (Object.keys(LEVELS) as Level[]).filter((level) =>
    rows.some(({ engines }) => ENGINES.some((engine) => engines[engine][level] !== undefined)),
  );
  const head = shown.flatMap((level) => {
    const [first, ...others] = ENGINES;
    return [`${captionOf(level)}: ${first}`, ...others, ...(LEVELS[level].isCompared ? ["ratio"] : [])];
  });
  const cells = rows.map(({ load, at, engines }) => [
    load === undefined ? format(at) : `${load}, ${format(at)}`,
    ...shown.flatMap((level) => {
      const values = ENGINES.map((engine) => engines[engine][level]);
      return [...values.map(formatLevel), ...(LEVELS[level].isCompared ? [formatRatio(values)] : [])];
    }),
  ]);
  return markdownTable([label, ...head], cells);
}

function captionOf(level: Level): string {
  const { title, unit } = LEVELS[level];
  return `${title.charAt(0).toLowerCase()}${title.slice(1)}, ${unit}`;
}

/** Three digits that count, and no more. */
function formatLevel(value: number | undefined): string {
  if (value === undefined) return UNKNOWN;
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function formatRatio([ours, theirs]: readonly (number | undefined)[]): string {
  return ours === undefined || theirs === undefined ? UNKNOWN : `**${(ours / theirs).toFixed(2)}**`;
}

const LINE_CHARACTERS = 120;

/** Lines that fit above the panels. */
function wrap(text: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > LINE_CHARACTERS) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
