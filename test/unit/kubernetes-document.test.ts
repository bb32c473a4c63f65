/** The manifests of docs/kubernetes.md, held against the code. They are read as text: YAML is the only thing not checked. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readConfig } from "../../src/config/config.ts";
import { VARIABLES } from "../../src/config/variables.ts";

const document = readFileSync(new URL("../../docs/kubernetes.md", import.meta.url), "utf8");
const manifests = [...document.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = ""]) => text);
const deployment = manifest("Deployment");
const env = Object.fromEntries(
  [...deployment.matchAll(/- name: ([A-Z_]+)\n +value: (.*)/g)].map(([, name = "", value = ""]) => [
    name,
    value.replace(/^"(.*)"$/, "$1"),
  ]),
);
// The credentials file is mounted there, not here.
const config = readConfig({ ...env, NATS_CREDS_FILE: import.meta.filename, KUBERNETES_SERVICE_HOST: "10.0.0.1" });

function manifest(kind: string): string {
  const found = manifests.filter((text) => text.includes(`\nkind: ${kind}\n`));
  if (found.length !== 1) throw new Error(`there are ${found.length} manifests of kind ${kind}`);
  return found[0] ?? "";
}

function numberOf(text: string, key: string): number {
  return Number(new RegExp(`${key}: (\\d+)`).exec(text)?.[1]);
}

describe("the manifests for Kubernetes", () => {
  test("set only variables that exist, to values that a start accepts", () => {
    const names = VARIABLES.flatMap(({ name }) => [name, `${name}_FILE`]);
    expect(names).toEqual(expect.arrayContaining(Object.keys(env)));
    expect(Object.keys(env)).toEqual(expect.arrayContaining(["NATS_URL", "NATS_CREDS_FILE"]));
    expect(config.warnings).toEqual([]);
    expect(config.nats).toMatchObject({ embedded: false, auth: { kind: "creds" } });
    expect(config.limits.defaultReplicas).toBe(3);
    expect(config.grpc.maxConnectionAgeMs).toBeGreaterThan(0);
  });

  test("leave more time to stop than the server takes", () => {
    const { delayMs, graceMs } = config.shutdown;
    expect(numberOf(deployment, "terminationGracePeriodSeconds") * 1000).toBeGreaterThan(delayMs + graceMs);
  });

  test("name the ports and paths that the server serves", () => {
    expect(numberOf(deployment, "name: grpc, containerPort")).toBe(config.grpc.port);
    expect(numberOf(deployment, "name: health, containerPort")).toBe(config.health.port);
    expect(deployment).toMatch(/livenessProbe:\n +httpGet: \{ path: \/healthz, port: health \}/);
    expect(deployment).toMatch(/readinessProbe:\n +httpGet: \{ path: \/readyz, port: health \}/);
    expect(numberOf(manifest("Service"), "name: grpc, port")).toBe(config.grpc.port);
    expect(manifest("NetworkPolicy")).toContain(`ports: [{ port: ${config.grpc.port} }]`);
  });

  test("select the pods of the deployment", () => {
    const label = "app.kubernetes.io/name: windshift";
    for (const kind of ["Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"])
      expect(manifest(kind)).toContain(`{ ${label} }`);
    expect(manifest("Service")).toContain("clusterIP: None");
  });

  test("mount the secret where its variable points", () => {
    const secret = /name: (\S+)/.exec(manifest("Secret"))?.[1];
    expect(deployment).toContain(`secretName: ${secret}`);
    const folder = /mountPath: ([^,]+),/.exec(deployment)?.[1];
    const file = /^ {2}(\S+): \|/m.exec(manifest("Secret"))?.[1];
    expect(env["NATS_CREDS_FILE"]).toBe(`${folder}/${file}`);
  });

  test("name only variables that exist in the text", () => {
    const known = new Set(VARIABLES.flatMap(({ name }) => [name, `${name}_FILE`]));
    const named = [...document.matchAll(/`([A-Z]+_[A-Z_]+)`/g)].map(([, name = ""]) => name);
    expect(named.filter((name) => !known.has(name))).toEqual([]);
  });
});
