/** Certificates, made by openssl: Node itself can make keys, but no certificates. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** PEM texts. */
export interface KeyPair {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** For 127.0.0.1 and localhost, for a day; undefined where there is no openssl. */
export function selfSigned(): KeyPair | undefined {
  const folder = mkdtempSync(join(tmpdir(), "windshift-tls-"));
  try {
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    const args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=windshift".split(
      " ",
    );
    const names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];
    execFileSync("openssl", [...args, ...names, "-keyout", key, "-out", cert], { stdio: "pipe" });
    return { cert: readFileSync(cert), key: readFileSync(key) };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A {@link selfSigned} certificate and its key in files, for a server that is started with `env`. */
export class TlsFiles implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "windshift-tls-"));
  readonly certFile = join(this.#folder, "cert.pem");
  readonly env = { TLS_CERT_FILE: this.certFile, TLS_KEY_FILE: join(this.#folder, "key.pem") };

  private constructor({ cert, key }: KeyPair) {
    writeFileSync(this.certFile, cert);
    writeFileSync(this.env.TLS_KEY_FILE, key);
  }

  /** Undefined where there is no openssl. */
  static make(): TlsFiles | undefined {
    const pair = selfSigned();
    return pair === undefined ? undefined : new TlsFiles(pair);
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }
}

/** What a certificate says. */
export interface CertificateRequest {
  /** As openssl takes it: `/O=shop/CN=orders`. */
  readonly subject: string;
  /** Subject alternative names: `URI:spiffe://shop/orders,DNS:orders`. */
  readonly names?: string;
  /** For how long from now on; a negative number makes one that is over. A day unless given. */
  readonly days?: number;
}

/** Who signs certificates; for tests that have seen that there is openssl. */
export class Authority implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "windshift-ca-"));
  /** Its own certificate. */
  readonly cert: Buffer;

  constructor(name = "authority") {
    this.#openssl(`req -x509 ${NEW_KEY} -days 2 -subj /CN=${name} -keyout ca.key -out ca.pem`);
    this.cert = this.#read("ca.pem");
  }

  /** A new key, and a certificate for it. */
  issue({ subject, names, days = 1 }: CertificateRequest): KeyPair {
    writeFileSync(join(this.#folder, "leaf.ext"), names === undefined ? "" : `subjectAltName=${names}\n`);
    this.#openssl("req", ...NEW_KEY.split(" "), "-subj", subject, "-keyout", "leaf.key", "-out", "leaf.csr");
    const signed = "-CA ca.pem -CAkey ca.key -CAcreateserial -extfile leaf.ext -out leaf.pem";
    this.#openssl(`x509 -req -in leaf.csr -days ${days} ${signed}`);
    return { cert: this.#read("leaf.pem"), key: this.#read("leaf.key") };
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }

  /** One text is split at its blanks. */
  #openssl(...args: string[]): void {
    const all = args.length === 1 ? args[0]!.split(" ") : args;
    execFileSync("openssl", all, { stdio: "pipe", cwd: this.#folder });
  }

  #read(name: string): Buffer {
    return readFileSync(join(this.#folder, name));
  }
}

const NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
