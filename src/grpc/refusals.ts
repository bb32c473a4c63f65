/**
 * Calls that the engine refuses by itself. No interceptor sees them, so they get here what other failed calls get
 * there: a reason for their client, a line in the log, and a count.
 */
import { quote } from "../errors.ts";
import { METHODS, fullName, methodPaths } from "../rpc.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Metrics, OTHER_METHOD } from "../telemetry/metrics.ts";
import type { EngineOptions } from "./engine/engine.ts";
import { refusalError, toStatus } from "./errors.ts";
import { FailureLog } from "./interceptors/telemetry.ts";

const NAMES: ReadonlyMap<string, string> = new Map(
  Object.values(METHODS).flatMap((method) => methodPaths(method).map((path) => [path, fullName(method)])),
);

/** Makes the engine's hook for refusals. */
export function refusalReport(logger: Logger, metrics: Metrics): NonNullable<EngineOptions["onRefused"]> {
  const log = new FailureLog(logger);
  return (refusal) => {
    const error = refusalError(refusal);
    const status = toStatus(error);
    // The interceptors tell of calls that have a handler, when that hears of their end.
    if (refusal.isHandled) return status;
    const { path, peer, openedAt } = refusal;
    // Clients may invent any number of paths.
    const name = NAMES.get(path) ?? OTHER_METHOD;
    metrics.rpc(name).record(status.code, (performance.now() - openedAt) / 1000);
    log.write({ name, path: quote(path), peer, startedAt: openedAt }, status, error);
    return status;
  };
}
