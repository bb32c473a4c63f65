/**
 * The part of the configuration that decides which NATS is used and as whom. Embedded NATS is never an accident: where
 * several replicas would each get a store of their own, or the store would go with the container, it has to be meant.
 */
import { quote } from "../errors.ts";
import { HIDDEN, hideCredentials } from "./env.ts";
import { EXPECTED_SERVERS, type NatsServers, parseNatsServers } from "./nats-servers.ts";
import { type ConfigContext, fault, pair } from "./rules.ts";
import type { VariableName } from "./variables.ts";

/** As whom the connection to NATS is made. */
export type NatsAuth =
  | { readonly kind: "none" }
  | { readonly kind: "creds"; readonly file: string }
  | { readonly kind: "nkey"; readonly seed: string }
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "user"; readonly user: string; readonly password: string };

const MEANT = "set it to the servers of your NATS, or NATS_EMBEDDED=true to run a nats-server beside each replica";

/** The servers to connect to; undefined means embedded. */
export function natsServers(context: ConfigContext, isOnVolume: (folder: string) => boolean): NatsServers | undefined {
  const { values, env } = context;
  if (values.NATS_URL === undefined) {
    if (!values.NATS_EMBEDDED) checkEmbedded(context, isOnVolume);
    return undefined;
  }
  const value = quote(hideCredentials(env["NATS_URL"] ?? ""));
  if (values.NATS_EMBEDDED) fault(context, "NATS_EMBEDDED", "contradicts NATS_URL: unset one of the two", "true");
  const servers = parseNatsServers(values.NATS_URL);
  if (servers === undefined) fault(context, "NATS_URL", EXPECTED_SERVERS, value);
  return servers;
}

function checkEmbedded(context: ConfigContext, isOnVolume: (folder: string) => boolean): void {
  const { values, env, faults } = context;
  // A list of wrong form is a fault already, and nobody asked for embedded.
  if (faults.some(({ variable }) => variable === "NATS_URL")) return;
  if (env["NATS_URL"] !== undefined) fault(context, "NATS_URL", `is empty: ${MEANT}`, '""');
  else if (env["KUBERNETES_SERVICE_HOST"] !== undefined)
    fault(context, "NATS_URL", `is unset inside Kubernetes: ${MEANT}`);
  else if (values.WINDSHIFT_IMAGE && !isOnVolume(values.NATS_DATA_DIR)) {
    const problem = `is unset, and NATS_DATA_DIR (${values.NATS_DATA_DIR}) is not on a mounted volume, so that events would go with the container: mount one, set NATS_URL, or set NATS_EMBEDDED=true if that is meant`;
    fault(context, "NATS_URL", problem);
  }
}

/** The one kind of credentials that is set. */
export function natsAuth(context: ConfigContext, servers: NatsServers | undefined): NatsAuth {
  const { values } = context;
  pair(context, "NATS_USER", "NATS_PASSWORD");
  const found: { variable: VariableName; auth: NatsAuth }[] = [];
  const add = (variable: VariableName, auth: NatsAuth): unknown => found.push({ variable, auth });
  if (values.NATS_CREDS_FILE !== undefined) add("NATS_CREDS_FILE", { kind: "creds", file: values.NATS_CREDS_FILE });
  if (values.NATS_NKEY_SEED !== undefined) add("NATS_NKEY_SEED", { kind: "nkey", seed: values.NATS_NKEY_SEED });
  if (values.NATS_TOKEN !== undefined) add("NATS_TOKEN", { kind: "token", token: values.NATS_TOKEN });
  if (values.NATS_USER !== undefined) {
    add("NATS_USER", {
      kind: "user",
      user: values.NATS_USER,
      password: values.NATS_PASSWORD ?? "",
    });
  }
  if (servers?.user !== undefined) {
    add("NATS_URL", { kind: "user", user: servers.user.name, password: servers.user.password });
  }
  if (servers?.token !== undefined) add("NATS_URL", { kind: "token", token: servers.token });

  const [first, second] = found;
  if (first !== undefined && second !== undefined) {
    const others = found.slice(1).map(({ variable }) => variable);
    fault(context, first.variable, `is one kind of credentials too many beside ${others.join(", ")}: keep one`, HIDDEN);
  }
  if (first !== undefined) refuseForEmbedded(context, servers, first.variable);
  return first?.auth ?? { kind: "none" };
}

/** TLS for the connection to NATS, when anything asks for it. */
export function natsTls(
  context: ConfigContext,
  servers: NatsServers | undefined,
):
  | {
      caFile: string | undefined;
      certFile: string | undefined;
      keyFile: string | undefined;
      handshakeFirst: boolean;
    }
  | undefined {
  const { values } = context;
  pair(context, "NATS_TLS_CERT_FILE", "NATS_TLS_KEY_FILE");
  const settings: [VariableName, unknown][] = [
    ["NATS_TLS", values.NATS_TLS],
    ["NATS_TLS_CA_FILE", values.NATS_TLS_CA_FILE],
    ["NATS_TLS_CERT_FILE", values.NATS_TLS_CERT_FILE],
    ["NATS_TLS_HANDSHAKE_FIRST", values.NATS_TLS_HANDSHAKE_FIRST],
  ];
  const asked = settings.find(([, value]) => value !== undefined && value !== false)?.[0];
  if (asked !== undefined) refuseForEmbedded(context, servers, asked);
  if (asked === undefined && servers?.tls !== true) return undefined;
  return {
    caFile: values.NATS_TLS_CA_FILE,
    certFile: values.NATS_TLS_CERT_FILE,
    keyFile: values.NATS_TLS_KEY_FILE,
    handshakeFirst: values.NATS_TLS_HANDSHAKE_FIRST,
  };
}

/** Who has credentials for a NATS meant that one: a missing NATS_URL must not lead elsewhere. */
function refuseForEmbedded(context: ConfigContext, servers: NatsServers | undefined, variable: VariableName): void {
  const { values, faults, warnings } = context;
  if (servers !== undefined || faults.some((entry) => entry.variable === "NATS_URL")) return;
  if (values.NATS_EMBEDDED) warnings.push(`${variable} has no effect on the embedded NATS`);
  else fault(context, variable, "has no effect on the embedded NATS: set NATS_URL, or unset this", HIDDEN);
}
