import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Config, type Surroundings, readConfig } from "../../../src/config/config.ts";
import { ConfigError, type Environment } from "../../../src/config/env.ts";

const SEED = `SU${"A".repeat(56)}`;

/** A machine on which every file is readable and nothing is mounted. */
const MACHINE: Surroundings = { files: { read: () => "from-file", check: () => {} }, isOnVolume: () => false };

function read(env: Environment, machine: Partial<Surroundings> = {}): Config {
  return readConfig(env, { ...MACHINE, ...machine });
}

/** The message that `env` is refused with. */
function refusal(env: Environment, machine: Partial<Surroundings> = {}): string {
  try {
    read(env, machine);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return "accepted";
}

test("an empty environment gives the defaults", () => {
  expect(readConfig({})).toEqual({
    development: false,
    logLevel: "info",
    nats: {
      embedded: true,
      servers: [],
      serverBin: undefined,
      dataDir: "./data/nats",
      auth: { kind: "none" },
      tls: undefined,
      jetstreamDomain: undefined,
      inboxPrefix: "_INBOX",
      connectionName: "windshift",
      requestTimeoutMs: 5000,
      publishes: { maxInFlight: 256, maxWaiting: 10_000, maxBytes: 268_435_456 },
      reads: { maxInFlight: 256, maxWaiting: 10_000 },
      management: { maxInFlight: 256, maxWaiting: 10_000 },
    },
    grpc: {
      engine: "native",
      host: "0.0.0.0",
      port: 8080,
      maxReceiveMessageBytes: 4 * 2 ** 20,
      maxMetadataBytes: 16 * 2 ** 10,
      maxConcurrentStreams: 10_000,
      maxConnections: 10_000,
      maxCalls: 50_000,
      maxUnreadBytes: 268_435_456,
      keepaliveTimeMs: 60_000,
      keepaliveTimeoutMs: 20_000,
      maxConnectionAgeMs: 0,
      requestTimeoutMs: 30_000,
      services: { health: true, reflection: true },
      tls: undefined,
    },
    auth: { tokensFile: undefined, jwt: undefined, certificateName: undefined, policyFile: undefined },
    principalLimits: { callsPerSecond: 0, bytesPerSecond: 0, openStreams: 0, openSubscriptions: 0 },
    auditLog: undefined,
    health: { host: "0.0.0.0", port: 8088, metrics: true },
    limits: { maxProcessingEvents: 10_000, defaultReplicas: 1 },
    telemetry: {
      disabled: false,
      serviceName: "windshift",
      resourceAttributes: {},
      propagators: ["tracecontext", "baggage"],
      tracingLog: false,
      sampler: { name: "parentbased_always_on", ratio: 1 },
      traces: { endpoint: undefined, timeoutMs: 10_000, headers: {} },
      metrics: {
        endpoint: undefined,
        timeoutMs: 10_000,
        headers: {},
        intervalMs: 60_000,
        collectTimeoutMs: 30_000,
      },
    },
    shutdown: { graceMs: 5000, delayMs: 0 },
    warnings: [],
  });
});

test("the configuration is frozen, down to its parts", () => {
  const config = read({});
  for (const part of [config, config.nats, config.telemetry.traces, config.warnings]) {
    expect(Object.isFrozen(part)).toBe(true);
  }
});

test("development makes the log talkative, unless a level is set", () => {
  expect(read({ DEVELOPMENT: "true" })).toMatchObject({ development: true, logLevel: "debug" });
  expect(read({ DEVELOPMENT: "true", LOG_LEVEL: "warn" }).logLevel).toBe("warn");
});

describe("embedded NATS is never an accident", () => {
  const image = { WINDSHIFT_IMAGE: "true" };
  const pod = { KUBERNETES_SERVICE_HOST: "10.0.0.1" };

  test.each<[string, Environment, RegExp]>([
    ["an empty NATS_URL", { NATS_URL: "" }, /NATS_URL="": is empty/],
    ["a blank NATS_URL", { NATS_URL: "  " }, /NATS_URL="": is empty/],
    ["Kubernetes", pod, /NATS_URL: is unset inside Kubernetes/],
    ["the image without a volume", image, /NATS_DATA_DIR .* is not on a mounted volume/],
    ["a token for another NATS", { NATS_TOKEN: "t" }, /NATS_TOKEN=\(hidden\): has no effect on the embedded/],
    ["TLS for another NATS", { NATS_TLS_CA_FILE: "/ca" }, /NATS_TLS_CA_FILE.* has no effect on the embedded/],
    ["NATS_URL beside NATS_EMBEDDED", { NATS_URL: "a", NATS_EMBEDDED: "true" }, /contradicts NATS_URL/],
  ])("%s", (_, env, pattern) => {
    expect(refusal(env)).toMatch(pattern);
  });

  test.each<[string, Environment]>([
    ["an empty NATS_URL", { NATS_URL: "" }],
    ["Kubernetes", pod],
    ["the image without a volume", image],
  ])("%s is fine with NATS_EMBEDDED=true", (_, env) => {
    expect(read({ ...env, NATS_EMBEDDED: "true" }).nats).toMatchObject({ embedded: true, servers: [] });
  });

  test("the image with a volume is fine", () => {
    const asked: string[] = [];
    const isOnVolume = (folder: string): boolean => asked.push(folder) > 0;
    expect(read({ ...image, NATS_DATA_DIR: "/data" }, { isOnVolume }).nats.embedded).toBe(true);
    expect(asked).toEqual(["/data"]);
  });

  test("credentials without use are a warning when embedded is meant", () => {
    expect(read({ NATS_EMBEDDED: "true", NATS_TOKEN: "t" }).warnings).toEqual([
      "NATS_TOKEN has no effect on the embedded NATS",
    ]);
  });
});

describe("the connection to NATS", () => {
  const url = { NATS_URL: "nats://a:4222, b" };

  test("has the servers of NATS_URL", () => {
    const env = { ...url, KUBERNETES_SERVICE_HOST: "10.0.0.1", WINDSHIFT_IMAGE: "true" };
    expect(read(env).nats).toMatchObject({ embedded: false, servers: ["a:4222", "b:4222"], auth: { kind: "none" } });
  });

  test.each<[string, Environment, Config["nats"]["auth"]]>([
    ["a credentials file", { NATS_CREDS_FILE: "/creds" }, { kind: "creds", file: "/creds" }],
    ["an nkey seed", { NATS_NKEY_SEED: SEED }, { kind: "nkey", seed: SEED }],
    ["a token", { NATS_TOKEN: "t" }, { kind: "token", token: "t" }],
    ["a token from a file", { NATS_TOKEN_FILE: "/t" }, { kind: "token", token: "from-file" }],
    ["a user", { NATS_USER: "u", NATS_PASSWORD: "p" }, { kind: "user", user: "u", password: "p" }],
    ["a user in the URL", { NATS_URL: "nats://u:p@a" }, { kind: "user", user: "u", password: "p" }],
    ["a token in the URL", { NATS_URL: "nats://t@a" }, { kind: "token", token: "t" }],
  ])("authenticates with %s", (_, env, auth) => {
    expect(read({ ...url, ...env }).nats.auth).toEqual(auth);
  });

  test.each<[string, Environment, RegExp]>([
    ["a user without a password", { NATS_USER: "u" }, /NATS_PASSWORD: is needed beside NATS_USER/],
    ["a password without a user", { NATS_PASSWORD: "p" }, /NATS_USER: is needed beside NATS_PASSWORD/],
    ["two kinds of credentials", { NATS_TOKEN: "t", NATS_CREDS_FILE: "/c" }, /too many beside NATS_TOKEN/],
    ["a token beside a user in the URL", { NATS_TOKEN: "t", NATS_URL: "nats://u:p@a" }, /too many beside NATS_URL/],
    ["a certificate without its key", { NATS_TLS_CERT_FILE: "/c" }, /NATS_TLS_KEY_FILE: is needed/],
    ["a seed of something else", { NATS_NKEY_SEED: "SA123" }, /NATS_NKEY_SEED=\(hidden\): must be the seed/],
    ["a server that is none", { NATS_URL: "http://u:p@a" }, /NATS_URL="http:\/\/\(hidden\)@a": must be/],
    ["an entry too many", { NATS_URL: "a,,b" }, /NATS_URL="a,,b": must be a comma separated list/],
    ["a prefix that is no subject", { NATS_INBOX_PREFIX: "a..b" }, /NATS_INBOX_PREFIX="a..b": must be tokens/],
  ])("refuses %s", (_, env, pattern) => {
    expect(refusal({ ...url, ...env })).toMatch(pattern);
  });

  test.each<[Environment, Partial<Config["nats"]["tls"]>]>([
    [{ NATS_TLS: "true" }, { handshakeFirst: false, caFile: undefined }],
    [{ NATS_URL: "tls://a" }, { handshakeFirst: false }],
    [{ NATS_TLS_CA_FILE: "/ca" }, { caFile: "/ca" }],
    [
      { NATS_TLS_CERT_FILE: "/c", NATS_TLS_KEY_FILE: "/k" },
      { certFile: "/c", keyFile: "/k" },
    ],
    [{ NATS_TLS_HANDSHAKE_FIRST: "true" }, { handshakeFirst: true }],
  ])("uses TLS with %o", (env, tls) => {
    expect(read({ ...url, ...env }).nats.tls).toMatchObject(tls ?? {});
  });
});

describe("the gRPC server", () => {
  test("uses TLS with a certificate and its key", () => {
    const env = { TLS_CERT_FILE: "/c", TLS_KEY_FILE: "/k", TLS_CLIENT_CA_FILE: "/ca" };
    const files = { certFile: "/c", keyFile: "/k", clientCaFile: "/ca" };
    expect(read(env).grpc.tls).toEqual({ ...files, clientCertificate: "required" });
    const optional = read({ ...env, TLS_CLIENT_CERTIFICATE: "optional" });
    expect(optional.grpc.tls).toEqual({ ...files, clientCertificate: "optional" });
  });

  test("may take free ports", () => {
    expect(read({ GRPC_PORT: "0", HEALTH_PORT: "0" })).toMatchObject({ grpc: { port: 0 }, health: { port: 0 } });
  });

  test.each<[string, Environment, RegExp]>([
    ["a key without its certificate", { TLS_KEY_FILE: "/k" }, /TLS_CERT_FILE: is needed/],
    [
      "optional certificates of clients without an authority",
      { TLS_CLIENT_CERTIFICATE: "optional" },
      /TLS_CLIENT_CA_FILE: is needed/,
    ],
    ["client certificates without its own", { TLS_CLIENT_CA_FILE: "/ca" }, /TLS_CERT_FILE: is needed/],
    ["the port of the health server", { GRPC_PORT: "8088" }, /HEALTH_PORT=8088: must differ from GRPC_PORT/],
    ["an unknown engine", { GRPC_ENGINE: "go" }, /GRPC_ENGINE="go": must be one of native, grpc-js/],
  ])("refuses %s", (_, env, pattern) => {
    expect(refusal(env)).toMatch(pattern);
  });
});

describe("authentication", () => {
  const jwt = { AUTH_JWT_ISSUER: "https://id", AUTH_JWT_AUDIENCE: "a, b", AUTH_JWT_JWKS_URL: "https://id/keys" };
  const tls = { TLS_CERT_FILE: "/c", TLS_KEY_FILE: "/k", TLS_CLIENT_CA_FILE: "/ca" };

  test("takes any number of ways at once", () => {
    const env = {
      ...jwt,
      ...tls,
      AUTH_REQUIRED: "true",
      AUTH_TOKENS_FILE: "/t",
      AUTH_CERTIFICATE_NAME: "uri",
      AUTH_POLICY_FILE: "/p",
    };
    const { auth, warnings } = read(env);
    expect(auth).toEqual({
      tokensFile: "/t",
      jwt: {
        issuer: "https://id",
        audiences: ["a", "b"],
        algorithms: ["RS256", "PS256", "ES256", "EdDSA"],
        clockToleranceMs: 5000,
        nameClaim: "sub",
        groupsClaim: "groups",
        keys: { url: "https://id/keys", refreshMs: 300_000, timeoutMs: 5000 },
      },
      certificateName: "uri",
      policyFile: "/p",
    });
    expect(warnings).toEqual([]);
  });

  test("takes the keys of JWTs from a file", () => {
    const { AUTH_JWT_JWKS_URL: _, ...rest } = jwt;
    expect(read({ ...rest, ...tls, AUTH_JWT_JWKS_FILE: "/keys" }).auth.jwt?.keys).toEqual({ file: "/keys" });
  });

  test.each<[string, Environment, RegExp]>([
    ["no way where one is required", { AUTH_REQUIRED: "true" }, /AUTH_REQUIRED=true: needs a way of authentication/],
    ["an issuer alone", { AUTH_JWT_ISSUER: "i" }, /AUDIENCE: is needed beside AUTH_JWT_ISSUER\n.*JWKS_FILE is needed/],
    ["keys alone", { AUTH_JWT_JWKS_FILE: "/f" }, /ISSUER: is needed beside AUTH_JWT_JWKS_FILE/],
    ["keys at two places", { ...jwt, AUTH_JWT_JWKS_FILE: "/f" }, /JWKS_FILE="\/f": contradicts AUTH_JWT_JWKS_URL/],
    [
      "credentials for public keys, which it does not show",
      { ...jwt, AUTH_JWT_JWKS_URL: "https://me:secret@id/keys" },
      /^(?!.*secret).*AUTH_JWT_JWKS_URL="https:.*": must not hold credentials/s,
    ],
    ["no signature", { ...jwt, AUTH_JWT_ALGORITHMS: "none" }, /AUTH_JWT_ALGORITHMS="none": must be .* of RS256, /],
    ["a shared secret", { ...jwt, AUTH_JWT_ALGORITHMS: "HS256" }, /AUTH_JWT_ALGORITHMS="HS256": must be/],
    ["names in certificates that nobody asks for", { AUTH_CERTIFICATE_NAME: "cn" }, /CLIENT_CA_FILE: is needed beside/],
    ["an unknown name in certificates", { ...tls, AUTH_CERTIFICATE_NAME: "o" }, /AUTH_CERTIFICATE_NAME="o": must be/],
  ])("refuses %s", (_, env, pattern) => {
    expect(refusal(env)).toMatch(pattern);
  });

  test("a half way is one fault, not two", () => {
    expect(refusal({ AUTH_REQUIRED: "true", AUTH_CERTIFICATE_NAME: "o" })).not.toContain("AUTH_REQUIRED");
  });

  test.each<[string, Environment, RegExp]>([
    ["credentials in plain text", { AUTH_TOKENS_FILE: "/t" }, /credentials of callers travel in plain text/],
    ["keys in plain text", { ...jwt, ...tls, AUTH_JWT_JWKS_URL: "http://id/keys" }, /JWKS_URL is not https/],
  ])("warns of %s", (_, env, pattern) => {
    expect(read(env).warnings).toEqual([expect.stringMatching(pattern)]);
  });

  test("keys from this very machine may come in plain text", () => {
    expect(read({ ...jwt, ...tls, AUTH_JWT_JWKS_URL: "http://127.0.0.1:8000/keys" }).warnings).toEqual([]);
  });
});

describe("telemetry", () => {
  test("the settings of one signal win over the common ones", () => {
    const { traces, metrics } = read({
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://all:4317",
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://traces:4317",
      OTEL_EXPORTER_OTLP_TIMEOUT: "3",
      OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: "700ms",
      OTEL_EXPORTER_OTLP_HEADERS: "key=all,tenant=a",
      OTEL_EXPORTER_OTLP_METRICS_HEADERS: "key=metrics",
    }).telemetry;
    expect(traces).toEqual({
      endpoint: "http://traces:4317",
      timeoutMs: 3000,
      headers: { key: "all", tenant: "a" },
    });
    expect(metrics).toMatchObject({
      endpoint: "http://all:4317",
      timeoutMs: 700,
      headers: { key: "metrics", tenant: "a" },
    });
  });

  test.each<[Environment, string]>([
    [{ OTEL_RESOURCE_ATTRIBUTES: "service.name=a" }, "a"],
    [{ OTEL_RESOURCE_ATTRIBUTES: "service.name=a", OTEL_SERVICE_NAME: "b" }, "b"],
  ])("%o is called %s", (env, name) => {
    expect(read(env).telemetry.serviceName).toBe(name);
  });

  test("an interval shorter than the default timeout shortens that", () => {
    const { metrics } = read({ OTEL_METRIC_EXPORT_INTERVAL: "10" }).telemetry;
    expect(metrics).toMatchObject({ intervalMs: 10_000, collectTimeoutMs: 10_000 });
  });

  test.each<[string, Environment, RegExp]>([
    [
      "a timeout longer than the interval",
      { OTEL_METRIC_EXPORT_INTERVAL: "10", OTEL_METRIC_EXPORT_TIMEOUT: "11" },
      /OTEL_METRIC_EXPORT_TIMEOUT="11": must not be longer/,
    ],
    ["an endpoint that is no URL", { OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4317" }, /must be a URL/],
    ["an unknown propagator", { OTEL_PROPAGATORS: "tracecontxt" }, /must be a comma separated list of tracecontext/],
    ["none among propagators", { OTEL_PROPAGATORS: "none,baggage" }, /must not have other entries/],
    ["a ratio above 1", { OTEL_TRACES_SAMPLER_ARG: "50" }, /from 0 to 1/],
    ["headers of wrong form", { OTEL_EXPORTER_OTLP_HEADERS: "s3cret" }, /_HEADERS=\(hidden\): must be/],
  ])("refuses %s", (_, env, pattern) => {
    expect(refusal(env)).toMatch(pattern);
  });
});

describe("a warning tells of", () => {
  test.each<[string, Environment, RegExp]>([
    ["a name that is nearly right", { NATS_ULR: "a" }, /NATS_ULR is not .*: NATS_URL is/],
    ["a letter left out", { NATS_TOKEN_FLE: "a" }, /NATS_TOKEN_FILE is/],
    ["milliseconds", { OTEL_METRIC_EXPORT_INTERVAL: "60000" }, /60000 is in seconds here; write 60000ms/],
    ["milliseconds of a timeout", { OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: "1000" }, /write 1000ms/],
    ["propagators without effect", { OTEL_PROPAGATORS: "tracecontext,b3" }, /b3 has no effect/],
    ["another protocol", { OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" }, /exports use grpc/],
  ])("%s", (_, env, pattern) => {
    expect(read(env).warnings).toEqual([expect.stringMatching(pattern)]);
  });

  test.each<[string, Environment]>([
    ["a variable of another program", { PATH: "/bin", NATS_CONTEXT_OF_MINE: "a", HOME: "/" }],
    ["links to a Service called nats", { NATS_SERVICE_HOST: "10.0.0.1", NATS_PORT_4222_TCP_ADDR: "10.0.0.1" }],
    ["the file of a secret", { NATS_EMBEDDED: "false", OTEL_EXPORTER_OTLP_HEADERS_FILE: "" }],
    ["seconds", { OTEL_METRIC_EXPORT_INTERVAL: "999", OTEL_EXPORTER_OTLP_TIMEOUT: "10000ms" }],
    ["gRPC", { OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }],
  ])("nothing for %s", (_, env) => {
    expect(read(env).warnings).toEqual([]);
  });
});

test("everything that is wrong is in one error", () => {
  const message = refusal({ GRPC_PORT: "x", NATS_URL: "", NATS_USER: "u", OTEL_TRACES_SAMPLER: "some" });
  expect(message).toMatch(/has 4 faults/);
  for (const name of ["GRPC_PORT", "NATS_URL", "NATS_PASSWORD", "OTEL_TRACES_SAMPLER"]) expect(message).toContain(name);
});

test("secrets and certificates are looked up in the real file system", () => {
  const folder = mkdtempSync(join(tmpdir(), "config-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const token = join(folder, "token");
  writeFileSync(token, "s3cret\n");
  const env = { NATS_URL: "a", NATS_TOKEN_FILE: token, NATS_TLS_CA_FILE: token };
  expect(readConfig(env).nats).toMatchObject({ auth: { kind: "token", token: "s3cret" }, tls: { caFile: token } });
  expect(() => readConfig({ ...env, NATS_TLS_CA_FILE: join(folder, "none") })).toThrow(/NATS_TLS_CA_FILE=.*ENOENT/);
});
