/** Tables in Markdown documents, for tests that hold documents against the code. */

/** The text between `<!-- name:start -->` and `<!-- name:end -->`. Throws where a marker is missing. */
export function section(document: string, name: string): string {
  const start = document.indexOf(`<!-- ${name}:start -->`);
  const end = document.indexOf(`<!-- ${name}:end -->`);
  if (start < 0 || end < start) throw new Error(`the markers of "${name}" are missing`);
  return document.slice(start, end);
}

/** The cells of a table's rows, without its head; however the formatter has aligned them. */
export function tableRows(markdown: string): string[][] {
  const rows = markdown.split("\n").filter((line) => line.startsWith("|"));
  return rows.slice(2).map((row) =>
    row
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

/** The texts in backticks. */
export function codeSpans(markdown: string): string[] {
  return [...markdown.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? "");
}
