/** What a run of the conformance suites found, as a table. */

/** One suite in one setting: how many cases passed, and the names of those that did not. */
export interface Result {
  readonly suite: string;
  readonly setting: string;
  readonly passed: number;
  readonly failures: readonly string[];
  /** What cannot run here says why. */
  readonly skipped?: string;
  /** So many cases have to pass at least, lest some are not run. */
  readonly required: number;
}

/** Whether some of what ran did not pass, or less was run than there is. */
export function hasFailed({ passed, failures, required, skipped }: Result): boolean {
  return skipped === undefined && (failures.length > 0 || passed < required);
}

/** A line for each suite and setting, and below them what failed. */
export function formatResults(results: readonly Result[]): string {
  const rows = results.map((result) => [result.suite, result.setting, countOf(result), verdictOf(result)]);
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "));
  const failures = results.flatMap(({ suite, setting, failures: names }) =>
    names.map((name) => `${suite}, ${setting}: ${name}`),
  );
  return [...lines, ...(failures.length === 0 ? [] : ["", "not passed:", ...failures])].join("\n");
}

function countOf({ passed, failures, skipped }: Result): string {
  return skipped === undefined ? `${passed} of ${passed + failures.length}` : "-";
}

function verdictOf(result: Result): string {
  if (result.skipped !== undefined) return `skipped: ${result.skipped}`;
  return hasFailed(result) ? "FAILED" : "good";
}
