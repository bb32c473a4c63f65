/** Rules over several variables: contradictions, and what looks like a mistake. */
import type { ConfigFault, Environment, Source, Values } from "./env.ts";
import { type TABLE, VARIABLES, type VariableName } from "./variables.ts";

/** What the rules look at and write to. Values at fault are missing from `values`, whatever their type says. */
export interface ConfigContext {
  readonly values: Values<typeof TABLE>;
  readonly sources: ReadonlyMap<string, Source>;
  readonly env: Environment;
  readonly faults: ConfigFault[];
  readonly warnings: string[];
}

/** Notes a fault. */
export function fault(context: ConfigContext, variable: VariableName, problem: string, value?: string): void {
  context.faults.push({ variable, value, problem });
}

/** Both or neither: the one that is missing is at fault. */
export function pair(context: ConfigContext, first: VariableName, second: VariableName): void {
  const isSet = (name: VariableName): boolean => context.sources.get(name) !== "unset";
  if (isSet(first) && !isSet(second)) fault(context, second, `is needed beside ${first}`);
  if (isSet(second) && !isSet(first)) fault(context, first, `is needed beside ${second}`);
}

/** Rules of the servers that we listen with. */
export function checkGrpc(context: ConfigContext): void {
  const { values, sources } = context;
  pair(context, "TLS_CERT_FILE", "TLS_KEY_FILE");
  if (values.TLS_CLIENT_CA_FILE !== undefined && values.TLS_CERT_FILE === undefined) {
    fault(context, "TLS_CERT_FILE", "is needed beside TLS_CLIENT_CA_FILE");
  }
  if (sources.get("TLS_CLIENT_CERTIFICATE") !== "default" && values.TLS_CLIENT_CA_FILE === undefined) {
    fault(context, "TLS_CLIENT_CA_FILE", "is needed beside TLS_CLIENT_CERTIFICATE");
  }
  if (values.GRPC_PORT !== undefined && values.GRPC_PORT !== 0 && values.GRPC_PORT === values.HEALTH_PORT) {
    fault(context, "HEALTH_PORT", "must differ from GRPC_PORT", String(values.HEALTH_PORT));
  }
}

/** Rules of the telemetry. */
export function checkTelemetry(context: ConfigContext): void {
  const { values, sources, env, warnings } = context;
  const timeoutIsSet = sources.get("OTEL_METRIC_EXPORT_TIMEOUT") === "environment";
  if (timeoutIsSet && values.OTEL_METRIC_EXPORT_TIMEOUT > values.OTEL_METRIC_EXPORT_INTERVAL) {
    const problem = "must not be longer than OTEL_METRIC_EXPORT_INTERVAL";
    fault(context, "OTEL_METRIC_EXPORT_TIMEOUT", problem, JSON.stringify(env["OTEL_METRIC_EXPORT_TIMEOUT"]));
  }
  const propagators = values.OTEL_PROPAGATORS ?? [];
  const unknown = propagators.filter((name) => !["tracecontext", "baggage", "none"].includes(name));
  if (unknown.length > 0) warnings.push(`OTEL_PROPAGATORS: ${unknown.join(", ")} has no effect, only tracecontext has`);
  if (propagators.includes("none") && propagators.length > 1) {
    fault(
      context,
      "OTEL_PROPAGATORS",
      "must not have other entries beside none",
      JSON.stringify(env["OTEL_PROPAGATORS"]),
    );
  }
  for (const name of [
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
  ]) {
    const protocol = env[name]?.trim() ?? "";
    if (protocol !== "" && protocol !== "grpc")
      warnings.push(`${name}: ${protocol} is not supported, exports use grpc`);
  }
}

const SECONDS_VARIABLES = VARIABLES.filter(({ name, kind }) => kind === "duration" && name.startsWith("OTEL_"));

/** OpenTelemetry means milliseconds where we and the original mean seconds. */
export function unitWarnings(env: Environment): string[] {
  return SECONDS_VARIABLES.filter(({ name }) => /^\d+$/.test(env[name]?.trim() ?? "") && Number(env[name]) >= 1000).map(
    ({ name }) => `${name}: ${env[name]} is in seconds here; write ${env[name]}ms if milliseconds are meant`,
  );
}

const KNOWN = new Set(VARIABLES.flatMap(({ name, secret }) => (secret === true ? [name, `${name}_FILE`] : [name])));
const PREFIXES = new Set(
  [...KNOWN].filter((name) => name.includes("_")).map((name) => name.slice(0, name.indexOf("_") + 1)),
);
/** Variables that Kubernetes and Docker set for a service called `nats` or `grpc`. */
const SERVICE_LINK = /_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP)(?:_\w+)?)$/;

/** Variables that nobody reads, but whose name is nearly that of one that is read. */
export function typoWarnings(env: Environment): string[] {
  const warnings: string[] = [];
  for (const name of Object.keys(env)) {
    const prefix = name.slice(0, name.indexOf("_") + 1);
    if (KNOWN.has(name) || !PREFIXES.has(prefix) || SERVICE_LINK.test(name)) continue;
    const near = [...KNOWN].find((known) => isNear(name, known));
    if (near !== undefined) warnings.push(`${name} is not a variable of Windshift: ${near} is`);
  }
  return warnings;
}

/** True when at most two letters were added, left out, changed or swapped with their neighbour. */
function isNear(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 2) return false;
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = at(row, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      next[j] = Math.min(change, at(row, j) + 1, at(next, j - 1) + 1, swapped ? at(before, j - 2) + 1 : Infinity);
    }
    before = row;
    row = next;
  }
  return at(row, b.length) <= 2;
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Infinity;
}
