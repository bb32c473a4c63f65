import { expect, test } from "vitest";
import { type Plot, drawPlot, logTicks } from "../../support/plot.ts";

const CONNECTIONS: Plot = {
  title: "Connections",
  lines: ["a machine"],
  marks: [],
  axis: { label: "connections", ticks: [1, 10, 100, 1000].map((at) => ({ at, label: at.toLocaleString("en") })) },
  panels: [
    {
      title: "CPU",
      unit: "µs/op",
      scale: "log",
      series: [
        {
          name: "native",
          points: [
            [1, 10],
            [10, 100],
            [100, Number.NaN],
            [1000, 1000],
          ],
        },
        { name: "grpc-js", points: [[1, 20]] },
      ],
    },
  ],
};

/** Places of the ticks on the axis below a panel. */
function ticksOf(svg: string): number[] {
  return [...svg.matchAll(/<text class="small middle" x="([\d.]+)"/g)].map(([, x]) => Number(x));
}

test("equal ratios are equally far apart on a logarithmic axis, from one end of the panel to the other", () => {
  expect(ticksOf(drawPlot(CONNECTIONS))).toEqual([78, 308.7, 539.3, 770]);
});

test("a logarithmic axis of one point is drawn", () => {
  const svg = drawPlot({ ...CONNECTIONS, axis: { label: "n", ticks: [{ at: 5, label: "5" }] }, panels: [] });
  expect(svg).not.toContain("NaN");
});

test("values of a logarithmic panel lie between round numbers", () => {
  const svg = drawPlot(CONNECTIONS);
  const labels = [...svg.matchAll(/class="small end" x="\d+" y="[\d.]+">([^<]+)</g)].map(([, label]) => label);
  expect(labels).toEqual(["10", "20", "50", "100", "200", "500", "1,000"]);
  const [first] = [...svg.matchAll(/<path class="series s0" d="([^"]+)"/g)].map(([, path]) => path);
  const heights = [...first!.matchAll(/[ML][\d.]+ ([\d.]+)/g)].map(([, y]) => Number(y));
  const grid = [...svg.matchAll(/class="grid" [^>]*y1="([\d.]+)"/g)].map(([, y]) => Number(y));
  expect(heights).toEqual([grid[0], grid[3]]);
});

test.each([
  { values: [], ticks: [] },
  { values: [0, -3, Number.NaN], ticks: [] },
  { values: [10], ticks: [10, 20] },
  { values: [37, 2_900], ticks: [20, 50, 100, 200, 500, 1_000, 2_000, 5_000] },
  { values: [0.003, 0, 0.02], ticks: [0.002, 0.005, 0.01, 0.02] },
  { values: [3, 90_000], ticks: [1, 10, 100, 1_000, 10_000, 100_000] },
])("round numbers around $values on a logarithmic scale", ({ values, ticks }) => {
  expect(logTicks(values)).toEqual(ticks);
});

test("what is not positive leaves a gap on a logarithmic scale", () => {
  const points = [
    [1, 5],
    [10, 0],
    [100, 7],
  ] as const;
  const svg = drawPlot({
    ...CONNECTIONS,
    panels: [{ title: "p", unit: "u", scale: "log", series: [{ name: "s", points }] }],
  });
  expect(svg.match(/<path/g)).toHaveLength(2);
  expect(svg.match(/<circle/g)).toHaveLength(2);
  expect(svg).not.toMatch(/NaN|Infinity/);
});

test("each point of a logarithmic axis is marked, also one between gaps", () => {
  expect(drawPlot(CONNECTIONS).match(/<circle class="series s0"/g)).toHaveLength(3);
  expect(drawPlot(CONNECTIONS).match(/<circle class="series s1"/g)).toHaveLength(1);
});

test("every line has a colour in both schemes", () => {
  const [light, dark] = /<style>(.*)<\/style>/
    .exec(drawPlot(CONNECTIONS))![1]!
    .split("@media(prefers-color-scheme:dark)");
  for (const scheme of [light, dark]) {
    expect(scheme).toMatch(/\.s0\{stroke:#\w{6}\}\.s1\{stroke:#\w{6}\}/);
    expect(scheme).toMatch(/\.paper\{fill:#\w+\}/);
  }
  expect(/\.s0\{stroke:(#\w+)\}/.exec(light!)![1]).not.toBe(/\.s0\{stroke:(#\w+)\}/.exec(dark!)![1]);
});

test("a higher panel makes the drawing higher, and moves the axis below it", () => {
  const [low, high] = [drawPlot(CONNECTIONS), drawPlot({ ...CONNECTIONS, panelHeight: 220 })];
  const bottom = (svg: string): number => Number(/class="small middle" x="[\d.]+" y="(\d+)"/.exec(svg)![1]);
  expect(bottom(high) - bottom(low)).toBe(100);
});
