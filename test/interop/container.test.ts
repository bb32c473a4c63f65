/** The image as its users run it: built from the Dockerfile, without root, on a read-only root file system. */
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { GenericContainer, type StartedTestContainer, Wait, getContainerRuntimeClient } from "testcontainers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Client } from "../support/client.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const IMAGE = `windshift-test:${randomUUID()}`;
const NATS_IMAGE = "nats:2.14-alpine";
const BUILD_TIMEOUT_MS = 15 * 60_000;
const GRPC_PORT = 8080;
const HEALTH_PORT = 8088;

const engine = await getContainerRuntimeClient().catch(() => undefined);

test("a Docker engine answers", ({ skip }) => skip(engine === undefined, "needs a Docker engine"));

describe.skipIf(engine === undefined)("the image", () => {
  let volumes = 0;
  const cleanUp: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    await GenericContainer.fromDockerfile(ROOT).withBuildkit().build(IMAGE);
  }, BUILD_TIMEOUT_MS);
  afterAll(async () => {
    for (const clean of cleanUp.toReversed()) await clean();
  });

  /** Starts the image with a read-only root file system; waits until the image's own health check is content. */
  async function start(container: ServerContainer): Promise<StartedTestContainer> {
    const started = await container
      .withExposedPorts(GRPC_PORT, HEALTH_PORT)
      .withWaitStrategy(Wait.forHealthCheck())
      .start();
    cleanUp.push(() => started.stop().catch(() => undefined));
    return started;
  }

  /** A volume that goes with the tests. */
  function volume(): string {
    const name = `windshift-test-${process.pid}-${++volumes}`;
    cleanUp.push(() => engine!.container.dockerode.getVolume(name).remove({ force: true }));
    return name;
  }

  test("serves on its own NATS and keeps its data in the volume", async () => {
    const data = volume();
    const first = await start(new ServerContainer(IMAGE).withVolume(data, "/data"));
    await using client = connect(first);
    await client.ensureStream({ name: "orders", source: { case: "subjects", value: { subjects: ["orders.>"] } } });
    expect(await client.publish("orders.a")).toBe(1n);
    await first.stop({ timeout: 10_000 });

    const second = await start(new ServerContainer(IMAGE).withVolume(data, "/data"));
    await using again = connect(second);
    expect(await again.publish("orders.a")).toBe(2n);
  });

  test("runs without root and cannot write to its root file system", async () => {
    const server = await start(new ServerContainer(IMAGE).withVolume(volume(), "/data"));
    expect((await server.exec(["id", "-u"])).output.trim()).toBe("1000");
    expect((await server.exec(["touch", "/app/file"])).exitCode).not.toBe(0);
    expect((await server.exec(["touch", "/data/file"])).exitCode).toBe(0);
  });

  test("serves on the NATS that NATS_URL names", async () => {
    const network = await engine!.container.dockerode.createNetwork({ Name: `windshift-test-${process.pid}` });
    cleanUp.push(() => network.remove());
    const nats = await new GenericContainer(NATS_IMAGE)
      .withCommand(["--jetstream"])
      .withNetworkMode(`windshift-test-${process.pid}`)
      .withName(`windshift-test-nats-${process.pid}`)
      .withWaitStrategy(Wait.forLogMessage(/Server is ready/))
      .start();
    cleanUp.push(() => nats.stop());
    const server = await start(
      new ServerContainer(IMAGE)
        .withNetworkMode(`windshift-test-${process.pid}`)
        .withEnvironment({ NATS_URL: `nats://windshift-test-nats-${process.pid}:4222` }),
    );
    const ready = await fetch(`http://${server.getHost()}:${server.getMappedPort(HEALTH_PORT)}/readyz`);
    expect(ready.status).toBe(200);
  });

  test("refuses to keep events where nobody would find them again", async () => {
    const lines: string[] = [];
    const container = new ServerContainer(IMAGE)
      .withLogConsumer((stream) => stream.on("data", (line) => lines.push(String(line))))
      .withWaitStrategy(Wait.forLogMessage(/is not on a mounted volume/));
    const started = await container.start();
    cleanUp.push(() => started.stop());
    expect(lines.join("\n")).toContain("windshift: ");
  });
});

/** A container with the settings that an operator gives and the library has no name for. */
class ServerContainer extends GenericContainer {
  constructor(image: string) {
    super(image);
    this.hostConfig.ReadonlyRootfs = true;
    this.withDroppedCapabilities("ALL").withSecurityOpt("no-new-privileges");
  }

  /** Mounts a named volume, which Docker makes when it is not there. */
  withVolume(name: string, target: string): this {
    this.hostConfig.Binds = [...(this.hostConfig.Binds ?? []), `${name}:${target}`];
    return this;
  }
}

function connect(server: StartedTestContainer): Client & AsyncDisposable {
  const client = new Client(`${server.getHost()}:${server.getMappedPort(GRPC_PORT)}`);
  return Object.assign(client, { [Symbol.asyncDispose]: async () => client.close() });
}
