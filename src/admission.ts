/** Part of the composition root: from the configuration to the guard that all calls pass, and what keeps it up to date. */
import { readFileSync } from "node:fs";
import { Audit } from "./auth/audit.ts";
import { Authenticator } from "./auth/authenticator.ts";
import { JwtVerifier } from "./auth/jwt.ts";
import { FileKeys, type KeySource, RemoteKeys } from "./auth/keys.ts";
import { Allowances } from "./auth/limits.ts";
import { Policy } from "./auth/policy.ts";
import { Tokens } from "./auth/tokens.ts";
import type { Config } from "./config/config.ts";
import { Guard } from "./grpc/guard.ts";
import { StartError } from "./nats/start-error.ts";
import { type Logger, openAuditLog } from "./telemetry/logger.ts";
import { watchFiles } from "./watched-files.ts";

/** The guard with all that it needs. Disposing it ends the watch over files and keys. */
export interface Admission extends Disposable {
  readonly guard: Guard;
}

/** Reads policy, tokens and keys. Rejects where a file cannot be used; keys that cannot be fetched now may come later. */
export async function openAdmission(
  { auth, auditLog, principalLimits, grpc }: Config,
  logger: Logger,
): Promise<Admission> {
  using stack = new DisposableStack();
  const audit = new Audit(auditLog === undefined ? undefined : usable("AUDIT_LOG", auditLog, openAuditLog));
  const keys = auth.jwt === undefined ? undefined : stack.use(await openKeys(auth.jwt.keys, logger));
  const { tokensFile, policyFile, certificateName } = auth;
  const follow = (path: string, what: string, take: () => object): unknown =>
    stack.use(followFile(path, what, take, audit, logger));
  // Watched before they are read: no change is missed.
  if (tokensFile !== undefined) {
    follow(tokensFile, "the file of tokens", () => {
      const tokens = readTokens(tokensFile);
      authenticator.replaceTokens(tokens);
      return { tokens: tokens.size };
    });
  }
  if (policyFile !== undefined) {
    follow(policyFile, "the policy", () => {
      const policy = readPolicy(policyFile);
      guard.usePolicy(policy);
      return { rules: policy.size };
    });
  }
  const authenticator = new Authenticator({
    tokens: tokensFile === undefined ? undefined : usable("AUTH_TOKENS_FILE", tokensFile, readTokens),
    jwt: auth.jwt === undefined ? undefined : new JwtVerifier(auth.jwt, keys!),
    certificateName,
    // Calls whose credential is known have the rest.
    maxWaiting: Math.ceil(grpc.maxCalls / 4),
  });
  const guard = stack.use(new Guard({ authenticator, allowances: new Allowances(principalLimits), audit }));
  if (policyFile !== undefined) guard.usePolicy(usable("AUTH_POLICY_FILE", policyFile, readPolicy));
  if (keys !== undefined) {
    keys.onChange = () => {
      audit.changed("the keys of JWTs");
      authenticator.forget();
    };
  }
  tellWhoIsLetIn(authenticator, policyFile, logger);
  const owned = stack.move();
  return { guard, [Symbol.dispose]: () => owned.dispose() };
}

function tellWhoIsLetIn({ isOpen }: Authenticator, policyFile: string | undefined, logger: Logger): void {
  const ways = "AUTH_TOKENS_FILE, AUTH_JWT_ISSUER or AUTH_CERTIFICATE_NAME";
  if (isOpen) {
    logger.warn(`everybody who reaches the gRPC port is let in: no way of authentication is configured (${ways})`);
  } else if (policyFile === undefined) {
    logger.warn("all who can authenticate may do everything: there is no policy (AUTH_POLICY_FILE)");
  }
}

async function openKeys(keys: NonNullable<Config["auth"]["jwt"]>["keys"], logger: Logger): Promise<KeySource> {
  if ("file" in keys) return usable("AUTH_JWT_JWKS_FILE", keys.file, (file) => new FileKeys(file, logger));
  const remote = new RemoteKeys(keys, logger);
  await remote.start();
  return remote;
}

function readTokens(file: string): Tokens {
  return new Tokens(readFileSync(file, "utf8"));
}

function readPolicy(file: string): Policy {
  return Policy.parse(readFileSync(file, "utf8"));
}

/** What a changed file holds is taken over, or what it held before stays. */
function followFile(path: string, what: string, take: () => object, audit: Audit, logger: Logger): Disposable {
  return watchFiles([path], () => {
    try {
      const detail = take();
      audit.changed(what, detail);
      logger.info({ path, ...detail }, `${what} changed and was taken over`);
    } catch (error) {
      audit.changed(what, { refused: (error as Error).message });
      logger.error({ err: error, path }, `${what} changed and cannot be used: what was there before stays in force`);
    }
  });
}

/** Opens what a variable names; what is wrong with it is told with the variable. */
function usable<T>(variable: string, path: string, open: (path: string) => T): T {
  try {
    return open(path);
  } catch (cause) {
    throw new StartError(`${variable}=${path}: ${(cause as Error).message}`, { cause });
  }
}
