import { describe, expect, test } from "vitest";
import { type NatsServers, parseNatsServers } from "../../../src/config/nats-servers.ts";

const PLAIN = { tls: false, user: undefined, token: undefined };

describe("servers of one NATS", () => {
  test.each<[string[], NatsServers]>([
    [["nats://a:4222"], { ...PLAIN, addresses: ["a:4222"] }],
    [["a"], { ...PLAIN, addresses: ["a:4222"] }],
    [["127.0.0.1:4333", "nats://b"], { ...PLAIN, addresses: ["127.0.0.1:4333", "b:4222"] }],
    [["nats://[::1]:4222/"], { ...PLAIN, addresses: ["[::1]:4222"] }],
    [["tls://a", "nats://b"], { ...PLAIN, tls: true, addresses: ["a:4222", "b:4222"] }],
    [
      ["nats://me:p%40ss@a", "nats://me:p%40ss@b"],
      { ...PLAIN, addresses: ["a:4222", "b:4222"], user: { name: "me", password: "p@ss" } },
    ],
    [["nats://t0ken@a"], { ...PLAIN, addresses: ["a:4222"], token: "t0ken" }],
  ])("%o", (entries, expected) => {
    expect(parseNatsServers(entries)).toEqual(expected);
  });
});

describe("what is not a server", () => {
  test.each([
    [[]],
    [["nats://"]],
    [["http://a:80"]],
    [["ws://a"]],
    [["nats://a:99999"]],
    [["nats://a/path"]],
    [["nats://a?tls=1"]],
    [["nats://:pass@a"]],
    [["nats://%E0@a"]],
    [["a b"]],
    // One connection has one set of credentials.
    [["nats://me:pass@a", "nats://you:pass@b"]],
    [["nats://me:pass@a", "nats://b"]],
  ])("%o", (entries) => {
    expect(parseNatsServers(entries)).toBeUndefined();
  });
});
