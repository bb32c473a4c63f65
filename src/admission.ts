/** Part of the composition root: from the configuration to the guard that all calls pass, and what keeps it up to date. */
import { readFileSync } from "node:fs";
import { Audit } from "./auth/audit.ts";
import { Authenticator } from "./auth/authenticator.ts";
import { JwtVerifier } from "./auth/jwt.ts";
import { FileKeys, type KeySource, RemoteKeys } from "./auth/keys.ts";
import { Allowances } from "./auth/limits.ts";
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

/** Reads tokens and keys. Rejects where a file cannot be used; keys that cannot be fetched now may come later. */
export async function openAdmission({ auth, auditLog, principalLimits }: Config, logger: Logger): Promise<Admission> {
  using stack = new DisposableStack();
  const audit = new Audit(auditLog === undefined ? undefined : usable("AUDIT_LOG", auditLog, openAuditLog));
  const keys = auth.jwt === undefined ? undefined : stack.use(await openKeys(auth.jwt.keys, logger));
  const { tokensFile, certificateName } = auth;
  const authenticator = new Authenticator({
    tokens: tokensFile === undefined ? undefined : usable("AUTH_TOKENS_FILE", tokensFile, readTokens),
    jwt: auth.jwt === undefined ? undefined : new JwtVerifier(auth.jwt, keys!),
    certificateName,
  });
  if (tokensFile !== undefined) stack.use(followTokens(tokensFile, authenticator, audit, logger));
  if (keys !== undefined) {
    keys.onChange = () => {
      audit.changed("the keys of JWTs");
      authenticator.forget();
    };
  }
  if (authenticator.isOpen) {
    const ways = "AUTH_TOKENS_FILE, AUTH_JWT_ISSUER or AUTH_CERTIFICATE_NAME";
    logger.warn(`everybody who reaches the gRPC port is let in: no way of authentication is configured (${ways})`);
  }
  const guard = stack.use(new Guard({ authenticator, allowances: new Allowances(principalLimits), audit }));
  const owned = stack.move();
  return { guard, [Symbol.dispose]: () => owned.dispose() };
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

function followTokens(file: string, authenticator: Authenticator, audit: Audit, logger: Logger): Disposable {
  return watchFiles([file], () => {
    try {
      const tokens = readTokens(file);
      authenticator.replaceTokens(tokens);
      audit.changed("the file of tokens", { tokens: tokens.size });
      logger.info({ file, tokens: tokens.size }, "took over the changed file of tokens");
    } catch (error) {
      logger.error({ err: error, file }, "the changed file of tokens cannot be used: those before stay in force");
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
