/**
 * One server: everything wired, started in order and stopped in reverse.
 *
 * Stopping: not ready → (delay for load balancers) → no new calls or events; unary calls finish; subscriptions get their
 * grace to settle what they hold, the rest is handed back for immediate redelivery → NATS is closed.
 */
import { X509Certificate, randomUUID } from "node:crypto";
import { Admin } from "./admin/admin.ts";
import { openAdmission } from "./admission.ts";
import type { Config } from "./config/config.ts";
import { Events } from "./events/events.ts";
import { OpenSubscriptions } from "./events/open-subscriptions.ts";
import { Health } from "./gen/grpc/health/v1/health_pb.ts";
import { AdminService as AdminServiceDescriptor } from "./gen/windshift/admin/v1alpha1/admin_pb.ts";
import { EventsService as EventsServiceDescriptor } from "./gen/windshift/events/v1alpha1/events_pb.ts";
import { StateService as StateServiceDescriptor } from "./gen/windshift/state/v1alpha1/state_pb.ts";
import { AdminService } from "./grpc/admin-service.ts";
import type { Engine, EngineOptions, EngineTls } from "./grpc/engine/engine.ts";
import { NativeEngine } from "./grpc/engine/native/server.ts";
import { EventsService } from "./grpc/events-service.ts";
import { HealthService, healthHandlers } from "./grpc/health-service.ts";
import { DeadlineInterceptor } from "./grpc/interceptors/deadline.ts";
import { limitInterceptor } from "./grpc/interceptors/limit.ts";
import { loggingInterceptor, metricsInterceptor, tracingInterceptor } from "./grpc/interceptors/telemetry.ts";
import { ReflectionService, reflectionHandlers } from "./grpc/reflection-service.ts";
import { refusalReport } from "./grpc/refusals.ts";
import { Router } from "./grpc/server.ts";
import { registerStateService } from "./grpc/state-service.ts";
import { type TlsFiles, readTls, watchTls } from "./grpc/tls-files.ts";
import { type HealthServer, type ReadinessCheck, startHealthServer } from "./health/server.ts";
import { Advisories } from "./nats/advisories.ts";
import { JetStreamApi } from "./nats/api.ts";
import { NatsConnection, type NatsOptions, redacted } from "./nats/connection.ts";
import { type EmbeddedNats, startEmbeddedNats } from "./nats/embedded.ts";
import { Reader } from "./nats/get.ts";
import { Peers } from "./nats/peers.ts";
import { Publisher } from "./nats/publish.ts";
import { StartError } from "./nats/start-error.ts";
import { ADMIN_SERVICE, EVENTS_SERVICE, STATE_SERVICE } from "./rpc.ts";
import { State } from "./state/state.ts";
import { LineLimit } from "./telemetry/line-limit.ts";
import type { Logger } from "./telemetry/logger.ts";
import type { Metrics } from "./telemetry/metrics.ts";
import { startTelemetry } from "./telemetry/telemetry.ts";
import { VERSION } from "./version.ts";

/** A running server. Disposing it stops it gracefully within the configured grace. */
export interface Daemon extends AsyncDisposable {
  readonly grpcPort: number;
  readonly healthPort: number;
  /** URL of the embedded NATS; undefined when it runs elsewhere. */
  readonly embeddedNatsUrl: string | undefined;
  /** Resolves when the server cannot go on by itself. */
  readonly failed: Promise<Error>;
}

const LOOK_INTERVAL_MS = 5_000;
const SLOW_CLIENT_LINES_PER_SECOND = 10;
/** Of the grace, what clients have to settle what they hold, and when calls are cut; the rest is for closing NATS. */
const SETTLING_SHARE = 0.6;
const CALLS_SHARE = 0.8;
/** And of it, what the last export of telemetry may take. */
const FLUSH_SHARE = 0.1;

/** Starts a server. Rejects when it cannot serve at all; NATS being away is no such reason. */
export async function startDaemon(config: Config, logger: Logger): Promise<Daemon> {
  await using stack = new AsyncDisposableStack();
  const state = { isDraining: false };
  const instance = randomUUID();
  const telemetry = stack.use(
    await startTelemetry(config.telemetry, logger, {
      version: VERSION,
      instance,
      flushTimeoutMs: config.shutdown.graceMs * FLUSH_SHARE,
    }),
  );
  const { guard } = stack.use(await openAdmission(config, logger));
  const embedded = await startNats(config, logger);
  if (embedded !== undefined) stack.use(embedded);
  const connection = stack.use(await NatsConnection.open(natsOptions(config, embedded?.url), logger));
  const api = new JetStreamApi(connection, config.nats.management);
  const advisories = new Advisories(connection);
  const publisher = new Publisher(api, config.nats.publishes);
  const reader = new Reader(api, config.nats.reads);
  const { metrics } = telemetry;
  const open = new OpenSubscriptions(new Peers(connection), instance);
  const shared = { api, publisher, reader, advisories, defaultReplicas: config.limits.defaultReplicas };
  const events = stack.use(
    new Events({
      ...shared,
      open,
      maxProcessingEvents: config.limits.maxProcessingEvents,
      metrics,
      logger,
    }),
  );
  const domainState = new State(shared);
  const admin = new Admin({ api, reader, open, deadLetters: events.deadLetters, logger });

  const EngineOfChoice = await engineOfChoice(config);
  // Watched before they are read: no change is missed.
  if (config.grpc.tls !== undefined) stack.use(renewTls(config.grpc.tls, (tls) => engine.renewTls(tls), logger));
  const engine = createEngine(EngineOfChoice, config, {
    onError: (error) => logger.error({ err: error }, "a call or a connection failed"),
    onRefused: refusalReport(logger, metrics),
    onUnread: slowClientReport(logger, metrics),
  });
  metrics.observeUnread(() => engine.unreadBytes);
  const health = stack.use(new HealthService([EVENTS_SERVICE, STATE_SERVICE, ADMIN_SERVICE]));
  const { services } = config.grpc;
  const described = [EventsServiceDescriptor, StateServiceDescriptor, AdminServiceDescriptor];
  const reflection = stack.use(new ReflectionService(services.health ? [...described, Health] : described));
  const router = new Router(engine, guard, [
    limitInterceptor(config.grpc.maxCalls),
    stack.use(new DeadlineInterceptor(config.grpc.requestTimeoutMs)),
    tracingInterceptor(telemetry),
    metricsInterceptor(metrics),
    loggingInterceptor(logger),
  ]);
  const eventsService = new EventsService(events, telemetry, config.grpc);
  eventsService.register(router);
  registerStateService(router, domainState);
  const adminService = new AdminService(admin);
  adminService.register(router);
  if (services.health) for (const [path, handler] of healthHandlers(health)) engine.handle(path, handler);
  if (services.reflection) {
    for (const [path, handler] of reflectionHandlers(reflection)) engine.handle(path, guard.protect(handler, path));
  }

  const healthServer = stack.use(
    await listening("HEALTH", config.health, () =>
      startHealthServer({
        ...config.health,
        checks: checks(connection, api, state),
        ...(config.health.metrics ? { renderMetrics: telemetry.renderPrometheus } : {}),
      }),
    ),
  );
  stack.use(
    await watchNats(connection, api, publisher, metrics, (serving) => health.setServing(serving && !state.isDraining)),
  );
  const grpcPort = await listening("GRPC", config.grpc, () => engine.listen());
  stack.defer(() => engine.close());
  stack.defer(async () => {
    state.isDraining = true;
    health.setServing(false);
    await drain(config, logger, engine, eventsService, [health, reflection, adminService]);
  });
  logStart(logger, config, { instance, grpcPort, healthServer, connection, embedded });

  const owned = stack.move();
  return {
    grpcPort,
    healthPort: healthServer.port,
    embeddedNatsUrl: embedded?.url,
    failed: embedded?.died ?? new Promise<Error>(() => undefined),
    [Symbol.asyncDispose]: async () => owned.disposeAsync(),
  };
}

/** Listens; an address that cannot be had is told with the variables that chose it. */
async function listening<T>(
  prefix: "GRPC" | "HEALTH",
  { host, port }: { readonly host: string; readonly port: number },
  listen: () => Promise<T>,
): Promise<T> {
  try {
    return await listen();
  } catch (cause) {
    const detail = (cause as Error).message;
    const isTaken = /EADDRINUSE/.test(detail);
    const problem = isTaken ? `port ${port} of ${host} is in use by another process` : `cannot listen: ${detail}`;
    throw new StartError(`${prefix}_PORT=${port}, ${prefix}_HOST=${host}: ${problem}`, { cause });
  }
}

async function drain(
  { shutdown }: Config,
  logger: Logger,
  engine: Engine,
  events: EventsService,
  endless: readonly Disposable[],
): Promise<void> {
  if (shutdown.delayMs > 0) await pause(shutdown.delayMs);
  logger.info({ graceMs: shutdown.graceMs }, "draining");
  const callsCut = pause(shutdown.graceMs * CALLS_SHARE);
  const engineDrained = engine.drain();
  for (const service of endless) service[Symbol.dispose]();
  await Promise.race([events.drain(shutdown.graceMs * SETTLING_SHARE).then(() => engineDrained), callsCut]);
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms).unref());
}

async function startNats(config: Config, logger: Logger): Promise<EmbeddedNats | undefined> {
  if (!config.nats.embedded) return undefined;
  const { serverBin, dataDir } = config.nats;
  const embedded = await startEmbeddedNats({
    ...(serverBin === undefined ? {} : { binary: serverBin }),
    dataDir,
    logger,
  });
  logger.info(
    { url: embedded.url, dataDir, version: embedded.version, pid: embedded.pid },
    "NATS_URL is unset: started a nats-server of its own",
  );
  return embedded;
}

function natsOptions({ nats }: Config, embeddedUrl: string | undefined): NatsOptions {
  const { auth } = nats;
  return {
    servers: embeddedUrl === undefined ? nats.servers : [embeddedUrl],
    name: nats.connectionName,
    inboxPrefix: nats.inboxPrefix,
    domain: nats.jetstreamDomain,
    requestTimeoutMs: nats.requestTimeoutMs,
    tls: nats.tls,
    ...(auth.kind === "creds" ? { credsFile: auth.file } : {}),
    ...(auth.kind === "nkey" ? { nkeySeed: auth.seed } : {}),
    ...(auth.kind === "token" ? { token: auth.token } : {}),
    ...(auth.kind === "user" ? { user: auth.user, password: auth.password } : {}),
  };
}

type EngineHooks = Required<Pick<EngineOptions, "onError" | "onRefused" | "onUnread">>;

type EngineClass = new (options: EngineOptions) => Engine;

/** The other one is not loaded: it takes 5 MiB. */
async function engineOfChoice({ grpc }: Config): Promise<EngineClass> {
  return grpc.engine === "native" ? NativeEngine : (await import("./grpc/engine/grpc-js.ts")).GrpcJsEngine;
}

function createEngine(EngineOfChoice: EngineClass, { grpc }: Config, hooks: EngineHooks): Engine {
  const { tls, ...limits } = grpc;
  const options = { ...limits, ...hooks };
  if (tls === undefined) return new EngineOfChoice(options);
  return new EngineOfChoice({ ...options, tls: firstTls(tls) });
}

/** Files that cannot be used are told at the start, with the variables that name them. */
function firstTls(files: TlsFiles): EngineTls {
  try {
    return readTls(files);
  } catch (cause) {
    throw new StartError(`TLS_CERT_FILE, TLS_KEY_FILE, TLS_CLIENT_CA_FILE: ${String(cause)}`, { cause });
  }
}

/** Certificates live shorter than servers. */
function renewTls(files: TlsFiles, renew: (tls: EngineTls) => void, logger: Logger): Disposable {
  return watchTls(files, {
    onRenewed: (tls) => {
      renew(tls);
      logger.info({ validTo: new X509Certificate(tls.cert).validTo }, "took over the renewed TLS files");
    },
    onFault: (error) =>
      logger.error({ err: error }, "the changed TLS files cannot be used: those before stay in force"),
  });
}

/** Counts and logs calls that are cut off because their client does not read; a crowd of them in part. */
function slowClientReport(logger: Logger, metrics: Metrics): NonNullable<EngineOptions["onUnread"]> {
  const text = "a call was cut off: its client does not read, and GRPC_MAX_UNREAD_BYTES is reached";
  const onQuiet = (_: string, leftOut: number): void => logger.warn({ leftOut }, text);
  const limit = new LineLimit(SLOW_CLIENT_LINES_PER_SECOND, { onQuiet });
  return ({ path, peer }, bytes) => {
    metrics.slowClients.add(1);
    const leftOut = limit.admit("");
    if (leftOut === undefined) return;
    logger.warn({ path, peer, bytes, ...(leftOut === 0 ? {} : { leftOut }) }, text);
  };
}

function checks(connection: NatsConnection, api: JetStreamApi, state: { isDraining: boolean }): ReadinessCheck[] {
  return [
    { name: "server", check: () => (state.isDraining ? "the server is shutting down" : undefined) },
    { name: "nats", check: () => (connection.connected ? undefined : "not connected to NATS") },
    { name: "jetstream", check: async () => jetStreamProblem(api) },
  ];
}

/** Why JetStream cannot be used; undefined where it answers. */
async function jetStreamProblem(api: JetStreamApi): Promise<string | undefined> {
  try {
    await api.request("INFO", undefined);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Keeps gauges and `grpc.health.v1` true to NATS: at once when the connection is lost, else by asking JetStream. */
async function watchNats(
  connection: NatsConnection,
  api: JetStreamApi,
  publisher: Publisher,
  metrics: Metrics,
  onServing: (serving: boolean) => void,
): Promise<Disposable> {
  const look = async (): Promise<void> => {
    await connection.ping().catch(() => undefined);
    metrics.natsConnected.set(connection.connected ? 1 : 0);
    metrics.natsRoundTrip.set(connection.roundTripMs / 1000);
    metrics.publishesInFlight.set(publisher.inFlight);
    metrics.publishesWaiting.set(publisher.waiting);
    const serving = connection.connected && (await jetStreamProblem(api)) === undefined;
    onServing(serving && connection.connected);
  };
  const stop = connection.listen({
    onConnected: () => {
      if (connection.reconnects > 0) metrics.natsReconnects.add(1);
      void look();
    },
    onDisconnected: () => {
      metrics.natsConnected.set(0);
      onServing(false);
    },
  });
  await look();
  const timer = setInterval(() => void look(), LOOK_INTERVAL_MS);
  return {
    [Symbol.dispose]: () => {
      stop();
      clearInterval(timer);
    },
  };
}

function logStart(
  logger: Logger,
  config: Config,
  started: {
    readonly instance: string;
    readonly grpcPort: number;
    readonly healthServer: HealthServer;
    readonly connection: NatsConnection;
    readonly embedded: EmbeddedNats | undefined;
  },
): void {
  const { connection, embedded } = started;
  for (const warning of config.warnings) logger.warn(warning);
  logger.info(
    {
      version: VERSION,
      instance: started.instance,
      node: process.versions.node,
      grpc: `${config.grpc.host}:${started.grpcPort}`,
      health: `${config.health.host}:${started.healthServer.port}`,
      nats: embedded === undefined ? redacted(config.nats.servers) : "embedded",
      natsVersion: connection.server?.version,
      natsConnected: connection.connected,
    },
    `serving gRPC on ${config.grpc.host}:${started.grpcPort}`,
  );
}
