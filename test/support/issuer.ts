/** An issuer of JWTs with its keys, and an HTTP server that shows them as tests want it. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { type CryptoKey, type JWK, SignJWT, exportJWK, generateKeyPair } from "jose";

export const ISSUER = "https://issuer.example";
export const AUDIENCE = "windshift";
/** It never answers. */
export const SILENT = 0;

/** What a token of a test differs in. */
export interface TokenChanges {
  readonly claims?: Readonly<Record<string, unknown>>;
  readonly header?: Readonly<Record<string, unknown>>;
  /** Seconds from now; an hour unless given. */
  readonly expiresIn?: number;
  readonly notBeforeIn?: number;
}

/** Signs tokens with one key. */
export class SigningKey {
  readonly publicJwk: JWK;
  readonly #private: CryptoKey;
  readonly #alg: string;

  static async make(kid = "key-1", alg = "ES256"): Promise<SigningKey> {
    const { publicKey, privateKey } = await generateKeyPair(alg);
    return new SigningKey(privateKey, { ...(await exportJWK(publicKey)), kid, alg, use: "sig" });
  }

  private constructor(privateKey: CryptoKey, publicJwk: JWK) {
    this.#private = privateKey;
    this.publicJwk = publicJwk;
    this.#alg = publicJwk.alg!;
  }

  /** A token that holds, but for the changes. */
  async sign({ claims = {}, header = {}, expiresIn = 3600, notBeforeIn }: TokenChanges = {}): Promise<string> {
    const now = Math.floor(Date.now() / 1000);
    const times = { exp: now + expiresIn, ...(notBeforeIn === undefined ? {} : { nbf: now + notBeforeIn }) };
    const payload: Record<string, unknown> = { iss: ISSUER, aud: AUDIENCE, sub: "orders", ...times, ...claims };
    return new SignJWT(payload)
      .setProtectedHeader({ alg: this.#alg, kid: this.publicJwk.kid!, ...header })
      .sign(this.#private);
  }
}

/** The text of a JWKS. */
export function jwks(...keys: readonly SigningKey[]): string {
  return JSON.stringify({ keys: keys.map(({ publicJwk }) => publicJwk) });
}

/** A server of keys. What it answers can be changed, also to nothing at all. */
export interface KeyServer extends AsyncDisposable {
  readonly url: string;
  /** How often it was asked. */
  readonly requests: number;
  /** A text, a status, or {@link SILENT}. */
  answer: string | number;
}

/** Starts one on a free port. */
export async function startKeyServer(answer: KeyServer["answer"]): Promise<KeyServer> {
  const state = { answer, requests: 0 };
  const server = createServer((_request, response) => {
    state.requests += 1;
    if (state.answer === SILENT) return;
    if (typeof state.answer === "number") response.writeHead(state.answer, { location: "/elsewhere" }).end();
    else response.end(state.answer);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`,
    get requests() {
      return state.requests;
    },
    get answer() {
      return state.answer;
    },
    set answer(value) {
      state.answer = value;
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
