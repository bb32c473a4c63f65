import { X509Certificate } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type CertificateName, certificateCredential } from "../../../src/auth/certificates.ts";
import { Authority, selfSigned } from "../../support/certificate.ts";

describe.skipIf(selfSigned() === undefined)("a client certificate", () => {
  function credential(subject: string, names: string | undefined, from: CertificateName) {
    using authority = new Authority();
    const request = names === undefined ? { subject } : { subject, names };
    return certificateCredential(new X509Certificate(authority.issue(request).cert), from);
  }

  test.each<[from: CertificateName, name: string]>([
    ["cn", "orders"],
    ["dns", "orders.shop"],
    ["uri", "spiffe://shop/orders"],
    ["email", "orders@shop.example"],
  ])("names its holder by %s", (from, name) => {
    const names = "URI:spiffe://shop/orders,DNS:orders.shop,email:orders@shop.example,IP:127.0.0.1";
    const found = credential("/O=shop/OU=eu/OU=writers/CN=orders", names, from);
    expect(found.principal).toEqual({
      name,
      kind: "certificate",
      groups: ["eu", "writers"],
      claims: { O: "shop", OU: ["eu", "writers"], CN: "orders", fingerprint: expect.stringMatching(/^[0-9A-F:]{95}$/) },
    });
    expect(found.expiresAtMs).toBeGreaterThan(Date.now());
  });

  test.each<[what: string, subject: string, names: string | undefined, from: CertificateName]>([
    ["without a common name", "/O=shop", undefined, "cn"],
    ["with two common names", "/CN=orders/CN=admin", undefined, "cn"],
    ["without a SAN", "/CN=orders", undefined, "dns"],
    ["with a SAN of another kind", "/CN=orders", "DNS:spiffe", "uri"],
    ["with two SANs of the kind", "/CN=orders", "DNS:a,DNS:b", "dns"],
    ["with a URI that holds another name", "/CN=orders", "@names\n[names]\nURI.1=http://a/, DNS:admin", "dns"],
    ["with a common name of several lines", "/CN=orders\nadmin", undefined, "cn"],
  ])("%s names nobody", (_, subject, names, from) => {
    expect(() => credential(subject, names, from)).toThrow("the call needs a valid credential");
  });
});
