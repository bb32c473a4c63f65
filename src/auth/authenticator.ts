/**
 * From what a call brings along to who calls. Whatever was proved once is remembered for as long as it is valid, so that
 * a call pays for one look into a map; only the first one of a JWT waits.
 *
 * A credential in `authorization` is taken before a certificate, and one that does not hold is an error: nobody becomes
 * somebody else because a token has run out.
 */
import type { X509Certificate } from "node:crypto";
import { WindshiftError } from "../errors.ts";
import { type CertificateName, certificateCredential } from "./certificates.ts";
import { CredentialCache } from "./credential-cache.ts";
import { type Credential, unauthenticated } from "./credential.ts";
import { JwtVerifier } from "./jwt.ts";
import { ANONYMOUS } from "./principal.ts";
import type { Tokens } from "./tokens.ts";

/** What a call brings along. */
export interface Proof {
  /** With `authorization`. */
  readonly metadata: { get(name: string): string | undefined };
  readonly peerCertificate: X509Certificate | undefined;
}

/** The ways to prove who one is; without any, everybody is anonymous. */
export interface AuthenticatorOptions {
  readonly tokens?: Tokens | undefined;
  readonly jwt?: JwtVerifier | undefined;
  /** Where client certificates have the name. */
  readonly certificateName?: CertificateName | undefined;
  /** Calls that wait until their JWT is checked, whosever; 10,000 unless given. */
  readonly maxWaiting?: number;
}

/** A JWT that is being checked, and how many calls wait for that. */
interface Check {
  readonly credential: Promise<Credential>;
  callers: number;
}

const NOBODY: Credential = { principal: ANONYMOUS, expiresAtMs: Infinity };
const BEARER = /^bearer +([^ ,]+) *$/i;
/** Longer ones are not looked at: no issuer makes them. */
const MAX_TOKEN_LENGTH = 16 * 1024;
const CACHE_BYTES = 32 * 1024 * 1024;
/** JWTs that are being checked, or wait for the keys of their issuer. */
const MAX_CHECKS = 1_000;
const MAX_WAITING = 10_000;
const RETRY_AFTER_MS = 100;

/** Finds out who calls. */
export class Authenticator {
  /** Other credentials hold than before: whatever lasts has to be proved again. Set by whoever has open calls. */
  onChange: (() => void) | undefined;
  /** Everybody is let in, as there is no way to prove anything. */
  readonly isOpen: boolean;
  readonly #jwt: JwtVerifier | undefined;
  readonly #certificateName: CertificateName | undefined;
  readonly #takesTokens: boolean;
  readonly #known = new CredentialCache(CACHE_BYTES);
  readonly #certificates = new WeakMap<X509Certificate, Credential>();
  readonly #checks = new Map<string, Check>();
  #tokens: Tokens | undefined;
  readonly #maxWaiting: number;
  #waiting = 0;
  #generation = 0;

  constructor({ tokens, jwt, certificateName, maxWaiting = MAX_WAITING }: AuthenticatorOptions) {
    this.#maxWaiting = maxWaiting;
    this.#tokens = tokens;
    this.#jwt = jwt;
    this.#certificateName = certificateName;
    this.#takesTokens = tokens !== undefined || jwt !== undefined;
    this.isOpen = !this.#takesTokens && certificateName === undefined;
  }

  /** Other tokens take the place of those that it was made with. */
  replaceTokens(tokens: Tokens): void {
    this.#tokens = tokens;
    this.forget();
  }

  /** Everything has to be proved again, as keys or tokens are others than before. */
  forget(): void {
    this.#generation += 1;
    this.#known.clear();
    this.onChange?.();
  }

  /** Who calls: at once where that is known. Throws or rejects with UNAUTHENTICATED where nobody can tell. */
  authenticate(proof: Proof): Credential | Promise<Credential> {
    if (this.isOpen) return NOBODY;
    const authorization = this.#takesTokens ? proof.metadata.get("authorization") : undefined;
    if (authorization !== undefined) {
      const known = this.#known.get(authorization);
      if (known !== undefined && known.expiresAtMs > Date.now()) return known;
      return this.#prove(authorization);
    }
    const certificate = proof.peerCertificate;
    if (certificate === undefined || this.#certificateName === undefined)
      throw unauthenticated("there is no credential");
    return valid(this.#ofCertificate(certificate, this.#certificateName));
  }

  #prove(authorization: string): Credential | Promise<Credential> {
    this.#known.delete(authorization);
    if (authorization.length > MAX_TOKEN_LENGTH) throw unauthenticated("authorization is too long");
    const token = BEARER.exec(authorization)?.[1];
    if (token === undefined) throw unauthenticated("authorization is not one Bearer token");
    const found = this.#tokens?.find(token);
    if (found !== undefined) {
      this.#known.set(authorization, valid(found));
      return found;
    }
    if (this.#jwt === undefined || !JwtVerifier.isJwt(token)) throw unauthenticated("the token is not known");
    return this.#wait(this.#jwt, authorization, token);
  }

  /** Calls that wait take room from others: one JWT that is made up could come with all there are. */
  #wait(jwt: JwtVerifier, authorization: string, token: string): Promise<Credential> {
    if (this.#waiting >= this.#maxWaiting) throw overloaded(`calls wait for a check: ${this.#maxWaiting} already`);
    let check = this.#checks.get(authorization);
    if (check === undefined) this.#checks.set(authorization, (check = this.#check(jwt, authorization, token)));
    this.#waiting += 1;
    check.callers += 1;
    return check.credential;
  }

  /** Calls that come with the same JWT wait for one check of it. */
  #check(jwt: JwtVerifier, authorization: string, token: string): Check {
    if (this.#checks.size >= MAX_CHECKS) throw overloaded(`credentials to check: ${MAX_CHECKS} in progress`);
    const credential = this.#verify(jwt, authorization, token).finally(() => {
      this.#checks.delete(authorization);
      this.#waiting -= check.callers;
    });
    const check: Check = { credential, callers: 0 };
    return check;
  }

  async #verify(jwt: JwtVerifier, authorization: string, token: string): Promise<Credential> {
    for (;;) {
      const generation = this.#generation;
      const credential = await jwt.verify(token);
      // Keys that changed meanwhile may no longer hold the one that it was checked with.
      if (generation !== this.#generation) continue;
      this.#known.set(authorization, credential);
      return credential;
    }
  }

  #ofCertificate(certificate: X509Certificate, from: CertificateName): Credential {
    let credential = this.#certificates.get(certificate);
    if (credential === undefined) {
      credential = certificateCredential(certificate, from);
      this.#certificates.set(certificate, credential);
    }
    return credential;
  }
}

function overloaded(what: string): WindshiftError {
  return new WindshiftError("OVERLOADED", `too many ${what}`, { outcome: "not_stored", retryAfterMs: RETRY_AFTER_MS });
}

function valid(credential: Credential): Credential {
  if (credential.expiresAtMs <= Date.now()) throw unauthenticated("the credential has expired");
  return credential;
}
