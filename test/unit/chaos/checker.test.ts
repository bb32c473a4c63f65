import { expect, test } from "vitest";
import { check } from "../../chaos/checker.ts";
import type { Evidence } from "../../chaos/checks/evidence.ts";
import { isLinearizable } from "../../chaos/checks/linearizable.ts";
import type { FaultRecord } from "../../chaos/faults/fault.ts";
import type { Happening, StateCall, Status } from "../../chaos/history.ts";
import { evidence, found, history } from "./made-up-runs.ts";

const SUBSCRIBE = { e: "subscribe", sub: "s", stream: "orders", consumer: "work", window: 2, server: 0 } as const;
const OTHER = { ...SUBSCRIBE, sub: "o" } as const;
const SUBSCRIBED = { e: "subscribed", sub: "s", timeoutMs: 4_000 } as const;
const OTHER_SUBSCRIBED = { ...SUBSCRIBED, sub: "o" } as const;

/** A publish that worked. */
function published(id: number): Happening[] {
  const key = `k${id}`;
  return [
    { e: "publish", by: "p", key, retries: true },
    { e: "published", by: "p", key, id },
  ];
}

function event(id: number, sub = "s", attempt = 1): Happening {
  return { e: "event", sub, id, key: `k${id}`, text: `k${id}`, attempt };
}

function status(state: Status, sub = "s"): Happening {
  return { e: "status", sub, state };
}

function acked(id: number, sub = "s"): Happening[] {
  return [
    { e: "settle", sub, kind: "ack", ids: [id] },
    { e: "confirmed", sub, kind: "ack", ids: [id], invalid: [], failed: [] },
  ];
}

/** Two publishes, of which the first has its answer after the second. */
function interleaved([publish, answer]: Happening[], [later, laterAnswer]: Happening[]): Happening[] {
  return [publish!, later!, laterAnswer!, answer!];
}

function fault(
  name: string,
  effects: FaultRecord["effects"],
  start: number,
  end: number,
  detail = "node 0",
): FaultRecord {
  return { name, effects, start, end, detail };
}

test("a run without a fault has no violations", () => {
  const entries = history(published(1), published(2), SUBSCRIBE, SUBSCRIBED, event(1), event(2), acked(1), acked(2));
  expect(check(evidence(entries))).toEqual([]);
});

test("a client that is paused while NATS goes away need not have heard of it", () => {
  const entries = history(SUBSCRIBE, SUBSCRIBED, status("ACTIVE"), 20_000, status("DISCONNECTED"));
  const away = fault("nats_away", ["stalls"], 2_000, 18_000, "server 0 - node 0, server 1 - node 0");
  const paused = fault("pause_client", ["stalls", "ends"], 1_900, 17_000, "test");
  const foundWith = (...faults: FaultRecord[]) =>
    found(evidence(entries, { consumers: [], faults: [away, ...faults] }));
  expect(foundWith(paused)).toEqual([]);
  expect(foundWith({ ...paused, name: "silent_client_link", detail: "test - server 1, test - server 0" })).toEqual([]);
  expect(foundWith({ ...paused, name: "pause_server", detail: "server-0", end: 4_000 })).toEqual([]);
  for (const [name, detail, end] of [
    ["pause_client", "another", 17_000],
    ["pause_client", "test", 4_000],
    ["silent_client_link", "test - server 1", 17_000],
    ["pause_server", "server-1", 17_000],
    ["slow_client_link", "test - server 0", 17_000],
  ] as const)
    expect(foundWith({ ...paused, name, detail, end })).toEqual(["status"]);
  expect(foundWith()).toEqual(["status"]);
});

test("an event that an earlier call may have stored has the id of that time", () => {
  const again = (outcome: "unknown" | "not_stored"): Evidence =>
    evidence(
      history(
        { e: "publish", by: "p", key: "k1", retries: true },
        { e: "publish_failed", by: "p", key: "k1", code: "UNAVAILABLE", reason: "NATS_UNAVAILABLE", outcome },
        published(2),
        published(1),
      ),
      { consumers: [], faults: [fault("mute_nats_link", ["stalls"], 900, 9_000)] },
    );
  expect(found(again("unknown"))).toEqual([]);
  expect(found(again("not_stored"))).toEqual(["order"]);
});

test("an event that comes twice in a row may be acknowledged twice", () => {
  const entries = history(
    published(1),
    SUBSCRIBE,
    SUBSCRIBED,
    event(1),
    acked(1)[0]!,
    event(1, "s", 2),
    acked(1)[0]!,
    acked(1)[1]!,
    acked(1)[1]!,
  );
  const faults = [fault("pause_server", ["stalls", "ends"], 500, 5_000, "server-0")];
  expect(found(evidence(entries, { faults }))).toEqual([]);
});

test("what a killed client held is somebody else's from then on", () => {
  const killed = history(published(1), SUBSCRIBE, SUBSCRIBED, event(1)).map((entry) => ({ ...entry, p: "killed" }));
  const other = history(
    300,
    published(2),
    OTHER,
    OTHER_SUBSCRIBED,
    [event(1, "o", 2), ...acked(1, "o")],
    event(2, "o"),
  );
  const consumers = [{ consumer: "work", pending: 0, unsettled: 0, limit: 1 }];
  expect(found(evidence([...killed, ...other], { consumers }))).not.toContain("credit");
});

test.each<[string, string, () => Evidence]>([
  ["an event that never came", "lost", () => evidence(history(published(1), SUBSCRIBE, SUBSCRIBED))],
  [
    "an event that came and that nobody settled",
    "lost",
    () => evidence(history(published(1), SUBSCRIBE, SUBSCRIBED, event(1))),
  ],
  [
    "an event that was left over",
    "stuck",
    () =>
      evidence(history(published(1), SUBSCRIBE, SUBSCRIBED, event(1), acked(1)), {
        consumers: [{ consumer: "work", pending: 0, unsettled: 1 }],
      }),
  ],
  [
    "an id under which nothing is",
    "lost publish",
    () => evidence(history(published(1)), { stored: [], consumers: [] }),
  ],
  [
    "an event under another id",
    "invented",
    () =>
      evidence(
        history(published(1), SUBSCRIBE, SUBSCRIBED, {
          e: "event",
          sub: "s",
          id: 2,
          key: "k1",
          text: "k1",
          attempt: 1,
        }),
      ),
  ],
  [
    "an event that nobody published",
    "invented",
    () => evidence([], { stored: [{ id: 1, key: "x", text: "x" }], consumers: [] }),
  ],
  [
    "a key that is stored twice",
    "stored twice",
    () =>
      evidence(history(published(1)), {
        stored: [
          { id: 1, key: "k1", text: "k1" },
          { id: 2, key: "k1", text: "k1" },
        ],
        consumers: [],
      }),
  ],
  [
    "a publish that was not stored, they said",
    "not stored",
    () =>
      evidence(
        history(
          { e: "publish", by: "p", key: "k1", retries: false },
          { e: "publish_failed", by: "p", key: "k1", code: "UNAVAILABLE", outcome: "not_stored" },
        ),
        { stored: [{ id: 1, key: "k1", text: "k1" }], consumers: [] },
      ),
  ],
  [
    "ids of one publisher that go back",
    "order",
    () => evidence(history(published(2), published(1)), { consumers: [] }),
  ],
  [
    "a delivery after a confirmed ack, counted on",
    "duplicated",
    () =>
      evidence(
        history(published(1), SUBSCRIBE, SUBSCRIBED, OTHER, OTHER_SUBSCRIBED, event(1), acked(1), event(1, "o", 2)),
      ),
  ],
  [
    "a delivery long after a confirmed ack",
    "duplicated",
    () =>
      evidence(
        history(published(1), SUBSCRIBE, SUBSCRIBED, OTHER, OTHER_SUBSCRIBED, event(1), acked(1), 5_000, event(1, "o")),
      ),
  ],
  [
    "more events than the window",
    "credit",
    () =>
      evidence(
        history(published(1), published(2), published(3), SUBSCRIBE, SUBSCRIBED, event(1), event(2), event(3), [
          ...acked(1),
          ...acked(2),
          ...acked(3),
        ]),
      ),
  ],
  [
    "an event too many while a failed ack holds one",
    "credit",
    () =>
      evidence(
        history(
          [published(1), published(2), published(3)].flat(),
          SUBSCRIBE,
          SUBSCRIBED,
          event(1),
          event(2),
          { e: "settle", sub: "s", kind: "ack", ids: [1] },
          { e: "confirmed", sub: "s", kind: "ack", ids: [], invalid: [], failed: [1] },
          event(3),
          [...acked(1), ...acked(2), ...acked(3)],
        ),
      ),
  ],
  [
    "an ack after the time ran out",
    "stale",
    () => evidence(history(published(1), SUBSCRIBE, SUBSCRIBED, event(1), 4_000, acked(1))),
  ],
  [
    "an ack of what was settled",
    "stale",
    () => evidence(history(published(1), SUBSCRIBE, SUBSCRIBED, event(1), acked(1), acked(1))),
  ],
  ["an ack of what never came", "stale", () => evidence(history(SUBSCRIBE, SUBSCRIBED, acked(7)), { consumers: [] })],
  [
    "a confirmation that is missing",
    "answer",
    () =>
      evidence(
        history(
          published(1),
          SUBSCRIBE,
          SUBSCRIBED,
          event(1),
          { e: "settle", sub: "s", kind: "ack", ids: [1] },
          20_000,
          { e: "ended", sub: "s", by: "client", code: "CANCELLED" },
        ),
      ),
  ],
  [
    "a confirmation that is missing after a half-close",
    "answer",
    () =>
      evidence(
        history(
          published(1),
          SUBSCRIBE,
          SUBSCRIBED,
          event(1),
          { e: "settle", sub: "s", kind: "ack", ids: [1] },
          { e: "half_close", sub: "s" },
          { e: "ended", sub: "s", by: "server" },
        ),
      ),
  ],
  [
    "a subscription that ends without a cause",
    "ended",
    () =>
      evidence(history(SUBSCRIBE, SUBSCRIBED, { e: "ended", sub: "s", by: "server", code: "NOT_FOUND" }), {
        consumers: [],
      }),
  ],
  [
    "a subscription that does not resume",
    "resume",
    () =>
      evidence(
        history(
          SUBSCRIBE,
          SUBSCRIBED,
          Array.from({ length: 40 }, (_, index) => published(index + 1)).flat(),
          3_000,
          published(41),
          { e: "ended", sub: "s", by: "client", code: "CANCELLED" },
        ),
        { consumers: [], leaderships: [{ consumer: "work", leader: "node-0", from: 1_030, to: 9_000 }] },
      ),
  ],
  [
    "more bytes than the window has",
    "credit",
    () => {
      const entries = history(
        published(1),
        published(2),
        { ...SUBSCRIBE, maxBytes: 300 },
        SUBSCRIBED,
        event(1),
        event(2),
      );
      return evidence(entries, {
        consumers: [],
        stored: [1, 2].map((id) => ({ id, key: `k${id}`, text: `k${id}`, bytes: 200 })),
      });
    },
  ],
  [
    "more events than all subscriptions of a consumer may hold",
    "credit",
    () => {
      const entries = history(
        published(1),
        published(2),
        SUBSCRIBE,
        SUBSCRIBED,
        OTHER,
        OTHER_SUBSCRIBED,
        event(1),
        event(2, "o"),
      );
      return evidence(entries, { consumers: [{ consumer: "work", pending: 0, unsettled: 0, limit: 1 }] });
    },
  ],
  [
    "a status that is told twice",
    "status",
    () =>
      evidence(history(SUBSCRIBE, SUBSCRIBED, status("ACTIVE"), status("DISCONNECTED"), status("DISCONNECTED")), {
        consumers: [],
      }),
  ],
  [
    "an event after the server said that it drains",
    "status",
    () =>
      evidence(history(published(1), SUBSCRIBE, SUBSCRIBED, status("ACTIVE"), status("DRAINING"), event(1)), {
        consumers: [],
      }),
  ],
  [
    "a drain that was not told",
    "status",
    () =>
      evidence(
        history(SUBSCRIBE, SUBSCRIBED, status("ACTIVE"), {
          e: "ended",
          sub: "s",
          by: "server",
          code: "UNAVAILABLE",
          reason: "SERVER_DRAINING",
        }),
        { consumers: [] },
      ),
  ],
  [
    "an outage that was not told",
    "status",
    () =>
      evidence(history(SUBSCRIBE, SUBSCRIBED, status("ACTIVE"), 20_000, { e: "client", phase: "stopped" }), {
        consumers: [],
        faults: [fault("nats_away", ["stalls"], 2_000, 18_000, "server 0 - node 0, server 1 - node 0")],
      }),
  ],
  [
    "a publish that fails in a rolling restart, however often it is repeated",
    "rolling",
    () =>
      evidence(
        history(
          { e: "publish", by: "p", key: "k1", retries: true },
          { e: "publish_failed", by: "p", key: "k1", code: "UNAVAILABLE", outcome: "unknown" },
        ),
        { consumers: [], faults: [fault("rolling_restart", ["ends"], 900, 9_000, "all")] },
      ),
  ],
  [
    "a call that fails although nothing is broken",
    "calm",
    () =>
      evidence(
        history(
          { e: "publish", by: "p", key: "k1", retries: true },
          { e: "publish_failed", by: "p", key: "k1", code: "DEADLINE_EXCEEDED", outcome: "unknown" },
        ),
        { consumers: [] },
      ),
  ],
  [
    "an error that nobody foresaw",
    "code",
    () =>
      evidence(
        history(
          { e: "publish", by: "p", key: "k1", retries: true },
          { e: "publish_failed", by: "p", key: "k1", code: "INTERNAL" },
        ),
        { consumers: [] },
      ),
  ],
  [
    "a subscription that is cut off as its server drains",
    "drain",
    () =>
      evidence(history(SUBSCRIBE, SUBSCRIBED, { e: "ended", sub: "s", by: "server", code: "UNAVAILABLE" }), {
        consumers: [],
        faults: [fault("rolling_restart", ["ends"], 1_025, 1_500, "server-1, server-0")],
      }),
  ],
  [
    "events that come back late after a SIGTERM",
    "drain",
    () =>
      evidence(
        history(
          published(1),
          SUBSCRIBE,
          SUBSCRIBED,
          OTHER,
          OTHER_SUBSCRIBED,
          event(1),
          { e: "ended", sub: "s", by: "server", code: "UNAVAILABLE", reason: "SERVER_DRAINING" },
          800,
          published(2),
          event(2, "o"),
          acked(2, "o"),
          3_100,
          event(1, "o", 2),
          acked(1, "o"),
        ),
        { faults: [fault("rolling_restart", ["ends"], 1_060, 1_500, "server-0")] },
      ),
  ],
])("found: %s", (_, name, make) => {
  expect(found(make())).toContain(name);
});

test.each<[string, () => Evidence]>([
  [
    "a full window of which an event came after an ack that was refused, and before the answer",
    () =>
      evidence(
        history(
          SUBSCRIBE,
          SUBSCRIBED,
          published(1),
          { e: "settle", sub: "s", kind: "ack", ids: [1] },
          event(1),
          { e: "confirmed", sub: "s", kind: "ack", ids: [], invalid: [1], failed: [] },
          published(2),
          event(2),
          Array.from({ length: 40 }, (_, index) => published(index + 3)).flat(),
          2_500,
          published(43),
          { e: "ended", sub: "s", by: "client", code: "CANCELLED" },
        ),
        { consumers: [], leaderships: [{ consumer: "work", leader: "node-0", from: 1_105, to: 9_000 }] },
      ),
  ],
  [
    "a full window until the server lets go of an event, a little before its time is up",
    () =>
      evidence(
        history(
          SUBSCRIBE,
          SUBSCRIBED,
          [published(1), published(2), [event(1), event(2)]].flat(),
          Array.from({ length: 60 }, (_, index) => published(index + 3)).flat(),
          2_600,
          event(3),
          published(63),
          { e: "ended", sub: "s", by: "client", code: "CANCELLED" },
        ),
        { consumers: [], leaderships: [{ consumer: "work", leader: "node-0", from: 1_105, to: 9_000 }] },
      ),
  ],
  [
    "an outage that nobody was told of, because the client was killed",
    () =>
      evidence(
        history(SUBSCRIBE, SUBSCRIBED, status("ACTIVE")).concat({ ...published(1)[0]!, t: 20_000, p: "another" }),
        {
          consumers: [],
          faults: [fault("nats_away", ["stalls"], 2_000, 18_000, "server 0 - node 0")],
        },
      ),
  ],
  [
    "a subscription that is cut off as another server drains, and its own is killed",
    () =>
      evidence(history(SUBSCRIBE, SUBSCRIBED, { e: "ended", sub: "s", by: "server", code: "UNAVAILABLE" }), {
        consumers: [],
        faults: [
          fault("rolling_restart", ["ends"], 1_025, 1_500, "server-1"),
          fault("kill_server", ["ends"], 1_025, 1_500, "server-0"),
        ],
      }),
  ],
  [
    "an outage of another server that was not told",
    () =>
      evidence(history(SUBSCRIBE, SUBSCRIBED, status("ACTIVE"), 20_000, { e: "client", phase: "stopped" }), {
        consumers: [],
        faults: [fault("nats_away", ["stalls"], 2_000, 18_000, "server 1 - node 0")],
      }),
  ],
  [
    "more events than a consumer allows, when JetStream may have applied acks that were lost on their way back",
    () =>
      evidence(
        history(
          [published(1), published(2), [SUBSCRIBE, SUBSCRIBED, event(1)]].flat(),
          { e: "settle", sub: "s", kind: "ack", ids: [1] },
          { e: "confirmed", sub: "s", kind: "ack", ids: [], invalid: [], failed: [1] },
          event(2),
          acked(1),
          acked(2),
        ),
        { consumers: [{ consumer: "work", pending: 0, unsettled: 0, limit: 1 }] },
      ),
  ],
  [
    "an event that is with somebody else before its last client hears that the server has drained",
    () =>
      evidence(
        history(
          [published(1), published(2), [SUBSCRIBE, SUBSCRIBED, OTHER, OTHER_SUBSCRIBED, event(1)]].flat(),
          event(1, "o", 2),
          { e: "ended", sub: "s", by: "server", code: "UNAVAILABLE", reason: "SERVER_DRAINING" },
          acked(1, "o"),
          800,
          event(2, "o"),
          acked(2, "o"),
        ),
        { faults: [fault("term_server", ["ends"], 1_060, 1_500, "server-0")] },
      ),
  ],
  [
    "events that come back late after a SIGTERM, as nobody had room for any",
    () =>
      evidence(
        history(
          [published(1), [SUBSCRIBE, SUBSCRIBED, OTHER, OTHER_SUBSCRIBED, event(1)]].flat(),
          { e: "ended", sub: "s", by: "server", code: "UNAVAILABLE", reason: "SERVER_DRAINING" },
          3_950,
          event(1, "o", 2),
          acked(1, "o"),
        ),
        { faults: [fault("term_server", ["ends"], 1_060, 1_500, "server-0")] },
      ),
  ],
  [
    "a redelivery after the timeout of an ack that was held up",
    () =>
      evidence(
        history(
          [published(1), [SUBSCRIBE, SUBSCRIBED, OTHER, OTHER_SUBSCRIBED, event(1)]].flat(),
          { e: "settle", sub: "s", kind: "ack", ids: [1] },
          4_500,
          { e: "confirmed", sub: "s", kind: "ack", ids: [1], invalid: [], failed: [] },
          event(1, "o", 2),
        ),
        { faults: [fault("mute_nats_link", ["stalls"], 1_000, 5_600)] },
      ),
  ],
  [
    "an ack that all nodes forgot when they were killed",
    () =>
      evidence(
        history(
          [published(1), [SUBSCRIBE, SUBSCRIBED, OTHER, OTHER_SUBSCRIBED, event(1)], acked(1)].flat(),
          2_000,
          event(1, "o", 2),
          acked(1, "o"),
        ),
        { faults: [fault("kill_all_nodes", ["nodes", "kills", "stalls"], 1_150, 2_500, "nodes 0, 1, 2")] },
      ),
  ],
  [
    "a redelivery after a reject",
    () =>
      evidence(
        history(
          published(1),
          SUBSCRIBE,
          SUBSCRIBED,
          event(1),
          { e: "settle", sub: "s", kind: "reject", ids: [1] },
          { e: "confirmed", sub: "s", kind: "reject", ids: [1], invalid: [], failed: [] },
          event(1, "s", 2),
          acked(1),
        ),
      ),
  ],
  [
    "a late ack of a pinged event",
    () =>
      evidence(
        history(
          published(1),
          SUBSCRIBE,
          SUBSCRIBED,
          event(1),
          3_000,
          { e: "settle", sub: "s", kind: "ping", ids: [1] },
          { e: "confirmed", sub: "s", kind: "ping", ids: [1], invalid: [], failed: [] },
          3_000,
          acked(1),
        ),
      ),
  ],
  [
    "a further event where one may have run out of time",
    () =>
      evidence(
        history(
          [published(1), published(2), published(3), [SUBSCRIBE, SUBSCRIBED, event(1), event(2)]].flat(),
          3_700,
          event(3),
          [...acked(3), ...acked(1), ...acked(2)].filter(({ e }) => e === "settle"),
        ),
      ),
  ],
  [
    "answers in another order than the publishes",
    () => evidence(history(...interleaved(published(1), published(2))), { consumers: [] }),
  ],
  [
    "a subscription that ends with its server",
    () =>
      evidence(history(SUBSCRIBE, SUBSCRIBED, { e: "ended", sub: "s", by: "server", code: "UNAVAILABLE" }), {
        consumers: [],
        faults: [fault("kill_server", ["ends"], 1_000, 3_000, "server-0")],
      }),
  ],
])("allowed: %s", (_, make) => {
  expect(check(make())).toEqual([]);
});

const SET = { e: "state", op: "1", key: "k", call: { op: "set", value: "a" } } as const;

test.each<[string, string[], Happening[]]>([
  [
    "a write that is read",
    [],
    [
      SET,
      { e: "state_done", op: "1", revision: 1, value: "a" },
      { e: "state", op: "2", key: "k", call: { op: "get" } },
      { e: "state_done", op: "2", revision: 1, value: "a" },
    ],
  ],
  [
    "a read of an old state",
    ["linearizable"],
    [
      SET,
      { e: "state_done", op: "1", revision: 1, value: "a" },
      { e: "state", op: "2", key: "k", call: { op: "get" } },
      { e: "state_done", op: "2", revision: 0 },
    ],
  ],
  [
    "two writes over the same revision",
    ["linearizable"],
    [
      SET,
      { e: "state_done", op: "1", revision: 1, value: "a" },
      { e: "state", op: "2", key: "k", call: { op: "set", value: "b", lastRevision: 1 } },
      { e: "state_done", op: "2", revision: 2, value: "b" },
      { e: "state", op: "3", key: "k", call: { op: "set", value: "c", lastRevision: 1 } },
      { e: "state_done", op: "3", revision: 3, value: "c" },
    ],
  ],
  [
    "a write of unknown outcome that had an effect, or none",
    [],
    [
      SET,
      { e: "state_done", op: "1", error: { code: "UNAVAILABLE", outcome: "unknown" } },
      { e: "state", op: "2", key: "k", call: { op: "get" } },
      { e: "state_done", op: "2", revision: 0 },
      { e: "state", op: "3", key: "k", call: { op: "get" } },
      { e: "state_done", op: "3", revision: 4, value: "a" },
    ],
  ],
  [
    "a refusal where the condition held",
    ["linearizable"],
    [
      SET,
      { e: "state_done", op: "1", revision: 1, value: "a" },
      { e: "state", op: "2", key: "k", call: { op: "set", value: "b", lastRevision: 1 } },
      { e: "state_done", op: "2", error: { code: "FAILED_PRECONDITION", outcome: "not_stored" } },
    ],
  ],
  [
    "a create_only that is refused where no key exists",
    ["linearizable"],
    [
      { e: "state", op: "1", key: "k", call: { op: "set", value: "a", createOnly: true } },
      { e: "state_done", op: "1", error: { code: "ALREADY_EXISTS", outcome: "not_stored" } },
    ],
  ],
  [
    "a value that nobody wrote",
    ["invented"],
    [
      { e: "state", op: "1", key: "k", call: { op: "get" } },
      { e: "state_done", op: "1", revision: 1, value: "x" },
    ],
  ],
])("state: %s", (_, names, happenings) => {
  const faults = [fault("nats_away", [], 0, 10_000)];
  const result = found(evidence(history(happenings), { consumers: [], faults }));
  expect(result.filter((name) => name !== "linearizable" || names.includes(name))).toEqual(names);
});

test.each<[string, string[], StateCall, string]>([
  ["a create_only that is refused", [], { op: "set", value: "b", createOnly: true }, "ALREADY_EXISTS"],
  ["a write over nothing that is refused", [], { op: "set", value: "b", lastRevision: 0 }, "FAILED_PRECONDITION"],
  ["a read", [], { op: "get" }, ""],
  ["a write over a revision", ["linearizable"], { op: "set", value: "b", lastRevision: 2 }, "FAILED_PRECONDITION"],
])("state, while a leader may be behind: %s may be as old as it", (_, names, call, code) => {
  // The key was deleted, or has revision 2, and the leader knows revision 1 alone.
  const isOver = call.op === "set" && call.lastRevision === 2;
  const second: StateCall = isOver ? { op: "set", value: "c" } : { op: "delete" };
  const happenings: Happening[] = [
    SET,
    { e: "state_done", op: "1", revision: 1, value: "a" },
    { e: "state", op: "2", key: "k", call: second },
    { e: "state_done", op: "2", ...(isOver ? { revision: 2, value: "c" } : {}) },
    { e: "state", op: "3", key: "k", call },
    code === ""
      ? { e: "state_done", op: "3", revision: 1, value: "a" }
      : { e: "state_done", op: "3", error: { code, outcome: "not_stored" } },
  ];
  const faults = [fault("half_partition", ["stale"], 0, 10_000)];
  const result = found(evidence(history(happenings), { consumers: [], faults }));
  expect(result.filter((name) => name === "linearizable")).toEqual(names);
});

test("overlapping calls may take effect in either order", () => {
  const write = (value: number, begin: number, end: number) => ({ begin, end, apply: () => value });
  const read = (value: number, begin: number, end: number) => ({
    begin,
    end,
    apply: (state: number) => (state === value ? state : undefined),
  });
  expect(isLinearizable([write(1, 0, 10), write(2, 1, 9), read(1, 11, 12)], 0, String)).toBe("yes");
  expect(isLinearizable([write(1, 0, 10), write(2, 1, 9), read(1, 11, 12), read(2, 13, 14)], 0, String)).toBe("no");
});
