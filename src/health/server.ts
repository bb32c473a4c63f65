/**
 * The HTTP server for whoever operates the daemon: `/healthz` says that the event loop turns, `/readyz` whether calls
 * would be served and if not why, `/metrics` everything that was counted. It is started first and stopped last, so that
 * an orchestrator can watch the whole life; NATS being away makes the server not ready, never not alive.
 */
import { type FastifyInstance, type FastifyReply, fastify } from "fastify";

/** One thing that must hold for the server to be ready. */
export interface ReadinessCheck {
  readonly name: string;
  /** Undefined while all is well, else the reason. A check that throws or does not answer in time counts as failed. */
  check(): string | undefined | Promise<string | undefined>;
}

/** Result of one check, as `/readyz` shows it. */
interface CheckResult {
  readonly name: string;
  readonly ok: boolean;
  readonly reason?: string;
}

/** Where to listen and what to show. */
export interface HealthServerOptions {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Asked anew, all at once, at each request. */
  readonly checks: readonly ReadinessCheck[];
  /** The text for `/metrics`; without it the path does not exist. */
  readonly renderMetrics?: () => Promise<string>;
  /** A check that takes longer has failed; 2 s unless given. */
  readonly checkTimeoutMs?: number;
}

/** A listening server. Disposing it closes its connections. */
export interface HealthServer extends AsyncDisposable {
  /** The bound port. */
  readonly port: number;
}

const CHECK_TIMEOUT_MS = 2000;

/** Starts the server; rejects when the address cannot be had. */
export async function startHealthServer(options: HealthServerOptions): Promise<HealthServer> {
  // Probes come every few seconds: requests are not logged. Probes keep connections open: closing does not wait for them.
  const server = fastify({ logger: false, forceCloseConnections: true });
  addRoutes(server, options);
  await server.listen({ host: options.host, port: options.port });
  const address = server.server.address();
  const port = typeof address === "object" && address !== null ? address.port : options.port;
  return { port, [Symbol.asyncDispose]: () => server.close() };
}

function addRoutes(server: FastifyInstance, options: HealthServerOptions): void {
  const { checks, renderMetrics, checkTimeoutMs = CHECK_TIMEOUT_MS } = options;
  server.addHook("onRequest", (_request, reply, done) => {
    reply.header("cache-control", "no-store");
    done();
  });

  server.get("/healthz", () => ({ status: "ok" }));

  server.get("/readyz", async (_request, reply) => {
    const results = await Promise.all(checks.map((check) => runCheck(check, checkTimeoutMs)));
    const ready = results.every(({ ok }) => ok);
    return reply.code(ready ? 200 : 503).send({ status: ready ? "ready" : "not ready", checks: results });
  });

  if (renderMetrics !== undefined) {
    server.get("/metrics", async (_request, reply) => {
      const text = await renderMetrics();
      return reply.type("text/plain; version=0.0.4; charset=utf-8").send(text);
    });
  }

  server.setNotFoundHandler((request, reply) => refuse(reply, 404, `there is no ${request.method} ${request.url}`));
  server.setErrorHandler((error, _request, reply) => refuse(reply, 500, String(error)));
}

function refuse(reply: FastifyReply, code: number, error: string): FastifyReply {
  return reply.code(code).send({ error });
}

/** Asks one check; whatever it does, there is an answer in time. */
async function runCheck(check: ReadinessCheck, timeoutMs: number): Promise<CheckResult> {
  const { name } = check;
  const late = Promise.withResolvers<string>();
  const timer = setTimeout(() => late.resolve(`no answer within ${timeoutMs} ms`), timeoutMs);
  try {
    const reason = await Promise.race([check.check(), late.promise]);
    return reason === undefined ? { name, ok: true } : { name, ok: false, reason };
  } catch (error) {
    return { name, ok: false, reason: error instanceof Error ? error.message : String(error) };
  } finally {
    clearTimeout(timer);
  }
}
