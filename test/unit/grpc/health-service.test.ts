import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus as ServingStatus,
  HealthCheckResponseSchema,
  HealthListResponseSchema,
} from "../../../src/gen/grpc/health/v1/health_pb.ts";
import { HealthService, healthHandlers } from "../../../src/grpc/health-service.ts";
import { RecordedCall } from "./recorded-call.ts";

const SERVICE = "windshift.events.v1alpha1.EventsService";
const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = ServingStatus;
const MALFORMED = new Uint8Array([0x0a, 0xff]);

function start(health: HealthService, method: string, request: Uint8Array): RecordedCall {
  const handler = new Map(healthHandlers(health)).get(`/grpc.health.v1.Health/${method}`);
  if (handler === undefined || handler.kind === "bidi") throw new Error(`no handler for ${method}`);
  const call = new RecordedCall();
  handler.handle(call, request);
  return call;
}

function ask(health: HealthService, method: string, service: string): RecordedCall {
  return start(health, method, toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema, { service })));
}

function states(call: RecordedCall): ServingStatus[] {
  return call.sent.map((bytes) => fromBinary(HealthCheckResponseSchema, bytes).status);
}

test.each(["", SERVICE])("a check of %j tells the state of the server", (service) => {
  const health = new HealthService([SERVICE]);
  expect(states(ask(health, "Check", service))).toEqual([NOT_SERVING]);
  health.setServing(true);
  const call = ask(health, "Check", service);
  expect(states(call)).toEqual([SERVING]);
  expect(call.status?.code).toBe(0);
});

test("a check of a service that is not served is NOT_FOUND", () => {
  const call = ask(new HealthService([SERVICE]), "Check", "acme.Nothing");
  expect(call.sent).toEqual([]);
  expect(call.status).toEqual({ code: 5, message: 'service: "acme.Nothing" is not served here' });
});

test("a list has the state of every service", () => {
  const health = new HealthService([SERVICE]);
  health.setServing(true);
  const call = start(health, "List", new Uint8Array());
  const { statuses } = fromBinary(HealthListResponseSchema, call.sent[0]!);
  expect(Object.entries(statuses).map(([name, { status }]) => [name, status])).toEqual([
    ["", SERVING],
    [SERVICE, SERVING],
  ]);
  expect(call.status?.code).toBe(0);
});

test.each(["Check", "List", "Watch"])("bytes that are no message are INVALID_ARGUMENT for %s", (method) => {
  const health = new HealthService([SERVICE]);
  const call = start(health, method, MALFORMED);
  expect(call.sent).toEqual([]);
  expect(call.status?.code).toBe(3);
  expect(health.watchers).toBe(0);
});

test("a watch tells the state at once and each change, and only changes", () => {
  const health = new HealthService([SERVICE]);
  const calls = ["", SERVICE, SERVICE].map((service) => ask(health, "Watch", service));
  health.setServing(true);
  health.setServing(true);
  health.setServing(false);
  for (const call of calls) {
    expect(states(call)).toEqual([NOT_SERVING, SERVING, NOT_SERVING]);
    expect(call.status).toBeUndefined();
  }
});

test("a watch of an unknown service tells SERVICE_UNKNOWN and stays open", () => {
  const health = new HealthService([SERVICE]);
  const call = ask(health, "Watch", "acme.Nothing");
  health.setServing(true);
  expect(states(call)).toEqual([SERVICE_UNKNOWN]);
  expect(call.status).toBeUndefined();
  expect(health.watchers).toBe(1);
});

test.each([SERVICE, "acme.Nothing"])("a watch of %j that is cancelled is forgotten", (service) => {
  const health = new HealthService([SERVICE]);
  const call = ask(health, "Watch", service);
  expect(health.watchers).toBe(1);
  call.cancel();
  expect(health.watchers).toBe(0);
  health.setServing(true);
  expect(call.sent).toHaveLength(1);
});

test("a watcher that does not read gets the newest state alone when it reads again", () => {
  const health = new HealthService([SERVICE]);
  const call = ask(health, "Watch", SERVICE);
  call.hasRoom = false;
  for (let round = 0; round < 100; round++) {
    health.setServing(true);
    health.setServing(false);
  }
  health.setServing(true);
  expect(states(call)).toEqual([NOT_SERVING, SERVING]);
  health.setServing(false);
  call.drain();
  expect(states(call)).toEqual([NOT_SERVING, SERVING, NOT_SERVING]);
});

test("a watcher that missed a change and its reversal is told nothing", () => {
  const health = new HealthService([SERVICE]);
  const call = new RecordedCall();
  call.hasRoom = false;
  health.watch(call, new Uint8Array());
  health.setServing(true);
  health.setServing(false);
  call.drain();
  expect(states(call)).toEqual([NOT_SERVING]);
});

test("the disposal tells watchers that the server stops, and ends them", () => {
  const health = new HealthService([SERVICE]);
  health.setServing(true);
  const known = ask(health, "Watch", SERVICE);
  const unknown = ask(health, "Watch", "acme.Nothing");
  health[Symbol.dispose]();
  health.setServing(true);
  expect(states(known)).toEqual([SERVING, NOT_SERVING]);
  expect([known.status?.code, unknown.status?.code]).toEqual([14, 14]);
  expect(health.watchers).toBe(0);
  expect(states(ask(health, "Check", ""))).toEqual([NOT_SERVING]);
  const late = ask(health, "Watch", SERVICE);
  expect(states(late)).toEqual([NOT_SERVING]);
  expect(late.status?.code).toBe(14);
});
