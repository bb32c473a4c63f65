/**
 * Every environment variable of the daemon, as data: what `readConfig` reads, what `--print-config` shows, and what the
 * README, `docs/configuration.md` and `.envrc.example` are held against. Names, meanings and defaults of the original
 * come first in each group and do not change.
 */
import type { Variable } from "./env.ts";

/** Levels of the log, from the chattiest to none. */
export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";

/** Name of a variable of the table. */
export type VariableName = (typeof TABLE)[number]["name"];

/**
 * The table with its literal types, from which those of the values are derived; `VARIABLES` is the same for everyone
 * else. Literals alone may stand here: declarations are emitted file by file.
 */
export const TABLE = [
  {
    name: "DEVELOPMENT",
    kind: "boolean",
    default: "false",
    description: "readable logs instead of JSON, at level `debug`",
  },
  {
    name: "LOG_LEVEL",
    kind: "enum",
    values: ["trace", "debug", "info", "warn", "error", "fatal", "silent"],
    default: "info",
    description: "`trace`, `debug`, `info`, `warn`, `error`, `fatal` or `silent`; `debug` with `DEVELOPMENT`",
  },

  {
    name: "NATS_URL",
    kind: "list",
    unset: "embedded",
    description:
      "servers of one NATS, comma separated (`nats://a:4222,nats://b:4222`); unset, one of our own is started",
  },
  {
    name: "NATS_PUBLISH_ASYNC_MAX_PENDING",
    kind: "integer",
    min: 1,
    max: 1_000_000,
    default: "256",
    description: "publishes sent to JetStream and not yet answered; more wait in a queue",
  },
  {
    name: "PUBLISH_QUEUE_LIMIT",
    kind: "integer",
    min: 0,
    max: 1_000_000,
    default: "10000",
    description: "publishes waiting in that queue; more are refused with `RESOURCE_EXHAUSTED`",
  },
  {
    name: "PUBLISH_QUEUE_BYTES",
    kind: "bytes",
    min: "1MiB",
    max: "64GiB",
    default: "256MiB",
    description: "bytes of publishes sent or waiting; more are refused with `RESOURCE_EXHAUSTED`",
  },
  {
    name: "READ_MAX_PENDING",
    kind: "integer",
    min: 1,
    max: 1_000_000,
    default: "256",
    description:
      "reads of values and events sent to JetStream and not yet answered, fewer of large ones; more wait in a queue",
  },
  {
    name: "READ_QUEUE_LIMIT",
    kind: "integer",
    min: 0,
    max: 1_000_000,
    default: "10000",
    description: "reads waiting in that queue; more are refused with `RESOURCE_EXHAUSTED`",
  },
  {
    name: "MANAGEMENT_MAX_PENDING",
    kind: "integer",
    min: 1,
    max: 1_000_000,
    default: "256",
    description: "subscriptions being opened, streams, consumers and stores being changed; more wait in a queue",
  },
  {
    name: "MANAGEMENT_QUEUE_LIMIT",
    kind: "integer",
    min: 0,
    max: 1_000_000,
    default: "10000",
    description: "those waiting in that queue; more are refused with `RESOURCE_EXHAUSTED`",
  },
  {
    name: "NATS_EMBEDDED",
    kind: "boolean",
    default: "false",
    description: "our own NATS is meant, also in Kubernetes or without a mounted data folder",
  },
  {
    name: "NATS_SERVER_BIN",
    kind: "file",
    unset: "the bundled one, else from `PATH`",
    description: "program of the embedded nats-server",
  },
  {
    name: "NATS_DATA_DIR",
    kind: "string",
    default: "./data/nats",
    description: "folder in which the embedded nats-server stores streams",
  },
  {
    name: "NATS_CREDS_FILE",
    kind: "file",
    description: "credentials file (JWT and nkey) for NATS",
  },
  {
    name: "NATS_NKEY_SEED",
    kind: "string",
    secret: true,
    pattern: "^SU[A-Z2-7]{56}$",
    expected: "the seed of a user nkey (58 characters, SU…)",
    description: "nkey seed for NATS",
  },
  { name: "NATS_TOKEN", kind: "string", secret: true, description: "token for NATS" },
  { name: "NATS_USER", kind: "string", description: "user for NATS" },
  { name: "NATS_PASSWORD", kind: "string", secret: true, description: "password of `NATS_USER`" },
  {
    name: "NATS_TLS",
    kind: "boolean",
    default: "false",
    description: "refuses a connection to NATS without TLS; the settings below imply it",
  },
  {
    name: "NATS_TLS_CA_FILE",
    kind: "file",
    unset: "the system's",
    description: "PEM file with the authorities that may sign the certificate of NATS",
  },
  {
    name: "NATS_TLS_CERT_FILE",
    kind: "file",
    description: "PEM file with the client certificate for NATS",
  },
  {
    name: "NATS_TLS_KEY_FILE",
    kind: "file",
    description: "PEM file with the key of that certificate",
  },
  {
    name: "NATS_TLS_HANDSHAKE_FIRST",
    kind: "boolean",
    default: "false",
    description: "starts TLS before NATS says anything (`handshake_first` of nats-server)",
  },
  {
    name: "NATS_JETSTREAM_DOMAIN",
    kind: "string",
    pattern: "^[A-Za-z0-9_-]+$",
    expected: 'letters, digits, "_" and "-"',
    description: "JetStream domain to work in",
  },
  {
    name: "NATS_INBOX_PREFIX",
    kind: "string",
    pattern: "^[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*$",
    expected: 'tokens of letters, digits, "_" and "-", joined by "."',
    default: "_INBOX",
    description: "first tokens of the subjects on which NATS answers, where accounts restrict them",
  },
  {
    name: "NATS_CONNECTION_NAME",
    kind: "string",
    default: "windshift",
    description: "name that NATS shows for our connection",
  },
  {
    name: "NATS_REQUEST_TIMEOUT",
    kind: "duration",
    min: "10ms",
    default: "5s",
    description: "how long one answer of JetStream is waited for",
  },

  { name: "GRPC_PORT", kind: "port", default: "8080", description: "port of the gRPC server" },
  {
    name: "GRPC_HOST",
    kind: "string",
    default: "0.0.0.0",
    description: "address of the gRPC server; `::` listens on IPv6 too",
  },
  {
    name: "GRPC_ENGINE",
    kind: "enum",
    values: ["native", "grpc-js"],
    default: "native",
    description: "what moves gRPC messages: the server's own engine `native`, or the library `grpc-js`",
  },
  {
    name: "GRPC_MAX_MESSAGE_SIZE",
    kind: "bytes",
    min: "1KiB",
    max: "1GiB",
    default: "4MiB",
    description: "largest request message; larger ones get `RESOURCE_EXHAUSTED`",
  },
  {
    name: "GRPC_MAX_METADATA_SIZE",
    kind: "bytes",
    min: "1KiB",
    max: "1MiB",
    default: "16KiB",
    description: "largest block of request metadata",
  },
  {
    name: "GRPC_MAX_CONCURRENT_STREAMS",
    kind: "integer",
    min: 1,
    max: 2_147_483_647,
    default: "10000",
    description: "calls in flight on one connection, open subscriptions included",
  },
  {
    name: "GRPC_MAX_CALLS",
    kind: "integer",
    min: 1,
    max: 10_000_000,
    default: "50000",
    description: "unary calls in progress, over all connections; more are refused with `RESOURCE_EXHAUSTED`",
  },
  {
    name: "GRPC_MAX_CONNECTIONS",
    kind: "integer",
    min: 1,
    max: 1_000_000,
    default: "10000",
    description: "connections at a time; further ones are closed as soon as they are accepted",
  },
  {
    name: "GRPC_MAX_UNREAD_BYTES",
    kind: "bytes",
    min: "4MiB",
    max: "64GiB",
    default: "256MiB",
    description:
      "responses that clients have not read yet, over all calls; beyond it those that do not read are cut off",
  },
  {
    name: "GRPC_KEEPALIVE_TIME",
    kind: "duration",
    min: "100ms",
    default: "60s",
    description: "a connection that is silent so long gets a ping",
  },
  {
    name: "GRPC_KEEPALIVE_TIMEOUT",
    kind: "duration",
    min: "100ms",
    default: "20s",
    description: "a ping without an answer for so long ends the connection",
  },
  {
    name: "GRPC_MAX_CONNECTION_AGE",
    kind: "duration",
    default: "0",
    description: "connections are asked to leave after this time; never cuts a call; `0` is never",
  },
  {
    name: "GRPC_REQUEST_TIMEOUT",
    kind: "duration",
    min: "10ms",
    default: "30s",
    description: "deadline of unary calls whose client set none",
  },
  {
    name: "GRPC_TLS_CERT_FILE",
    kind: "file",
    unset: "plain text",
    description: "PEM file with the certificate of the gRPC server; read again when it changes, as the two below",
  },
  {
    name: "GRPC_TLS_KEY_FILE",
    kind: "file",
    description: "PEM file with the key of that certificate",
  },
  {
    name: "GRPC_TLS_CLIENT_CA_FILE",
    kind: "file",
    description: "PEM file with the authorities of client certificates, which are asked for then",
  },
  {
    name: "GRPC_TLS_CLIENT_CERTIFICATE",
    kind: "enum",
    values: ["required", "optional"],
    default: "required",
    description:
      "whether clients without a certificate are let in where there are authorities: `required` or `optional`",
  },

  {
    name: "HEALTH_PORT",
    kind: "port",
    default: "8088",
    description: "port of the HTTP server with `/healthz`, `/readyz` and `/metrics`",
  },
  {
    name: "HEALTH_HOST",
    kind: "string",
    default: "0.0.0.0",
    description: "address of that server",
  },

  {
    name: "MAX_PROCESSING_EVENTS",
    kind: "integer",
    min: 1,
    max: 1_000_000,
    default: "10000",
    description: "largest window of one subscription; a client that asks for more gets this",
  },
  {
    name: "DEFAULT_REPLICAS",
    kind: "integer",
    min: 1,
    max: 5,
    default: "1",
    description: "replicas of streams and stores whose request names none",
  },

  {
    name: "SHUTDOWN_GRACE",
    kind: "duration",
    default: "5s",
    description: "time to finish calls and settle events after SIGTERM or SIGINT",
  },
  {
    name: "SHUTDOWN_DELAY",
    kind: "duration",
    default: "0",
    description: "time between being not ready and refusing calls, for load balancers; comes before the grace",
  },

  // Propagators without an effect are valid, so that a fleet's common setting does not stop the start.
  {
    name: "OTEL_PROPAGATORS",
    kind: "list",
    values: ["tracecontext", "baggage", "none", "b3", "b3multi", "jaeger", "xray", "ottrace"],
    default: "tracecontext,baggage",
    description: "whether the trace of a call is taken over (`tracecontext`) or not (`none`)",
  },
  {
    name: "OTEL_EXPORTER_OTLP_ENDPOINT",
    kind: "url",
    unset: "nothing exported",
    description: "where spans and metrics go, by OTLP over gRPC (`http://collector:4317`)",
  },
  {
    name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    kind: "url",
    unset: "`OTEL_EXPORTER_OTLP_ENDPOINT`",
    description: "where spans go",
  },
  {
    name: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    kind: "url",
    unset: "`OTEL_EXPORTER_OTLP_ENDPOINT`",
    description: "where metrics go",
  },
  {
    name: "OTEL_EXPORTER_OTLP_TIMEOUT",
    kind: "duration",
    min: "1ms",
    default: "10",
    description: "how long one export may take, in seconds",
  },
  {
    name: "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    kind: "duration",
    min: "1ms",
    unset: "`OTEL_EXPORTER_OTLP_TIMEOUT`",
    description: "the same for spans",
  },
  {
    name: "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    kind: "duration",
    min: "1ms",
    unset: "`OTEL_EXPORTER_OTLP_TIMEOUT`",
    description: "the same for metrics",
  },
  {
    name: "OTEL_METRIC_EXPORT_INTERVAL",
    kind: "duration",
    min: "10ms",
    default: "60",
    description: "time between two exports of metrics, in seconds",
  },
  {
    name: "OTEL_METRIC_EXPORT_TIMEOUT",
    kind: "duration",
    min: "10ms",
    default: "30",
    description: "how long one export of metrics may take in all, in seconds; at most the interval",
  },
  {
    name: "OTEL_TRACING_LOG",
    kind: "boolean",
    default: "false",
    description: "writes every finished span to the log, at level `info`",
  },
  {
    name: "OTEL_SERVICE_NAME",
    kind: "string",
    unset: "`windshift`",
    description: "name of the service in traces and metrics",
  },
  {
    name: "OTEL_RESOURCE_ATTRIBUTES",
    kind: "pairs",
    description: "attributes of the service (`deployment.environment.name=prod,service.namespace=shop`)",
  },
  {
    name: "OTEL_SDK_DISABLED",
    kind: "boolean",
    default: "false",
    description: "switches traces and exports off; `/metrics` stays",
  },
  {
    name: "OTEL_EXPORTER_OTLP_HEADERS",
    kind: "pairs",
    secret: true,
    description: "metadata sent with every export (`api-key=…`)",
  },
  {
    name: "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    kind: "pairs",
    secret: true,
    description: "the same for spans; wins over the common ones",
  },
  {
    name: "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    kind: "pairs",
    secret: true,
    description: "the same for metrics; wins over the common ones",
  },
  {
    name: "OTEL_TRACES_SAMPLER",
    kind: "enum",
    values: [
      "always_on",
      "always_off",
      "traceidratio",
      "parentbased_always_on",
      "parentbased_always_off",
      "parentbased_traceidratio",
    ],
    default: "parentbased_always_on",
    description: "which traces are recorded: `always_on`, `always_off`, `traceidratio`, each also `parentbased_…`",
  },
  {
    name: "OTEL_TRACES_SAMPLER_ARG",
    kind: "number",
    min: 0,
    max: 1,
    default: "1",
    description: "share of traces that the `traceidratio` samplers record, from 0 to 1",
  },

  {
    name: "WINDSHIFT_IMAGE",
    kind: "boolean",
    default: "false",
    description: "set by our Docker image: our own NATS then needs `NATS_DATA_DIR` on a mounted volume",
  },
] as const;

/** Every variable that the daemon reads. */
export const VARIABLES: readonly Variable[] = [...TABLE];
