/** Lists of filters, as streams, sources and consumers have them. Pure functions. */
import { fieldError, quote } from "../errors.ts";
import { checkFilter, filtersOverlap } from "../names.ts";

/**
 * Longest list. nats-server compares each with each and does nothing else meanwhile: a thousand take it 50 ms, ten
 * thousand more than 5 s.
 */
const MAX_FILTERS = 1000;

/** Throws unless all filters are valid and none overlaps with another; JetStream wants it so. */
export function checkFilters(field: string, filters: readonly string[]): void {
  checkCount(field, filters.length);
  const seen: { readonly filter: string; readonly tokens: readonly string[] }[] = [];
  for (const [index, filter] of filters.entries()) {
    checkFilter(`${field}[${index}]`, filter);
    const tokens = filter.split(".");
    const other = seen.find((earlier) => filtersOverlap(earlier.tokens, tokens));
    if (other !== undefined) {
      const problem = `${quote(filter)} overlaps with ${quote(other.filter)}`;
      throw fieldError("CONFLICTING_FIELDS", `${field}[${index}]`, problem);
    }
    seen.push({ filter, tokens });
  }
}

/** Throws where a list is too long. */
export function checkCount(field: string, count: number): void {
  if (count > MAX_FILTERS)
    throw fieldError("INVALID_VALUE", field, `has ${count} entries, at most ${MAX_FILTERS} may be`);
}

/** True where `filter` takes in all of `subject`, which may have wildcards itself. */
export function matches(filter: string, subject: string): boolean {
  const tokens = subject.split(".");
  const wanted = filter.split(".");
  for (const [index, token] of wanted.entries()) {
    if (token === ">") return index < tokens.length;
    if (tokens[index] === undefined || tokens[index] === ">") return false;
    if (token !== "*" && token !== tokens[index]) return false;
  }
  return wanted.length === tokens.length;
}
