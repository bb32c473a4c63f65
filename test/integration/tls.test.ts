/** TLS of the whole server: what it starts with, and files that are renewed while it serves. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test as base } from "vitest";
import { StartError } from "../../src/nats/start-error.ts";
import { type KeyPair, selfSigned } from "../support/certificate.ts";
import { failure, tlsCredentials } from "../support/client.ts";
import { type NatsServer, startNats } from "../support/nats.ts";
import { type Windshift, startWindshift } from "../support/windshift.ts";

interface Files {
  readonly env: Record<string, string>;
  write(pair: Partial<KeyPair>): void;
}

const test = base.extend<{ $file: { nats: NatsServer }; $test: { files: Files } }>({
  nats: [
    async ({}, use) => {
      await using nats = await startNats();
      await use(nats);
    },
    { scope: "file" },
  ],
  files: async ({}, use) => {
    const folder = mkdtempSync(join(tmpdir(), "windshift-tls-"));
    const [certFile, keyFile] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    await use({
      env: { TLS_CERT_FILE: certFile, TLS_KEY_FILE: keyFile },
      write: ({ cert, key }) => {
        if (cert !== undefined) writeFileSync(certFile, cert);
        if (key !== undefined) writeFileSync(keyFile, key);
      },
    });
    rmSync(folder, { recursive: true });
  },
});

const pair = selfSigned();
const renewed = selfSigned();

describe.skipIf(pair === undefined || renewed === undefined)("with certificates", () => {
  test("a key that is not the certificate's keeps it from starting", async ({ nats, files }) => {
    files.write({ cert: pair!.cert, key: renewed!.key });
    const start = startWindshift(nats.url, files.env);
    await expect(start).rejects.toThrow(StartError);
    await expect(start).rejects.toThrow(/TLS_KEY_FILE.*the key in .* does not belong to the certificate/);
  });

  test("renewed files are taken over once they fit together, and nobody is cut off", async ({ nats, files }) => {
    files.write(pair!);
    await using windshift = await startWindshift(nats.url, files.env);
    const before = windshift.connect(tlsCredentials(pair!.cert));
    await before.ensureStream({ name: "tls", source: { case: "subjects", value: { subjects: ["tls.>"] } } });
    const { id } = await before.ensureConsumer({ stream: "tls", subjects: ["tls.>"] });
    const subscription = await before.subscribe("tls", id);

    files.write({ cert: renewed!.cert });
    await logged(windshift, "the changed TLS files cannot be used: those before stay in force");
    await windshift.connect(tlsCredentials(pair!.cert)).publish("tls.a");

    files.write({ key: renewed!.key });
    await logged(windshift, "took over the renewed TLS files");
    await windshift.connect(tlsCredentials(renewed!.cert)).publish("tls.b");
    const outdated = windshift.connect(tlsCredentials(pair!.cert));
    expect(await failure(outdated.publish("tls.c"))).toMatchObject({ status: "UNAVAILABLE" });
    await before.publish("tls.d");
    expect((await subscription.take(3)).map(({ subject }) => subject)).toEqual(["tls.a", "tls.b", "tls.d"]);
    await subscription.cancel();
  });
});

async function logged({ log }: Windshift, message: string): Promise<void> {
  await expect.poll(() => log.map(({ msg }) => msg)).toContain(message);
}
