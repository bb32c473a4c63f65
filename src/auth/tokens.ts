/**
 * Static tokens: a file of names and hashes, one token a line. The server never holds a token that it was not just shown,
 * and whoever reads the file cannot call with it.
 *
 *     # who        hash of the token      groups            until
 *     orders       sha256:2bb80d53…       groups=shop,eu    expires=2027-01-01T00:00:00Z
 *
 * Tokens are 256 random bits, so a fast hash is enough: there is nothing to guess. A name may stand on several lines, which
 * is how a token is replaced without a gap.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { quote } from "../errors.ts";
import { type Credential, isPrincipalName } from "./credential.ts";

/** What may be said of a token when it is made. */
export interface TokenSpec {
  readonly name: string;
  readonly groups?: readonly string[];
  readonly expiresAt?: Date | undefined;
}

/** Most tokens of a file. */
const MAX_TOKENS = 10_000;
const PREFIX = "wst_";
const TOKEN_BYTES = 32;
const HASH = /^sha256:([0-9a-f]{64})$/;
/** What needs no quoting in the file, nor anywhere else. */
const WORD = /^[A-Za-z0-9_.:@/-]{1,128}$/;
const WORD_CHARACTERS = 'letters, digits and "_.:@/-", at most 128';

/** A new token, and its line for the file; the token itself is kept nowhere. Throws on a name that cannot be in a file. */
export function createToken({ name, groups = [], expiresAt }: TokenSpec): {
  readonly token: string;
  readonly line: string;
} {
  for (const word of [name, ...groups]) {
    if (!WORD.test(word)) throw new Error(`${quote(word)} may hold only ${WORD_CHARACTERS}`);
  }
  const token = PREFIX + randomBytes(TOKEN_BYTES).toString("base64url");
  const parts = [name, `sha256:${hashOf(token).toString("hex")}`];
  if (groups.length > 0) parts.push(`groups=${groups.join(",")}`);
  if (expiresAt !== undefined) parts.push(`expires=${expiresAt.toISOString()}`);
  return { token, line: parts.join(" ") };
}

/** The tokens of a file. */
export class Tokens {
  readonly #byKey = new Map<string, { readonly hash: Buffer; readonly credential: Credential }>();
  /**
   * Hashes are looked up by a keyed hash of them, with a key that nobody outside of this process knows: how long a search
   * takes says nothing of what it compares.
   */
  readonly #key = randomBytes(TOKEN_BYTES);

  /** Throws an error that names each line at fault by its number: what stands there may be a secret that got there by mistake. */
  constructor(text: string) {
    const faults: string[] = [];
    for (const [index, line] of text.split("\n").entries()) {
      const problem = this.#add(line);
      if (problem !== undefined) faults.push(`line ${index + 1}: ${problem}`);
      if (faults.length === MAX_FAULTS) break;
    }
    if (this.#byKey.size > MAX_TOKENS) faults.push(`there are more than ${MAX_TOKENS} tokens`);
    if (faults.length > 0) throw new Error(faults.join("; "));
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** Whose token it is; undefined where it is none of these. It may have expired. */
  find(token: string): Credential | undefined {
    const hash = hashOf(token);
    const entry = this.#byKey.get(this.#keyOf(hash));
    return entry !== undefined && timingSafeEqual(entry.hash, hash) ? entry.credential : undefined;
  }

  #add(line: string): string | undefined {
    const [name = "", hashText = "", ...settings] = line.trim().split(/\s+/);
    if (name === "" || name.startsWith("#")) return undefined;
    if (!WORD.test(name) || !isPrincipalName(name)) return `the name may hold only ${WORD_CHARACTERS}`;
    const hex = HASH.exec(hashText)?.[1];
    if (hex === undefined) return `after the name there has to be sha256: and 64 hexadecimal digits`;
    const hash = Buffer.from(hex, "hex");
    const key = this.#keyOf(hash);
    if (this.#byKey.has(key)) return "its token is there already";
    let groups: readonly string[] = [];
    let expiresAtMs = Infinity;
    for (const setting of settings) {
      const [kind, value = ""] = setting.split("=", 2);
      if (kind === "groups" && value.split(",").every((group) => WORD.test(group))) groups = value.split(",");
      else if (kind === "expires" && TIME.test(value)) expiresAtMs = Date.parse(value);
      else return `what follows the hash is neither groups=a,b nor expires=2027-01-01T00:00:00Z`;
    }
    if (Number.isNaN(expiresAtMs)) return "expires is no time";
    this.#byKey.set(key, { hash, credential: { principal: { name, kind: "token", groups, claims: {} }, expiresAtMs } });
    return undefined;
  }

  #keyOf(hash: Buffer): string {
    return createHmac("sha256", this.#key).update(hash).digest("base64");
  }
}

const MAX_FAULTS = 10;
const TIME = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2}))?$/;

function hashOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
