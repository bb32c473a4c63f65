/**
 * The public keys of an issuer of JWTs (a JWKS, RFC 7517), from its URL or from a file. What was had last stays in use
 * while nothing newer can be had: an issuer that is down locks nobody out whose key is known.
 */
import { readFileSync } from "node:fs";
import { type JWTVerifyGetKey, createLocalJWKSet } from "jose";
import { watchFiles } from "../watched-files.ts";

/** Where keys come from. Disposing it ends what keeps them new. */
export interface KeySource extends Disposable {
  /** Finds the key that a token names among those that are known; undefined while none ever were. */
  readonly find: JWTVerifyGetKey | undefined;
  /** Looks for newer ones, for a token whose key is not among them: soon, or not at all where that was just tried. */
  refresh(): Promise<void>;
  /** Other keys than before are known; set by whoever uses them. */
  onChange: (() => void) | undefined;
}

/** How to fetch keys. */
export interface RemoteKeysOptions {
  readonly url: string;
  /** Between two looks at keys that are there. */
  readonly refreshMs: number;
  /** What one look may take. */
  readonly timeoutMs: number;
  /** Between two looks, whatever for; 10 s unless given. */
  readonly cooldownMs?: number;
}

/** Hears of keys that cannot be had. */
interface KeysLogger {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const COOLDOWN_MS = 10_000;
const RETRY_MS = 30_000;
const MAX_BYTES = 1024 * 1024;

/** Keys behind a URL. */
export class RemoteKeys implements KeySource {
  find: JWTVerifyGetKey | undefined;
  onChange: (() => void) | undefined;
  readonly #options: RemoteKeysOptions;
  readonly #logger: KeysLogger;
  readonly #end = new AbortController();
  #text: string | undefined;
  #looking: Promise<void> | undefined;
  #lookedAt = -Infinity;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: RemoteKeysOptions, logger: KeysLogger) {
    this.#options = options;
    this.#logger = logger;
  }

  /** The first look; where it finds nothing, the next ones may. */
  async start(): Promise<void> {
    await this.#look();
  }

  async refresh(): Promise<void> {
    const { cooldownMs = COOLDOWN_MS } = this.#options;
    if (this.#looking === undefined && performance.now() - this.#lookedAt < cooldownMs) return;
    await this.#look();
  }

  [Symbol.dispose](): void {
    this.#end.abort();
    clearTimeout(this.#timer);
  }

  /** One look at a time: whoever wants another joins it. */
  async #look(): Promise<void> {
    this.#looking ??= this.#fetch().finally(() => {
      this.#looking = undefined;
      this.#lookedAt = performance.now();
    });
    return this.#looking;
  }

  async #fetch(): Promise<void> {
    clearTimeout(this.#timer);
    const { url, refreshMs, timeoutMs } = this.#options;
    let nextMs = refreshMs;
    try {
      const signal = AbortSignal.any([this.#end.signal, AbortSignal.timeout(timeoutMs)]);
      this.#take(await load(url, signal));
    } catch (error) {
      if (this.#end.signal.aborted) return;
      nextMs = Math.min(RETRY_MS, refreshMs);
      const rest = this.find === undefined ? "no JWT can be checked until then" : "those that are known stay in use";
      this.#logger.warn({ err: error, url: shown(url) }, `the keys of JWTs could not be had: ${rest}`);
    }
    this.#timer = setTimeout(() => void this.#look(), nextMs).unref();
  }

  #take(text: string): void {
    if (text === this.#text) return;
    this.find = parseKeys(text);
    this.#text = text;
    this.onChange?.();
  }
}

/** Keys in a file, which is read again when it changes. */
export class FileKeys implements KeySource {
  find: JWTVerifyGetKey;
  onChange: (() => void) | undefined;
  readonly #watch: Disposable;

  /** Throws where the file holds no keys. */
  constructor(path: string, logger: KeysLogger) {
    this.#watch = watchFiles([path], () => {
      try {
        this.find = parseKeys(readFileSync(path, "utf8"));
        this.onChange?.();
      } catch (error) {
        logger.error({ err: error, path }, "the changed file of keys cannot be used: those before stay in use");
      }
    });
    try {
      this.find = parseKeys(readFileSync(path, "utf8"));
    } catch (error) {
      this.#watch[Symbol.dispose]();
      throw error;
    }
  }

  /** Changes are found by themselves. */
  async refresh(): Promise<void> {}

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }
}

function parseKeys(text: string): JWTVerifyGetKey {
  const keys: unknown = JSON.parse(text);
  const list = typeof keys === "object" && keys !== null && "keys" in keys ? keys.keys : undefined;
  if (!Array.isArray(list) || list.length === 0) throw new Error("this is no JWKS: there is no list of keys");
  return createLocalJWKSet({ keys: list });
}

/** A URL as it may stand in a log: there are issuers that take a secret in its query. */
function shown(url: string): string {
  const { origin, pathname } = new URL(url);
  return origin + pathname;
}

async function load(url: string, signal: AbortSignal): Promise<string> {
  // A redirect could lead to plain text, or to what only this machine can reach.
  const response = await fetch(url, { signal, redirect: "error", headers: { accept: "application/json" } });
  if (!response.ok || response.body === null) throw new Error(`the answer of ${shown(url)} is ${response.status}`);
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of response.body) {
    size += part.length;
    if (size > MAX_BYTES) throw new Error(`the answer of ${shown(url)} has more than ${MAX_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}
