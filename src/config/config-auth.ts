/** The part of the configuration that says who is let in. Several ways at once are fine; half of one is a fault. */
import { quote } from "../errors.ts";
import { hideCredentials } from "./env.ts";
import { type ConfigContext, fault } from "./rules.ts";
import type { VariableName } from "./variables.ts";

/** How callers prove who they are; without any of it everybody is let in. */
export interface AuthConfig {
  readonly tokensFile: string | undefined;
  readonly jwt: JwtConfig | undefined;
  readonly certificateName: "cn" | "dns" | "uri" | "email" | undefined;
  /** What callers may do; without it everything. */
  readonly policyFile: string | undefined;
}

/** What JWTs have to be. */
export interface JwtConfig {
  readonly issuer: string;
  readonly audiences: readonly string[];
  readonly algorithms: readonly string[];
  readonly clockToleranceMs: number;
  readonly nameClaim: string;
  readonly groupsClaim: string;
  readonly keys:
    | { readonly url: string; readonly refreshMs: number; readonly timeoutMs: number }
    | { readonly file: string };
}

const LOOPBACK = /^https?:\/\/(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?:[:/]|$)/i;

function hasCredentials(url: string): boolean {
  const { username, password } = new URL(url);
  return username !== "" || password !== "";
}

/** Reads and checks it. */
export function authConfig(context: ConfigContext): AuthConfig {
  const { values, warnings } = context;
  const jwt = jwtConfig(context);
  const certificateName = values.AUTH_CERTIFICATE_NAME as AuthConfig["certificateName"];
  if (certificateName !== undefined && values.TLS_CLIENT_CA_FILE === undefined) {
    fault(context, "TLS_CLIENT_CA_FILE", "is needed beside AUTH_CERTIFICATE_NAME");
  }
  const isOpen = values.AUTH_TOKENS_FILE === undefined && jwt === undefined && certificateName === undefined;
  if (isOpen && values.AUTH_REQUIRED && !isAtFault(context)) {
    const problem = "needs a way of authentication: set AUTH_TOKENS_FILE, AUTH_JWT_ISSUER or AUTH_CERTIFICATE_NAME";
    fault(context, "AUTH_REQUIRED", problem, "true");
  } else if (!isOpen && values.TLS_CERT_FILE === undefined) {
    warnings.push("credentials of callers travel in plain text, unless something in front of this server has TLS");
  }
  return { tokensFile: values.AUTH_TOKENS_FILE, jwt, certificateName, policyFile: values.AUTH_POLICY_FILE };
}

/** A way that was meant and is not usable is told of by itself. */
function isAtFault({ faults }: ConfigContext): boolean {
  return faults.some(({ variable }) => variable.startsWith("AUTH_"));
}

const PARTS: readonly VariableName[] = [
  "AUTH_JWT_ISSUER",
  "AUTH_JWT_AUDIENCE",
  "AUTH_JWT_JWKS_URL",
  "AUTH_JWT_JWKS_FILE",
];

function jwtConfig(context: ConfigContext): JwtConfig | undefined {
  const { values, sources, warnings } = context;
  const isSet = (name: VariableName): boolean => sources.get(name) !== "unset";
  const first = PARTS.find(isSet);
  if (first === undefined) return undefined;
  for (const name of ["AUTH_JWT_ISSUER", "AUTH_JWT_AUDIENCE"] as const) {
    if (!isSet(name)) fault(context, name, `is needed beside ${first}`);
  }
  if (!isSet("AUTH_JWT_JWKS_URL") && !isSet("AUTH_JWT_JWKS_FILE")) {
    fault(context, "AUTH_JWT_JWKS_URL", `or AUTH_JWT_JWKS_FILE is needed beside ${first}`);
  }
  const { AUTH_JWT_JWKS_URL: url, AUTH_JWT_JWKS_FILE: file } = values;
  if (url !== undefined && file !== undefined) {
    fault(context, "AUTH_JWT_JWKS_FILE", "contradicts AUTH_JWT_JWKS_URL: unset one of the two", quote(file));
  }
  if (url !== undefined && hasCredentials(url)) {
    fault(
      context,
      "AUTH_JWT_JWKS_URL",
      "must not hold credentials: public keys need none",
      quote(hideCredentials(url)),
    );
  }
  if (url?.startsWith("http:") === true && !LOOPBACK.test(url)) {
    warnings.push("AUTH_JWT_JWKS_URL is not https: whoever can change its answers on their way can sign JWTs");
  }
  const { AUTH_JWT_ISSUER: issuer, AUTH_JWT_AUDIENCE: audiences } = values;
  if (issuer === undefined || audiences === undefined || (url ?? file) === undefined) return undefined;
  return {
    issuer,
    audiences,
    algorithms: values.AUTH_JWT_ALGORITHMS,
    clockToleranceMs: values.AUTH_JWT_CLOCK_TOLERANCE,
    nameClaim: values.AUTH_JWT_NAME_CLAIM,
    groupsClaim: values.AUTH_JWT_GROUPS_CLAIM,
    keys:
      url === undefined
        ? { file: file! }
        : { url, refreshMs: values.AUTH_JWT_JWKS_REFRESH, timeoutMs: values.AUTH_JWT_JWKS_TIMEOUT },
  };
}
