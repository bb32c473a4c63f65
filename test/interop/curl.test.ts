/** curl, whose HTTP/2 is nghttp2's: with prior knowledge in plain text, and with ALPN over TLS. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { TlsFiles } from "../support/certificate.ts";
import { test as base } from "../support/fixtures.ts";
import { execute } from "../support/toolchain.ts";
import { startWindshift } from "../support/windshift.ts";

const CHECK = "/grpc.health.v1.Health/Check";
/** An empty message, and one that says `SERVING`, with their five bytes before them. */
const EMPTY = Buffer.alloc(5);
const SERVING = "\0\0\0\0\u0002\u0008\u0001";

const test = base.extend<{ folder: string }>({
  folder: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), "windshift-curl-"));
    await use(folder);
    await rm(folder, { recursive: true });
  },
});

/** Whether it is there, and knows HTTP/2. */
const isThere = await execute("curl", ["--version"]).then(
  (version) => /^Features:.*\bHTTP2\b/m.test(version),
  () => false,
);

describe.skipIf(!isThere)("curl", () => {
  test("calls a method in plain text, and reads its trailers", async ({ windshift, folder }) => {
    // curl 7.88 cannot use a connection again that it began with prior knowledge.
    await expectAnswers(folder, 1, ["--http2-prior-knowledge"], `http://${windshift.address}`);
  });

  test("calls a method over TLS, several times on a connection", async ({ nats, folder, skip }) => {
    using tls = TlsFiles.make();
    if (tls === undefined) return skip("needs openssl");
    await using windshift = await startWindshift(nats.url, tls.env);
    await expectAnswers(folder, 3, ["--http2", "--cacert", tls.certFile], `https://${windshift.address}`);
  });

  test("is told which method there is not", async ({ windshift, folder }) => {
    const url = `http://${windshift.address}/windshift.Nothing/Nothing`;
    // The answer comes with the header fields, ends the stream, and resets what is still to be sent (RFC 9113, section 8.1):
    // curl 7.88 takes that for an error of the stream if it has a message to send, and has not sent it yet.
    const { head } = await post(folder, ["--http2-prior-knowledge", url], Buffer.alloc(0));
    expect(head).toMatch(/^HTTP\/2 200 *\r\n/);
    expect(head).toMatch(/^grpc-status: 12\r$/m);
  });
});

/** So many calls, on one connection. */
async function expectAnswers(folder: string, calls: number, args: readonly string[], origin: string): Promise<void> {
  const urls = Array.from({ length: calls }, () => origin + CHECK);
  const { head, body } = await post(folder, [...args, ...urls]);
  expect(body).toBe(SERVING.repeat(calls));
  expect(head.match(/^HTTP\/2 200 *\r$/gm)).toHaveLength(calls);
  expect(head.match(/^grpc-status: 0\r$/gm)).toHaveLength(calls);
}

/** Posts an empty message, or what is given; header fields and trailers of all responses, and their bodies. */
async function post(
  folder: string,
  args: readonly string[],
  message: Buffer = EMPTY,
): Promise<{ head: string; body: string }> {
  const [sent, head] = [join(folder, "sent"), join(folder, "head")];
  await writeFile(sent, message);
  const grpc = ["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", `@${sent}`];
  const body = await execute("curl", ["--silent", "--show-error", "--dump-header", head, ...grpc, ...args]);
  return { head: await readFile(head, "latin1"), body };
}
