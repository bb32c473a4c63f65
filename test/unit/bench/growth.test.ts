import { describe, expect, test } from "vitest";
import { AXES } from "../../bench/growth-axes.ts";
import { byTurns } from "../../bench/growth-arena.ts";
import { type Growth, type Row, drawGrowth, formatGrowth } from "../../bench/growth-report.ts";
import { axesNamed } from "../../bench/growth.ts";
import { tableRows } from "../../support/markdown.ts";

/** A wide font: wider than those that readers have. */
const CHARACTER_WIDTH = 7.5;
const FONT_HEIGHT = 12;

const SIZE: Growth = {
  name: "size",
  title: "Size",
  label: "payload",
  format: (at) => `${at} B`,
  description: "Publishes of growing size.",
  panels: [{ level: "cpuMicros", scale: "log" }],
  notes: ["4 B were left out."],
  rows: [
    {
      load: "publish",
      at: 1,
      engines: { native: { cpuMicros: 12.345, perSecond: 54_321.9 }, "grpc-js": { cpuMicros: 100, perSecond: 8_000 } },
    },
    { load: "consume", at: 2, engines: { native: { cpuMicros: 5 }, "grpc-js": {} } },
  ],
};

describe("a table", () => {
  test("has both engines side by side, with the ratio of those that are compared", () => {
    const markdown = formatGrowth(SIZE);
    expect(markdown).toContain(
      "| payload | server CPU, µs/op: native | grpc-js | ratio | throughput, operations/s: native |",
    );
    expect(tableRows(markdown)).toEqual([
      ["publish, 1 B", "12.3", "100", "**0.12**", "54,322", "8,000"],
      ["consume, 2 B", "5.00", "–", "–", "–", "–"],
    ]);
  });

  test("stands between its load, what was left out, and the drawing", () => {
    const lines = formatGrowth(SIZE).split("\n");
    expect(lines.slice(0, 5)).toEqual(["### Size", "", "Publishes of growing size.", "", "4 B were left out."]);
    expect(lines.at(-2)).toBe("![Size: server CPU, µs/op](benchmarks/growth-size.svg)");
  });

  test("leaves out what nobody measured", () => {
    expect(formatGrowth(SIZE)).not.toContain("p99");
  });
});

/** Figures as extreme as they may be. */
function rowsOf(points: readonly number[], loads: readonly (string | undefined)[]): Row[] {
  return loads.flatMap((load) =>
    points.map((at, n) => {
      const levels = {
        cpuMicros: 9.9 * 4 ** n,
        perSecond: 99_999 / 3 ** n,
        residentMib: 2_000,
        eachKib: 1_000 / (n + 1),
      };
      return { ...(load === undefined ? {} : { load }), at, engines: { native: levels, "grpc-js": levels } };
    }),
  );
}

/** Every text with the space it takes, estimated. */
function textsOf(svg: string) {
  return [...svg.matchAll(/<text class="([^"]*)" x="([\d.]+)" y="([\d.]+)">([^<]*)</g)].map(([, look, x, y, text]) => {
    const width = text!.length * CHARACTER_WIDTH;
    const left = Number(x) - (look!.includes("middle") ? width / 2 : look!.includes("end") ? width : 0);
    return { text: text!, left, right: left + width, top: Number(y) - FONT_HEIGHT, bottom: Number(y) };
  });
}

describe.each(AXES)("the axis of $name", (axis) => {
  const loads = axis.name === "size" ? ["publish", "consume"] : [undefined];
  const svg = drawGrowth({ ...axis, notes: [], rows: rowsOf(axis.points, loads) }, "a machine");

  test("is drawn with a line for each engine in every panel", () => {
    expect(svg.match(/<path/g)).toHaveLength(axis.panels.length * loads.length * 2);
    for (const point of axis.points) expect(svg).toContain(`>${axis.format(point)}</text>`);
    expect(svg).toContain(`>${axis.label}</text>`);
  });

  test("has labels that do not lie upon each other, nor outside", () => {
    const labels = textsOf(svg);
    expect(labels.length).toBeGreaterThan(axis.panels.length * axis.points.length);
    const clashes = labels.flatMap((one, n) =>
      labels
        .slice(n + 1)
        .filter(
          (other) =>
            one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom,
        )
        .map((other) => `${one.text} and ${other.text}`),
    );
    expect(clashes).toEqual([]);
    for (const { left, right } of labels) {
      expect(left).toBeGreaterThanOrEqual(0);
      expect(right).toBeLessThanOrEqual(960);
    }
  });
});

test("an axis is found by its name, and all are without one", () => {
  expect(axesNamed("size").map(({ name }) => name)).toEqual(["size"]);
  expect(axesNamed(undefined)).toEqual(AXES);
  expect(axesNamed("depth")).toEqual([]);
});

describe("turns", () => {
  test("go to and fro, until each engine was measured for long enough", async () => {
    const turns: string[] = [];
    const levels = await byTurns(4, async (engine, seconds) => {
      turns.push(engine);
      const isNative = engine === "native";
      return {
        operations: 100,
        seconds,
        cpuMicros: isNative ? 1_000 : 2_000,
        latencies: Float64Array.of(isNative ? 1 : 2),
        residentBytes: turns.length * 2 ** 20,
      };
    });
    expect(turns).toEqual(["native", "grpc-js", "grpc-js", "native", "native", "grpc-js", "grpc-js", "native"]);
    expect(levels).toEqual({
      native: { cpuMicros: 10, perSecond: 100, p50: 1, p99: 1, residentMib: 8 },
      "grpc-js": { cpuMicros: 20, perSecond: 100, p50: 2, p99: 2, residentMib: 7 },
    });
  });

  test("that end by themselves are repeated", async () => {
    let turns = 0;
    const levels = await byTurns(3, async () => {
      turns += 1;
      return { operations: 10, seconds: 0.5, cpuMicros: 50, latencies: new Float64Array() };
    });
    expect(turns).toBe(12);
    expect(levels.native).toMatchObject({ cpuMicros: 5, perSecond: 20 });
    expect(levels.native).not.toHaveProperty("p50");
  });
});
