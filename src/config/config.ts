/**
 * The environment as one frozen, typed object. `readConfig` is called once, by `main.ts`; every other folder gets the
 * part it needs as plain options. Durations are milliseconds, sizes bytes.
 */
import { type AuthConfig, authConfig } from "./config-auth.ts";
import { type NatsAuth, natsAuth, natsServers, natsTls } from "./config-nats.ts";
import { ConfigError, type ConfigFault, type Environment, type Files, readVariables, realFiles } from "./env.ts";
import { checkGrpc, checkTelemetry, typoWarnings, unitWarnings } from "./rules.ts";
import { type LogLevel, TABLE } from "./variables.ts";
import { isOnVolume } from "./volume.ts";

/** What is in force. */
export interface Config {
  readonly development: boolean;
  readonly logLevel: LogLevel;
  readonly nats: {
    /** True: start a nats-server of our own; `servers` is empty then. */
    readonly embedded: boolean;
    /** `host:port` each. */
    readonly servers: readonly string[];
    readonly serverBin: string | undefined;
    readonly dataDir: string;
    readonly auth: NatsAuth;
    /** Undefined: plain text, unless the server wants TLS. */
    readonly tls:
      | {
          readonly caFile: string | undefined;
          readonly certFile: string | undefined;
          readonly keyFile: string | undefined;
          readonly handshakeFirst: boolean;
        }
      | undefined;
    readonly jetstreamDomain: string | undefined;
    readonly inboxPrefix: string;
    readonly connectionName: string;
    readonly requestTimeoutMs: number;
    /** What is sent and not yet answered (`maxInFlight`), and what waits to be sent (`maxWaiting`). */
    readonly publishes: { readonly maxInFlight: number; readonly maxWaiting: number; readonly maxBytes: number };
    readonly reads: { readonly maxInFlight: number; readonly maxWaiting: number };
    /** Of what changes streams, consumers and stores, and opens subscriptions. */
    readonly management: { readonly maxInFlight: number; readonly maxWaiting: number };
  };
  readonly grpc: {
    readonly engine: "native" | "grpc-js";
    readonly host: string;
    readonly port: number;
    readonly maxReceiveMessageBytes: number;
    readonly maxMetadataBytes: number;
    readonly maxConcurrentStreams: number;
    readonly maxConnections: number;
    /** Unary calls in progress, over all connections. */
    readonly maxCalls: number;
    /** Responses that clients have not read, over all calls. */
    readonly maxUnreadBytes: number;
    readonly keepaliveTimeMs: number;
    readonly keepaliveTimeoutMs: number;
    /** 0 is never. */
    readonly maxConnectionAgeMs: number;
    /** Deadline of unary calls whose client set none. */
    readonly requestTimeoutMs: number;
    /** Which of the services about the server itself are there. */
    readonly services: { readonly health: boolean; readonly reflection: boolean };
    readonly tls:
      | {
          readonly certFile: string;
          readonly keyFile: string;
          readonly clientCaFile: string | undefined;
          readonly clientCertificate: "required" | "optional";
        }
      | undefined;
  };
  readonly auth: AuthConfig;
  /** What each principal may take that the policy says nothing else of; 0 is as much as it likes. */
  readonly principalLimits: {
    readonly callsPerSecond: number;
    readonly bytesPerSecond: number;
    readonly openStreams: number;
    readonly openSubscriptions: number;
  };
  /** `stdout`, `stderr` or a path; undefined is nowhere. */
  readonly auditLog: string | undefined;
  readonly health: { readonly host: string; readonly port: number; readonly metrics: boolean };
  readonly limits: { readonly maxProcessingEvents: number; readonly defaultReplicas: number };
  /** As `startTelemetry` takes it. */
  readonly telemetry: {
    readonly disabled: boolean;
    readonly serviceName: string;
    readonly resourceAttributes: Readonly<Record<string, string>>;
    readonly propagators: readonly string[];
    readonly tracingLog: boolean;
    readonly sampler: { readonly name: string; readonly ratio: number };
    readonly traces: OtlpConfig;
    readonly metrics: OtlpConfig & {
      readonly intervalMs: number;
      readonly collectTimeoutMs: number;
    };
  };
  readonly shutdown: { readonly graceMs: number; readonly delayMs: number };
  /** What is allowed but probably not meant; one sentence each, for the log. */
  readonly warnings: readonly string[];
}

/** Where one kind of telemetry goes; without an endpoint nowhere. */
interface OtlpConfig {
  readonly endpoint: string | undefined;
  readonly timeoutMs: number;
  readonly headers: Readonly<Record<string, string>>;
}

/** What `readConfig` needs to know of the machine; tests bring their own. */
export interface Surroundings {
  readonly files: Files;
  /** True when the folder lies on a mounted volume. */
  readonly isOnVolume: (folder: string) => boolean;
}

const REAL: Surroundings = { files: realFiles, isOnVolume: (folder) => isOnVolume(folder) };

/** Reads and checks the whole environment. Throws one {@link ConfigError} with everything that is wrong. */
export function readConfig(env: Environment, surroundings: Partial<Surroundings> = {}): Config {
  const { files, isOnVolume: onVolume } = { ...REAL, ...surroundings };
  const reading = readVariables(TABLE, env, files);
  const { values, sources } = reading;
  const faults: ConfigFault[] = [...reading.faults];
  const warnings = [...typoWarnings(env), ...unitWarnings(env)];
  const context = { values, sources, env, faults, warnings };

  const servers = natsServers(context, onVolume);
  const auth = natsAuth(context, servers);
  const tls = natsTls(context, servers);
  checkGrpc(context);
  const authentication = authConfig(context);
  checkTelemetry(context);
  if (faults.length > 0) throw new ConfigError(faults);

  const v = values;
  return freeze({
    development: v.DEVELOPMENT,
    // The kind `enum` has checked the value against LOG_LEVELS.
    logLevel: (v.DEVELOPMENT && sources.get("LOG_LEVEL") === "default" ? "debug" : v.LOG_LEVEL) as LogLevel,
    nats: {
      embedded: servers === undefined,
      servers: servers?.addresses ?? [],
      serverBin: v.NATS_SERVER_BIN,
      dataDir: v.NATS_DATA_DIR,
      auth,
      tls,
      jetstreamDomain: v.NATS_JETSTREAM_DOMAIN,
      inboxPrefix: v.NATS_INBOX_PREFIX,
      connectionName: v.NATS_CONNECTION_NAME,
      requestTimeoutMs: v.NATS_REQUEST_TIMEOUT,
      publishes: {
        maxInFlight: v.NATS_PUBLISH_ASYNC_MAX_PENDING,
        maxWaiting: v.PUBLISH_QUEUE_LIMIT,
        maxBytes: v.PUBLISH_QUEUE_BYTES,
      },
      reads: { maxInFlight: v.READ_MAX_PENDING, maxWaiting: v.READ_QUEUE_LIMIT },
      management: { maxInFlight: v.MANAGEMENT_MAX_PENDING, maxWaiting: v.MANAGEMENT_QUEUE_LIMIT },
    },
    grpc: {
      // The kind `enum` has checked it.
      engine: v.GRPC_ENGINE as Config["grpc"]["engine"],
      host: v.GRPC_HOST,
      port: v.GRPC_PORT,
      maxReceiveMessageBytes: v.GRPC_MAX_MESSAGE_SIZE,
      maxMetadataBytes: v.GRPC_MAX_METADATA_SIZE,
      maxConcurrentStreams: v.GRPC_MAX_CONCURRENT_STREAMS,
      maxConnections: v.GRPC_MAX_CONNECTIONS,
      maxCalls: v.GRPC_MAX_CALLS,
      maxUnreadBytes: v.GRPC_MAX_UNREAD_BYTES,
      keepaliveTimeMs: v.GRPC_KEEPALIVE_TIME,
      keepaliveTimeoutMs: v.GRPC_KEEPALIVE_TIMEOUT,
      maxConnectionAgeMs: v.GRPC_MAX_CONNECTION_AGE,
      requestTimeoutMs: v.GRPC_REQUEST_TIMEOUT,
      services: { health: v.GRPC_HEALTH, reflection: v.GRPC_REFLECTION },
      tls:
        v.TLS_CERT_FILE === undefined || v.TLS_KEY_FILE === undefined
          ? undefined
          : {
              certFile: v.TLS_CERT_FILE,
              keyFile: v.TLS_KEY_FILE,
              clientCaFile: v.TLS_CLIENT_CA_FILE,
              clientCertificate: v.TLS_CLIENT_CERTIFICATE as "required" | "optional",
            },
    },
    auth: authentication,
    principalLimits: {
      callsPerSecond: v.PRINCIPAL_CALLS_PER_SECOND,
      bytesPerSecond: v.PRINCIPAL_BYTES_PER_SECOND,
      openStreams: v.PRINCIPAL_STREAMS,
      openSubscriptions: v.PRINCIPAL_SUBSCRIPTIONS,
    },
    auditLog: v.AUDIT_LOG,
    health: { host: v.HEALTH_HOST, port: v.HEALTH_PORT, metrics: v.HEALTH_METRICS },
    limits: { maxProcessingEvents: v.MAX_PROCESSING_EVENTS, defaultReplicas: v.DEFAULT_REPLICAS },
    telemetry: {
      disabled: v.OTEL_SDK_DISABLED,
      serviceName: v.OTEL_SERVICE_NAME ?? v.OTEL_RESOURCE_ATTRIBUTES?.["service.name"] ?? "windshift",
      resourceAttributes: v.OTEL_RESOURCE_ATTRIBUTES ?? {},
      propagators: v.OTEL_PROPAGATORS,
      tracingLog: v.OTEL_TRACING_LOG,
      sampler: { name: v.OTEL_TRACES_SAMPLER, ratio: v.OTEL_TRACES_SAMPLER_ARG },
      traces: {
        endpoint: v.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? v.OTEL_EXPORTER_OTLP_ENDPOINT,
        timeoutMs: v.OTEL_EXPORTER_OTLP_TRACES_TIMEOUT ?? v.OTEL_EXPORTER_OTLP_TIMEOUT,
        headers: { ...v.OTEL_EXPORTER_OTLP_HEADERS, ...v.OTEL_EXPORTER_OTLP_TRACES_HEADERS },
      },
      metrics: {
        endpoint: v.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT ?? v.OTEL_EXPORTER_OTLP_ENDPOINT,
        timeoutMs: v.OTEL_EXPORTER_OTLP_METRICS_TIMEOUT ?? v.OTEL_EXPORTER_OTLP_TIMEOUT,
        headers: { ...v.OTEL_EXPORTER_OTLP_HEADERS, ...v.OTEL_EXPORTER_OTLP_METRICS_HEADERS },
        intervalMs: v.OTEL_METRIC_EXPORT_INTERVAL,
        // A timeout that nobody set gives way to a shorter interval.
        collectTimeoutMs: Math.min(v.OTEL_METRIC_EXPORT_TIMEOUT, v.OTEL_METRIC_EXPORT_INTERVAL),
      },
    },
    shutdown: { graceMs: v.SHUTDOWN_GRACE, delayMs: v.SHUTDOWN_DELAY },
    warnings,
  });
}

function freeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (typeof part === "object" && part !== null) freeze(part);
  return Object.freeze(value);
}
