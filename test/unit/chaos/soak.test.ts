import { fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EventsRequestSchema } from "../../../src/gen/windshift/events/v1alpha1/events_pb.ts";
import { encodeSubscribe } from "../../support/load-client.ts";
import { drawPlot } from "../../support/plot.ts";
import { Tally } from "../../chaos/soak-tally.ts";
import { judgeTrend, secondHalf, trendOf } from "../../chaos/soak-trend.ts";

/** A sample every five seconds for ten minutes. */
function level(valueAt: (seconds: number) => number) {
  return Array.from({ length: 121 }, (_, n) => ({ at: n * 5, value: valueAt(n * 5) }));
}

test("a subscription of the load asks for the window it names", () => {
  const { request } = fromBinary(EventsRequestSchema, encodeSubscribe("s", "c", 500));
  expect(request).toMatchObject({
    case: "subscribe",
    value: { stream: "s", consumer: "c", maxProcessingEvents: 500n },
  });
});

test("the slope of a straight line is its own", () => {
  const { slope, growth, mean } = trendOf(level((at) => 100 + 0.5 * at));
  expect(slope).toBeCloseTo(0.5);
  expect(growth).toBeCloseTo(300);
  expect(mean).toBeCloseTo(250);
});

test.each([
  { name: "no sample", points: [] },
  { name: "one sample", points: [{ at: 3, value: 7 }] },
  {
    name: "samples of one moment",
    points: [
      { at: 3, value: 7 },
      { at: 3, value: 9 },
    ],
  },
])("$name has no slope", ({ points }) => {
  expect(trendOf(points)).toMatchObject({ slope: 0, growth: 0 });
});

test("the second half is that of the time, not of the samples", () => {
  const points = [0, 1, 2, 3, 4, 5, 6, 100].map((at) => ({ at, value: at }));
  expect(secondHalf(points).map(({ at }) => at)).toEqual([100]);
});

test.each([
  { name: "a level that stays", valueAt: () => 200, isGood: true },
  { name: "one that rises at first and then stays", valueAt: (at: number) => 100 + Math.min(at, 250), isGood: true },
  { name: "one that saws", valueAt: (at: number) => 100 + (at % 40), isGood: true },
  { name: "one that falls", valueAt: (at: number) => 500 - at / 4, isGood: true },
  { name: "one that rises a little", valueAt: (at: number) => 100 + at / 60, isGood: true },
  { name: "one that rises all the time", valueAt: (at: number) => 100 + at / 10, isGood: false },
  { name: "one that saws and rises", valueAt: (at: number) => 100 + (at % 40) + at / 10, isGood: false },
])("$name is judged by its second half", ({ valueAt, isGood }) => {
  const verdict = judgeTrend("RSS", level(valueAt), 16, "MiB");
  expect(verdict === undefined).toBe(isGood);
});

test("a broken trend says by how much", () => {
  expect(
    judgeTrend(
      "RSS",
      level((at) => at / 10),
      16,
      "MiB",
    ),
  ).toBe("RSS grew by 30.0 MiB over the second half, 16 MiB being allowed");
});

test("a level that was never measured is no good level", () => {
  expect(judgeTrend("RSS", [], 16, "MiB")).toBe("RSS was not measured over the second half");
});

test("a tally tells what was missed, invented and came again after its ack", () => {
  const tally = new Tally();
  const settle = (id: number): void => {
    tally.published(id);
    tally.delivered(id);
    tally.acked(id);
    tally.confirmedAck(id);
  };
  settle(1);
  settle(2);
  // Delivered, never acknowledged; never delivered; handed on to another; delivered again after its ack; invented.
  tally.published(3);
  tally.delivered(3);
  tally.published(4);
  tally.published(5);
  expect(tally.delivered(5)).toBe(true);
  expect(tally.delivered(5)).toBe(false);
  tally.acked(5);
  tally.confirmedAck(5);
  tally.delivered(2);
  // What one that leaves still reads, another one may have acknowledged.
  tally.delivered(1, true);
  tally.delivered(6);
  expect(tally.verdict()).toEqual({
    published: 5,
    confirmed: 3,
    redelivered: 3,
    missed: 2,
    invented: 1,
    duplicated: 1,
    examples: [2, 3, 4, 6],
  });
});

test("a tally grows with the ids", () => {
  const tally = new Tally();
  tally.published(5_000_000);
  expect(tally.verdict()).toMatchObject({ published: 1, missed: 1, examples: [5_000_000] });
});

const PLOT = {
  title: "Levels <of> A & B",
  lines: ["a machine", "its settings"],
  marks: [{ at: 1, label: "warm" }],
  panels: [
    {
      title: "Memory",
      unit: "MiB",
      series: [
        {
          name: "RSS",
          points: [
            [0, 10],
            [1, Number.NaN],
            [2, 95],
            [3, 97],
          ],
        },
        { name: "heap", points: [] },
      ],
    },
    { title: "Throughput", unit: "events/s", series: [{ name: "published", points: [[0, 1500]] }] },
  ],
} as const;

test("a drawing has a title, a description, axes with units and a name for each line", () => {
  const svg = drawPlot(PLOT);
  expect(svg).toContain('role="img" aria-labelledby="title desc"');
  expect(svg).toContain('<title id="title">Levels &lt;of&gt; A &amp; B</title>');
  expect(svg).toContain("RSS from 10 to 97, in the end 97; heap has no values.");
  for (const text of ["Memory, MiB", "Throughput, events/s", "minutes", "RSS", "heap", "warm", "a machine"]) {
    expect(svg).toContain(`>${text}</text>`);
  }
});

test("a drawing is readable in light and dark, and not by colour alone", () => {
  const svg = drawPlot(PLOT);
  expect(svg).toContain("@media(prefers-color-scheme:dark)");
  expect(svg).toContain('<rect class="paper"');
  expect(svg).toContain('class="series s1" stroke-dasharray="6 3"');
});

test("axes end at round numbers above the largest value", () => {
  const labels = [...drawPlot(PLOT).matchAll(/class="small end"[^>]*>([^<]+)</g)].map(([, label]) => label);
  expect(labels).toEqual(["0", "50", "100", "0", "500", "1,000", "1,500"]);
});

test("a value that is missing leaves a gap", () => {
  const paths = [...drawPlot(PLOT).matchAll(/<path class="series s0" d="([^"]+)"/g)].map(([, path]) => path);
  expect(paths).toHaveLength(3);
  expect(paths[1]).toMatch(/^M[\d.]+ [\d.]+L[\d.]+ [\d.]+$/);
  expect(drawPlot(PLOT)).not.toContain("NaN");
});

test("nothing to draw is drawn as nothing", () => {
  const svg = drawPlot({ title: "t", lines: [], marks: [], panels: [{ title: "p", unit: "u", series: [] }] });
  expect(svg).toContain("</svg>");
  expect(svg).not.toContain("NaN");
});
