/** What a benchmark measured, and how it is printed. */
import { cpus, release, totalmem } from "node:os";

/** Figures of one scenario. */
export interface Figures {
  readonly operations: number;
  readonly seconds: number;
  /** Server CPU time, in microseconds, over all operations. */
  readonly cpuMicros: number;
  /** Latency of single operations in milliseconds; empty where there is none. */
  readonly latencies: Float64Array;
  /** Most resident memory of the server that was seen, in bytes, where it was looked at. */
  readonly residentBytes?: number;
}

/** Figures with the scenario's name. */
export interface Result extends Figures {
  readonly name: string;
}

/** One line about the machine. */
export function cpuModel(): string {
  const [first] = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${first?.model ?? "unknown CPU"}, ${cpus().length} cores, ${memory} GiB, Linux ${release()}, Node ${process.versions.node}`;
}

/** A Markdown table of scenarios. */
export function formatReport(results: readonly Result[]): string {
  const rows = results.map((result) => {
    const sorted = result.latencies.toSorted();
    return [
      result.name,
      Math.round(result.operations / result.seconds).toLocaleString("en"),
      (result.cpuMicros / result.operations).toFixed(1),
      ...[0.5, 0.99, 0.999].map((share) => percentile(sorted, share)?.toFixed(2) ?? ""),
      result.residentBytes === undefined ? "" : String(Math.round(result.residentBytes / 2 ** 20)),
    ];
  });
  const head = ["scenario", "operations/s", "server CPU µs/op", "p50 ms", "p99 ms", "p99.9 ms", "memory MiB"];
  return ["", markdownTable(head, rows), ""].join("\n");
}

/** A Markdown table; all columns but the first are numbers. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? "---" : "--:"))), ...rows.map(line)].join("\n");
}

/** The value below which such a share lies; undefined without values. */
export function percentile(sorted: Float64Array, share: number): number | undefined {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}
