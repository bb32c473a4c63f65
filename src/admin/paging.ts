/**
 * Lists in pages. A token names the entry that a page ended with, so that what comes and goes meanwhile neither repeats nor
 * hides others. It carries a digest of itself and its list: a token that was altered, or belongs to another list, is refused.
 */
import { createHash } from "node:crypto";
import { fieldError, quote } from "../errors.ts";

/** Which page to bring; as clients ask for it. */
export interface PageRequest {
  readonly size: number | undefined;
  readonly token: string | undefined;
}

/** A page, and what brings the next one; empty for the last. */
export interface Page<Entry> {
  readonly entries: readonly Entry[];
  readonly nextToken: string;
}

const DEFAULT_SIZE = 100;
const MAX_SIZE = 1000;
const DIGEST_BYTES = 8;
/** Questions of one page that are open at once. */
const MAX_PARALLEL = 16;

/** How many entries a page may have. */
export function pageSize({ size }: PageRequest): number {
  return Math.min(size || DEFAULT_SIZE, MAX_SIZE);
}

/** A token for the page of `list` after the entry `after`. */
export function encodeToken(list: string, after: string): string {
  return Buffer.concat([digest(list, after), Buffer.from(after)]).toString("base64url");
}

/** The entry that the page before ended with; empty for the first page. Throws on a token that is none of this list. */
export function decodeToken(list: string, { token = "" }: PageRequest): string {
  if (token === "") return "";
  const bytes = Buffer.from(token, "base64url");
  const after = bytes.subarray(DIGEST_BYTES).toString();
  const isOurs = after !== "" && encodeToken(list, after) === token;
  if (!isOurs) throw fieldError("INVALID_VALUE", "page_token", `${quote(token)} is no token of this list`);
  return after;
}

/**
 * One page of what has names. `namesAfter` brings names in order, `look` what there is under one: undefined for what is
 * gone, or does not belong into the list.
 */
export async function listPage<Entry>(
  list: string,
  page: PageRequest,
  namesAfter: (after: string, count: number) => Promise<string[]>,
  look: (name: string) => Promise<Entry | undefined>,
): Promise<Page<Entry>> {
  const size = pageSize(page);
  for (let after = decodeToken(list, page); ;) {
    // One more tells whether there is another page.
    const names = await namesAfter(after, size + 1);
    const here = names.slice(0, size);
    const entries = (await inParallel(here, look)).filter((entry) => entry !== undefined);
    if (names.length === here.length) return { entries, nextToken: "" };
    after = here.at(-1)!;
    if (entries.length > 0) return { entries, nextToken: encodeToken(list, after) };
  }
}

/** Asks about each, a few at a time; the answers are in order. */
export async function inParallel<Item, Result>(
  items: readonly Item[],
  ask: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      results[index] = await ask(items[index]!);
    }
  };
  await Promise.all(Array.from({ length: Math.min(MAX_PARALLEL, items.length) }, worker));
  return results;
}

function digest(list: string, after: string): Buffer {
  return createHash("sha256").update(`${list}\0${after}`).digest().subarray(0, DIGEST_BYTES);
}
