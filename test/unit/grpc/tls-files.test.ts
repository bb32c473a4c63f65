import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test as base } from "vitest";
import { type TlsFiles, readTls } from "../../../src/grpc/tls-files.ts";
import { selfSigned } from "../../support/certificate.ts";

const pair = selfSigned();
const other = selfSigned();

interface Folder {
  readonly files: TlsFiles;
  write(name: "cert" | "key" | "ca", content: string | Buffer): void;
}

const test = base.extend<{ folder: Folder }>({
  folder: async ({}, use) => {
    const path = mkdtempSync(join(tmpdir(), "windshift-tls-"));
    const files = { certFile: join(path, "cert"), keyFile: join(path, "key"), clientCaFile: join(path, "ca") };
    const write: Folder["write"] = (name, content) => writeFileSync(join(path, name), content);
    if (pair !== undefined) {
      write("cert", pair.cert);
      write("key", pair.key);
      write("ca", pair.cert);
    }
    await use({ files: { ...files, clientCertificate: "optional" }, write });
    rmSync(path, { recursive: true });
  },
});

test.skipIf(pair === undefined)("reads what fits together", ({ folder: { files } }) => {
  expect(readTls(files)).toEqual({ ...pair, clientCa: pair!.cert, clientCertificate: "optional" });
  expect(readTls({ ...files, clientCaFile: undefined })).toEqual(pair);
});

test
  .skipIf(pair === undefined || other === undefined)
  .for<[name: "cert" | "key" | "ca", content: string | Buffer | undefined, problem: RegExp]>([
    ["key", other?.key, /the key in .*key does not belong to the certificate in .*cert$/],
    ["cert", other?.cert, /the key in .*key does not belong to the certificate in .*cert$/],
    ["cert", "", /there is no certificate in .*cert, as PEM: /],
    ["cert", pair?.key, /there is no certificate in .*cert, as PEM: /],
    ["key", pair?.cert, /there is no private key in .*key, as PEM: /],
    ["key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", /there is no private key in .*key, as PEM/],
    ["ca", "nonsense", /there is no certificate in .*ca, as PEM: /],
  ])("refuses a file %s that holds %o", ([name, content, problem], { folder: { files, write } }) => {
  write(name, content!);
  expect(() => readTls(files)).toThrow(problem);
});

test("refuses files that are not there", ({ folder: { files } }) => {
  expect(() => readTls({ ...files, keyFile: "/nowhere" })).toThrow(/ENOENT.*\/nowhere/);
});
