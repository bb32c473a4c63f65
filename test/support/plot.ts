/**
 * Draws levels as an SVG: panels one above the other over one axis, which is of minutes, or logarithmic where a few points
 * were measured that lie far apart. Lines differ by colour and by dashes, and are named beside the panel; the colours follow
 * the reader's light or dark scheme.
 */

/** A line of a panel. */
export interface Series {
  readonly name: string;
  /** Place on the axis and value; a value that is not a number leaves a gap. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** How a value becomes a place. A linear axis begins at 0; on a logarithmic one what is not positive leaves a gap. */
export type Scale = "linear" | "log";

/** A logarithmic axis that begins with its first tick, ends with its last, and shows these. */
export interface LogAxis {
  readonly label: string;
  /** In ascending order, all above 0. */
  readonly ticks: readonly Tick[];
}

/** A place on an axis that is named. */
export interface Tick {
  readonly at: number;
  readonly label: string;
}

/** One set of axes. */
export interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly series: readonly Series[];
  /** Of the values; linear unless given. */
  readonly scale?: Scale;
}

/** The whole drawing. */
export interface Plot {
  readonly title: string;
  /** Machine, settings, what was found: a line each. */
  readonly lines: readonly string[];
  readonly panels: readonly Panel[];
  /** Places with a meaning, drawn through all panels. */
  readonly marks: readonly Tick[];
  /** The axis that all panels share; without it, minutes from 0. */
  readonly axis?: LogAxis;
  /** Height of a panel with its title, in pixels. */
  readonly panelHeight?: number;
}

/** An axis to draw: ticks, and the place of a value from 0, where it begins, to 1. */
interface Axis {
  readonly label: string;
  readonly ticks: readonly Tick[];
  placeOf(value: number): number;
}

const WIDTH = 960;
const LEFT = 78;
const RIGHT = 190;
const PANEL_HEIGHT = 120;
const PANEL_GAP = 46;
const TITLE_HEIGHT = 18;
/** More of them would crowd a panel. */
const MAX_LOG_TICKS = 10;
const DOT_RADIUS = 2.5;
const LINE_HEIGHT = 17;
const DASHES = ["", "6 3", "2 3", "9 3 2 3"];
/** Light and dark; each has a contrast of 4.5 or more to its background. */
const COLOURS = [
  ["#0550ae", "#79c0ff"],
  ["#a33b00", "#ffa657"],
  ["#116329", "#7ee787"],
  ["#8250df", "#d2a8ff"],
] as const;

/** The drawing as text. */
export function drawPlot({ title, lines, panels, marks, axis, panelHeight = PANEL_HEIGHT }: Plot): string {
  const head = 40 + lines.length * LINE_HEIGHT + 26;
  const height = head + panels.length * (panelHeight + PANEL_GAP) + 12;
  const shared = axis === undefined ? minutesOf(panels) : logAxis(axis);
  const x = (value: number): number => LEFT + shared.placeOf(value) * (WIDTH - LEFT - RIGHT);
  const bottom = head + panels.length * (panelHeight + PANEL_GAP) - PANEL_GAP;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title desc">`,
    `<title id="title">${escape(title)}</title>`,
    `<desc id="desc">${escape([...lines, ...panels.map(describe)].join(" "))}</desc>`,
    `<style>${style()}</style>`,
    `<rect class="paper" width="${WIDTH}" height="${height}"/>`,
    `<text class="title" x="16" y="28">${escape(title)}</text>`,
    ...lines.map((line, n) => `<text class="small" x="16" y="${48 + n * LINE_HEIGHT}">${escape(line)}</text>`),
  ];
  for (const { at, label } of marks) {
    const anchor = x(at);
    parts.push(`<line class="mark" x1="${round(anchor)}" x2="${round(anchor)}" y1="${head - 8}" y2="${bottom}"/>`);
    parts.push(`<text class="small" x="${round(anchor + 4)}" y="${head - 12}">${escape(label)}</text>`);
  }
  for (const [n, panel] of panels.entries()) {
    const top = head + n * (panelHeight + PANEL_GAP) + TITLE_HEIGHT;
    const place = { top, height: panelHeight - TITLE_HEIGHT, isLast: n === panels.length - 1 };
    // Of a few points each has to be seen, also one between two gaps.
    parts.push(...drawPanel(panel, place, x, shared, axis !== undefined));
  }
  parts.push("</svg>", "");
  return parts.join("\n");
}

function drawPanel(
  { title, unit, series, scale = "linear" }: Panel,
  { top, height, isLast }: { readonly top: number; readonly height: number; readonly isLast: boolean },
  x: (value: number) => number,
  axis: Axis,
  hasDots: boolean,
): string[] {
  const values = valueAxis(series, scale);
  const y = (value: number): number => top + height - values.placeOf(value) * height;
  const right = WIDTH - RIGHT;
  const parts = [`<g>`, `<text class="name" x="16" y="${top - 11}">${escape(`${title}, ${unit}`)}</text>`];
  for (const tick of values.ticks) {
    const at = round(y(tick.at));
    parts.push(`<line class="grid" x1="${LEFT}" x2="${right}" y1="${at}" y2="${at}"/>`);
    parts.push(`<text class="small end" x="${LEFT - 6}" y="${round(y(tick.at) + 4)}">${escape(tick.label)}</text>`);
  }
  for (const tick of axis.ticks) {
    const at = round(x(tick.at));
    parts.push(`<line class="axis" x1="${at}" x2="${at}" y1="${top + height}" y2="${top + height + 4}"/>`);
    parts.push(`<text class="small middle" x="${at}" y="${top + height + 17}">${escape(tick.label)}</text>`);
  }
  if (isLast) parts.push(`<text class="small" x="${right + 24}" y="${top + height + 17}">${escape(axis.label)}</text>`);
  parts.push(`<line class="axis" x1="${LEFT}" x2="${right}" y1="${top + height}" y2="${top + height}"/>`);
  for (const [n, { name, points }] of series.entries()) {
    const look = `class="series s${n % COLOURS.length}"${dash(n)}`;
    for (const path of pathsOf(points, x, y)) parts.push(`<path ${look} d="${path}"/>`);
    if (hasDots) parts.push(...dotsOf(points, x, y, n));
    const at = top + 8 + n * LINE_HEIGHT;
    parts.push(`<line ${look} x1="${right + 10}" x2="${right + 38}" y1="${at}" y2="${at}"/>`);
    parts.push(`<text class="small" x="${right + 44}" y="${at + 4}">${escape(name)}</text>`);
  }
  parts.push("</g>");
  return parts;
}

/** Minutes from 0 to the last point, whether that is a round number or not. */
function minutesOf(panels: readonly Panel[]): Axis {
  const last = Math.max(0, ...panels.flatMap(({ series }) => series.flatMap(({ points }) => points.map(([x]) => x))));
  const max = last || 1;
  const shown = ticks(last, 10).filter((tick) => tick <= max);
  return { label: "minutes", ticks: shown.map(plainTick), placeOf: (value) => value / max };
}

function logAxis({ label, ticks: shown }: LogAxis): Axis {
  return { label, ticks: shown, placeOf: logPlace(shown[0]?.at ?? 1, shown.at(-1)?.at ?? 1) };
}

/** Of the values: ends at round numbers around them. */
function valueAxis(series: readonly Series[], scale: Scale): Axis {
  const all = series.flatMap(({ points }) => points.map(([, y]) => y)).filter((y) => Number.isFinite(y));
  if (scale === "linear") {
    const shown = ticks(Math.max(0, ...all), 4);
    const max = shown.at(-1)! || 1;
    return { label: "", ticks: shown.map(plainTick), placeOf: (value) => value / max };
  }
  const shown = logTicks(all);
  return { label: "", ticks: shown.map(plainTick), placeOf: logPlace(shown[0] ?? 1, shown.at(-1) ?? 1) };
}

function plainTick(at: number): Tick {
  return { at, label: formatNumber(at) };
}

function logPlace(min: number, max: number): (value: number) => number {
  const length = Math.log(max / min) || 1;
  return (value) => (value > 0 ? Math.log(value / min) / length : Number.NaN);
}

/** Open circles, which do not hide a line of another series that goes through them. */
function dotsOf(
  points: Series["points"],
  x: (value: number) => number,
  y: (value: number) => number,
  n: number,
): string[] {
  return points
    .filter(([, value]) => Number.isFinite(y(value)))
    .map(
      ([at, value]) =>
        `<circle class="series s${n % COLOURS.length}" cx="${round(x(at))}" cy="${round(y(value))}" r="${DOT_RADIUS}"/>`,
    );
}

/** One path for each stretch without a gap. */
function pathsOf(points: Series["points"], x: (value: number) => number, y: (value: number) => number): string[] {
  const paths: string[] = [];
  let path = "";
  for (const [at, value] of points) {
    if (Number.isFinite(y(value))) {
      path += `${path === "" ? "M" : "L"}${round(x(at))} ${round(y(value))}`;
    } else if (path !== "") {
      paths.push(path);
      path = "";
    }
  }
  if (path !== "") paths.push(path);
  return paths;
}

/** For those who cannot see it: from where to where every line goes. */
function describe({ title, unit, series }: Panel): string {
  const texts = series.map(({ name, points }) => {
    const values = points.map(([, value]) => value).filter((value) => Number.isFinite(value));
    if (values.length === 0) return `${name} has no values`;
    const [min, max] = [Math.min(...values), Math.max(...values)];
    return `${name} from ${formatNumber(min)} to ${formatNumber(max)}, in the end ${formatNumber(values.at(-1)!)}`;
  });
  return `${title} in ${unit}: ${texts.join("; ")}.`;
}

/** Round numbers from 0 to `max` or the next above it, about `count` of them. */
function ticks(max: number, count: number): number[] {
  if (!(max > 0)) return [0];
  const rough = max / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough * (1 - 1e-9))!;
  const steps = Math.ceil(max / step - 1e-9);
  return Array.from({ length: steps + 1 }, (_, n) => Number((n * step).toPrecision(12)));
}

/** Round numbers, 1, 2 and 5 of each decade or 1 alone, from the one below the positive values to the one above. */
export function logTicks(values: readonly number[]): number[] {
  const positive = values.filter((value) => value > 0 && Number.isFinite(value));
  if (positive.length === 0) return [];
  const [min, max] = [Math.min(...positive), Math.max(...positive)];
  const first = Math.floor(Math.log10(min));
  const powers = Array.from({ length: Math.ceil(Math.log10(max)) - first + 2 }, (_, n) => first + n);
  const around = (steps: readonly number[]): number[] => {
    const all = powers.flatMap((power) => steps.map((step) => Number((step * 10 ** power).toPrecision(1))));
    const start = all.findLastIndex((tick) => tick <= min);
    // Two at least: an axis has a length.
    return all.slice(start, Math.max(start + 2, all.findIndex((tick) => tick >= max) + 1));
  };
  const fine = around([1, 2, 5]);
  return fine.length <= MAX_LOG_TICKS ? fine : around([1]);
}

function formatNumber(value: number): string {
  const digits = value === 0 || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 1 : 3;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

function dash(n: number): string {
  const dashes = DASHES[n % DASHES.length]!;
  return dashes === "" ? "" : ` stroke-dasharray="${dashes}"`;
}

function style(): string {
  const palette = (scheme: 0 | 1): string => COLOURS.map((pair, n) => `.s${n}{stroke:${pair[scheme]}}`).join("");
  return [
    "text{font:12px system-ui,sans-serif;fill:#1f2328}",
    ".title{font-size:18px;font-weight:600}.name{font-weight:600}.small{font-size:12px}",
    ".end{text-anchor:end}.middle{text-anchor:middle}",
    ".paper{fill:#fff}.grid{stroke:#d1d9e0}.axis{stroke:#59636e}.mark{stroke:#59636e;stroke-dasharray:3 4}",
    ".series{fill:none;stroke-width:1.6;stroke-linejoin:round}",
    palette(0),
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.paper{fill:#0d1117}.grid{stroke:#2f3742}",
    `.axis,.mark{stroke:#9198a1}${palette(1)}}`,
  ].join("");
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
