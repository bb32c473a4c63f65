/**
 * The certificate of the gRPC server and the authorities of its clients, as files that are renewed while it runs. What
 * does not fit together is never served: while cert-manager or an operator replaces one file after the other, what was
 * read last stays in force.
 */
import { X509Certificate, createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { watchFiles } from "../watched-files.ts";
import type { EngineTls } from "./engine/engine.ts";

/** Where the PEM files are. */
export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile: string | undefined;
  /** Whether clients have to show a certificate; only with `clientCaFile`. */
  readonly clientCertificate: "required" | "optional";
}

/** Hears of what became of changed files. */
export interface TlsFilesListener {
  onRenewed(tls: EngineTls): void;
  /** What is in the files now cannot be used. */
  onFault(error: Error): void;
}

/** Reads the files. Throws an error that says which of them is wrong. */
export function readTls({ certFile, keyFile, clientCaFile, clientCertificate }: TlsFiles): EngineTls {
  const cert = readFileSync(certFile);
  const key = readFileSync(keyFile);
  const certificate = parsed(certFile, "certificate", () => new X509Certificate(cert));
  const privateKey = parsed(keyFile, "private key", () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new Error(`the key in ${keyFile} does not belong to the certificate in ${certFile}`);
  }
  if (clientCaFile === undefined) return { cert, key };
  const clientCa = readFileSync(clientCaFile);
  parsed(clientCaFile, "certificate", () => new X509Certificate(clientCa));
  return { cert, key, clientCa, clientCertificate };
}

/** Reads the files again whenever one of them changed. */
export function watchTls(files: TlsFiles, { onRenewed, onFault }: TlsFilesListener): Disposable {
  const { certFile, keyFile, clientCaFile } = files;
  const paths = [certFile, keyFile, ...(clientCaFile === undefined ? [] : [clientCaFile])];
  return watchFiles(paths, () => {
    try {
      onRenewed(readTls(files));
    } catch (error) {
      onFault(error as Error);
    }
  });
}

function parsed<T>(file: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new Error(`there is no ${what} in ${file}, as PEM: ${(cause as Error).message}`, { cause });
  }
}
