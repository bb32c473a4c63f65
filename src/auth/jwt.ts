/** Tokens that an issuer has signed (RFC 7519): who signed them, for whom, until when, and what they say of their holder. */
import { type JWTPayload, type JWTVerifyGetKey, errors, jwtVerify } from "jose";
import { WindshiftError } from "../errors.ts";
import { claimOf } from "./claim.ts";
import { type Credential, isPrincipalName, unauthenticated } from "./credential.ts";
import type { KeySource } from "./keys.ts";

/** What a JWT has to be to be accepted. */
export interface JwtOptions {
  readonly issuer: string;
  /** One of them has to be among the token's own. */
  readonly audiences: readonly string[];
  readonly algorithms: readonly string[];
  /** How far the clocks of issuer and server may be apart. */
  readonly clockToleranceMs: number;
  /** The claim that names the holder, and the one that lists the groups. */
  readonly nameClaim: string;
  readonly groupsClaim: string;
}

const RETRY_AFTER_MS = 1_000;
/** Tokens that wait for newer keys. */
const MAX_WAITING = 100;
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const MAX_GROUPS = 1_000;

/** Checks JWTs with the keys of one issuer. */
export class JwtVerifier {
  readonly #options: JwtOptions;
  readonly #keys: KeySource;
  #waiting = 0;

  constructor(options: JwtOptions, keys: KeySource) {
    this.#options = options;
    this.#keys = keys;
  }

  /** Whether it looks like a signed JWT at all. */
  static isJwt(token: string): boolean {
    return COMPACT.test(token);
  }

  /** Rejects with UNAUTHENTICATED, or with AUTHENTICATION_UNAVAILABLE while no keys are known. */
  async verify(token: string): Promise<Credential> {
    if (this.#keys.find === undefined) await this.#refresh();
    let payload = await this.#check(token);
    if (payload === undefined) {
      // A key that is not known may be a new one.
      await this.#refresh();
      payload = await this.#check(token);
    }
    if (payload === undefined) throw unauthenticated("JWT: its key is not among those of the issuer");
    return this.#credential(payload);
  }

  /** Anybody can make up keys to be looked for: those who wait take no room from those whose key is known. */
  async #refresh(): Promise<void> {
    if (this.#waiting >= MAX_WAITING) throw unavailable();
    this.#waiting += 1;
    try {
      await this.#keys.refresh();
    } finally {
      this.#waiting -= 1;
    }
  }

  /** Undefined where its key is not known. */
  async #check(token: string): Promise<JWTPayload | undefined> {
    const { issuer, audiences, algorithms, clockToleranceMs } = this.#options;
    try {
      const { payload } = await jwtVerify(token, this.#find(), {
        issuer,
        audience: [...audiences],
        algorithms: [...algorithms],
        clockTolerance: clockToleranceMs / 1000,
        requiredClaims: ["exp"],
      });
      return payload;
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey) return undefined;
      if (error instanceof WindshiftError) throw error;
      // The error itself would bring all claims into the log.
      throw unauthenticated(`JWT: ${(error as Error).message}`);
    }
  }

  #find(): JWTVerifyGetKey {
    const { find } = this.#keys;
    if (find === undefined) throw unavailable();
    return find;
  }

  #credential(payload: JWTPayload): Credential {
    const { nameClaim, groupsClaim, clockToleranceMs } = this.#options;
    const name = claimOf(payload, nameClaim);
    if (!isPrincipalName(name)) throw unauthenticated(`JWT: its claim ${nameClaim} is no name`);
    const groups = groupsOf(claimOf(payload, groupsClaim));
    if (groups === undefined) throw unauthenticated(`JWT: its claim ${groupsClaim} is no list of groups`);
    const expiresAtMs = payload.exp! * 1000 + clockToleranceMs;
    return { principal: { name, kind: "jwt", groups, claims: payload }, expiresAtMs };
  }
}

function unavailable(): WindshiftError {
  return new WindshiftError("AUTHENTICATION_UNAVAILABLE", "the credential cannot be checked at the moment", {
    outcome: "not_stored",
    retryAfterMs: RETRY_AFTER_MS,
  });
}

/** Undefined where it is neither a list of texts nor one text. */
function groupsOf(claim: unknown): readonly string[] | undefined {
  if (claim === undefined || claim === null) return [];
  const groups: readonly unknown[] = Array.isArray(claim) ? claim : [claim];
  return groups.length <= MAX_GROUPS && groups.every((group) => typeof group === "string") ? groups : undefined;
}
