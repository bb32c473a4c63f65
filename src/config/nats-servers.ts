/**
 * The servers in `NATS_URL`. The client library reads host and port alone: a user in the URL, which the original's
 * accepts, would be dropped there, or even be taken for the port. So URLs are taken apart here.
 */

/** Servers of one cluster and what their URLs say besides. */
export interface NatsServers {
  /** `host:port` each, without scheme and credentials. */
  readonly addresses: readonly string[];
  /** One of them asks for TLS by its scheme. */
  readonly tls: boolean;
  /** From `nats://user:password@host`. */
  readonly user: { readonly name: string; readonly password: string } | undefined;
  /** From `nats://token@host`. */
  readonly token: string | undefined;
}

const DEFAULT_PORT = "4222";
const SCHEMES = new Set(["nats:", "tls:"]);

/** What would be valid, for the error. */
export const EXPECTED_SERVERS =
  "must be a comma separated list of servers such as nats://host:4222 or tls://host:4222, with the same credentials if any";

/** Reads the entries of `NATS_URL`; undefined when one of them is not valid or they disagree. */
export function parseNatsServers(entries: readonly string[]): NatsServers | undefined {
  const servers = entries.map(parseServer);
  const first = servers[0];
  const addresses: string[] = [];
  for (const server of servers) {
    if (server === undefined || first === undefined) return undefined;
    if (server.username !== first.username || server.password !== first.password) return undefined;
    addresses.push(`${server.hostname}:${server.port === "" ? DEFAULT_PORT : server.port}`);
  }
  if (first === undefined) return undefined;
  const name = decode(first.username);
  const password = decode(first.password);
  if (name === undefined || password === undefined) return undefined;
  return {
    addresses,
    tls: servers.some((server) => server?.protocol === "tls:"),
    user: name !== "" && password !== "" ? { name, password } : undefined,
    token: name !== "" && password === "" ? name : undefined,
  };
}

function parseServer(entry: string): URL | undefined {
  const url = URL.parse(entry.includes("://") ? entry : `nats://${entry}`);
  if (url === null || !SCHEMES.has(url.protocol) || url.hostname === "") return undefined;
  const bare = (url.pathname === "" || url.pathname === "/") && url.search === "" && url.hash === "";
  const halfUser = url.username === "" && url.password !== "";
  return bare && !halfUser ? url : undefined;
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
