/** Who a client certificate belongs to. That it is valid, and whose authority signed it, TLS has found out already. */
import type { X509Certificate } from "node:crypto";
import { type Credential, isPrincipalName, unauthenticated } from "./credential.ts";

/** Where the name stands: the subject's common name, or the one subject alternative name of a kind. */
export type CertificateName = "cn" | "dns" | "uri" | "email";

const KINDS: Readonly<Record<Exclude<CertificateName, "cn">, string>> = { dns: "DNS", uri: "URI", email: "email" };

/**
 * The holder: groups are the organizational units (`OU`), claims the parts of the subject by their short names and the
 * `fingerprint`. Throws where there is not exactly one name: which of several is meant would be a guess.
 */
export function certificateCredential(certificate: X509Certificate, from: CertificateName): Credential {
  const subject: Readonly<Record<string, string | string[] | undefined>> = { ...certificate.toLegacyObject().subject };
  const names = from === "cn" ? listOf(subject["CN"]) : alternativeNames(certificate, KINDS[from]);
  const [name] = names;
  if (names.length !== 1 || !isPrincipalName(name)) {
    throw unauthenticated(`the client certificate has ${names.length} usable names of the kind ${from}, not one`);
  }
  const claims = { ...subject, fingerprint: certificate.fingerprint256 };
  const principal = { name, kind: "certificate", groups: listOf(subject["OU"]), claims } as const;
  return { principal, expiresAtMs: certificate.validToDate.getTime() };
}

function listOf(value: string | string[] | undefined): readonly string[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}

/** Node quotes values that could be taken for several; none that we accept needs that. */
function alternativeNames({ subjectAltName }: X509Certificate, kind: string): readonly string[] {
  if (subjectAltName === undefined || subjectAltName.includes('"')) return [];
  const start = `${kind}:`;
  return subjectAltName
    .split(", ")
    .filter((entry) => entry.startsWith(start))
    .map((entry) => entry.slice(start.length));
}
