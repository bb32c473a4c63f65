/**
 * Deliberate faults in our own code, which the suite has to find. Each is an exact replacement in a copy of the sources; a
 * text that is not found there, or more than once, is an error, so that a change of the sources cannot switch a mutant off
 * unseen.
 */
import { cp, mkdir, mkdtemp, readFile, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { FaultName } from "./faults.ts";

/** One deliberate fault. */
export interface Mutant {
  readonly what: string;
  readonly file: string;
  /** What is replaced by what, in that file or another; each text occurs exactly once. */
  readonly edits: readonly (readonly [from: string, to: string, file?: string])[];
  /** Under which fault it shows; undefined: under none at all. */
  readonly fault?: FaultName;
  readonly forMs?: number;
  /** The checks of which one has to find it. */
  readonly finds: readonly string[];
}

/** The list. */
export const MUTANTS = {
  ack_before_answer: {
    what: "an ack is confirmed before JetStream answered",
    file: "events/subscription.ts",
    edits: [
      [
        "    lane.send(event.ackSubject, payload, isRecent, new Settlement(this, event, effect, now));",
        "    const settlement = new Settlement(this, event, effect, now);\n" +
          "    const deaf = { onReply: () => undefined, onNoReply: () => undefined };\n" +
          "    lane.send(event.ackSubject, payload, isRecent, this.kind === 'ack' ? deaf : settlement);\n" +
          "    if (this.kind === 'ack') queueMicrotask(() => settlement.onReply({ subject: '', reply: '', headers: undefined, payload: Buffer.alloc(0) } as never));",
      ],
    ],
    fault: "lost_requests_nats_link",
    forMs: 4_000,
    finds: ["duplicated"],
  },
  failed_as_confirmed: {
    what: "an ack that JetStream did not answer is confirmed",
    file: "events/subscription.ts",
    edits: [
      [
        "    batch.temporaryFailedIds = withId(batch.temporaryFailedIds, event.id);",
        "    batch.ids = withId(batch.ids, event.id);",
      ],
    ],
    fault: "lost_requests_nats_link",
    forMs: 6_000,
    finds: ["duplicated", "stale"],
  },
  credit_off_by_one: {
    what: "one event more than the window",
    file: "events/subscription.ts",
    edits: [["    this.#pull.grant(this.window, 0);", "    this.#pull.grant(this.window + 1, 0);"]],
    finds: ["credit"],
  },
  bytes_ignored: {
    what: "the limit in bytes is not kept",
    file: "events/subscription.ts",
    edits: [["        window: Number(spec.maxProcessingBytes || Infinity),", "        window: Infinity,"]],
    fault: "nats_away",
    forMs: 2_000,
    finds: ["credit"],
  },
  consumer_limit_ignored: {
    what: "the limit of all subscriptions of a consumer is not set",
    file: "events/consumers.ts",
    edits: [["      max_ack_pending: limit(spec.maxProcessingEvents),", "      max_ack_pending: limit(undefined),"]],
    fault: "nats_away",
    forMs: 2_000,
    finds: ["credit"],
  },
  expired_accepted: {
    what: "an entry whose time ran out is accepted",
    file: "events/ledger.ts",
    edits: [
      [
        "  return Math.max(0, processingTimeoutMs - margin - roundTripMs);",
        "  return Math.max(0, processingTimeoutMs * 2 - margin - roundTripMs);",
      ],
    ],
    finds: ["stale"],
  },
  settled_accepted: {
    what: "what was settled is not forgotten, and accepted again",
    file: "events/ledger.ts",
    edits: [["    this.#held.delete(event.id);\n    return held;", "    event.isSettling = false;\n    return held;"]],
    finds: ["stale"],
  },
  reconnect_given_up: {
    what: "after 3 s without NATS nobody tries again",
    file: "nats/connection.ts",
    edits: [
      ["    maxReconnectAttempts: -1,", "    maxReconnectAttempts: 3,"],
      [
        "        const cause = await client.closed();",
        "        const cause = await client.closed(); if (cause) return;",
      ],
    ],
    fault: "nats_away",
    forMs: 8_000,
    finds: ["crash", "resume", "stuck", "lost"],
  },
  given_up_after_20_s: {
    what: "after 20 s without NATS nobody tries again",
    file: "nats/connection.ts",
    edits: [
      [
        '"lost the connection to NATS");\n          }\n          this.#lost();',
        '"lost the connection to NATS");\n          }\n          this.#lost();\n' +
          "          setTimeout(() => { if (!this.#connected) { this.#closed = true; void client.close(); } }, 20_000);",
      ],
    ],
    fault: "nats_away",
    forMs: 25_000,
    finds: ["crash", "resume", "stuck", "lost", "leftovers"],
  },
  rare_heartbeats: {
    what: "a leader that forgot what was asked for is noticed after 20 s",
    file: "events/subscription.ts",
    edits: [["const CLUSTER_HEARTBEAT_MS = 500;", "const CLUSTER_HEARTBEAT_MS = 10_000;"]],
    fault: "cut_routes",
    forMs: 1_000,
    finds: ["resume"],
  },
  disconnection_untold: {
    what: "a subscription that asked is not told that NATS is away",
    file: "nats/pull.ts",
    edits: [["    this.#isDisturbed = true;\n    this.#setReachable(false);", "    this.#isDisturbed = true;"]],
    fault: "nats_away",
    forMs: 13_000,
    finds: ["status"],
  },
  silence_unnoticed: {
    what: "a NATS that falls silent is noticed after half a minute",
    file: "nats/connection.ts",
    edits: [
      ["const PING_INTERVAL_MS = 3_000;", "const PING_INTERVAL_MS = 30_000;"],
      ["const CLUSTER_HEARTBEAT_MS = 500;", "const CLUSTER_HEARTBEAT_MS = 30_000;", "events/subscription.ts"],
    ],
    fault: "silent_nats_link",
    forMs: 14_000,
    finds: ["status"],
  },
  draining_untold: {
    what: "a subscription that asked is not told that its server drains",
    file: "grpc/consume-loop.ts",
    edits: [['      if (this.#statusUpdates) this.#send({ kind: "status", state: State.DRAINING });\n', ""]],
    fault: "term_server",
    forMs: 3_000,
    finds: ["status"],
  },
  no_repull: {
    what: "a subscription does not pull again after NATS came back",
    file: "nats/pull.ts",
    edits: [["    this.#isVerified = false;\n    this.verify();", "    this.#stopped = true;"]],
    fault: "nats_away",
    forMs: 4_000,
    finds: ["resume", "stuck", "lost"],
  },
  no_drain: {
    what: "SIGTERM ends the server at once",
    file: "program.ts",
    edits: [["  await daemon[Symbol.asyncDispose]();", "  process.exit(0);"]],
    fault: "term_server",
    forMs: 3_000,
    finds: ["drain"],
  },
  no_hand_back: {
    what: "events of a subscription that ends are not handed back",
    file: "events/subscription.ts",
    edits: [['    this.#connection.publish(ackSubject, "", this.#nak);', "    void ackSubject;"]],
    fault: "term_server",
    forMs: 3_000,
    finds: ["drain"],
  },
  dropped_confirmation: {
    what: "every 20th confirmation is not sent",
    file: "grpc/consume-loop.ts",
    edits: [
      [
        "      this.#send(confirmation(request.kind, result));",
        "      if (Math.random() > 0.05) this.#send(confirmation(request.kind, result));",
      ],
    ],
    finds: ["answer"],
  },
  wrong_id: {
    what: "the id of an event is one too many",
    file: "events/publishing.ts",
    edits: [
      [
        "    else this.#listener.onPublished(ack.sequence, ack.stream, false);",
        "    else this.#listener.onPublished(ack.sequence + 1n, ack.stream, false);",
      ],
    ],
    finds: ["lost publish"],
  },
  not_stored_lie: {
    what: "where nobody knows whether an event was stored, it is told not to be",
    file: "nats/errors.ts",
    edits: [['const stored = why === "not_sent" ? "not_stored" : "unknown";', 'const stored = "not_stored" as const;']],
    fault: "half_open_nats_link",
    forMs: 6_000,
    finds: ["not stored"],
  },
  refusal_believed: {
    what: "a write is refused although the condition holds for what is stored",
    file: "nats/refused-write.ts",
    edits: [["if (expected > 0n && sequence > expected) return undefined;", "if (expected > 0n) return undefined;"]],
    fault: "slow_all_routes",
    forMs: 20_000,
    finds: ["linearizable"],
  },
  stale_reads: {
    what: "values are read from any replica",
    file: "nats/stream-traits.ts",
    edits: [["config.num_replicas === 1 && config.allow_direct", "config.allow_direct"]],
    fault: "slow_all_routes",
    forMs: 25_000,
    finds: ["linearizable"],
  },
  letter_assumed: {
    what: "an event is settled although its letter was refused",
    file: "events/dead-letter-writer.ts",
    edits: [
      [
        "        if (!isWrongLastSequence(jetStreamCode(error))) throw error;",
        '        if (!isWrongLastSequence(jetStreamCode(error))) return "stored";',
      ],
    ],
    fault: "letters_full",
    forMs: 4_000,
    finds: ["letters"],
  },
  settled_before_letter: {
    what: "an event is settled first, and then its letter is stored",
    file: "events/subscription.ts",
    edits: [
      [
        "    const isStored = await this.#storeLetter(event, event, how, hold);",
        "    batch.begin();\n" +
          '    batch.send(this.#lane, event, TERM, "given_up", performance.now());\n' +
          "    await delay(20);\n" +
          "    const isStored = await this.#storeLetter(event, event, how, hold);",
      ],
    ],
    finds: ["letters"],
  },
  two_letters: {
    what: "a letter is stored although there is one of its event",
    file: "events/dead-letter.ts",
    edits: [['  return block([...lines, "Nats-Expected-Last-Subject-Sequence: 0"]);', "  return block(lines);"]],
    fault: "mute_nats_link",
    forMs: 6_000,
    finds: ["letters"],
  },
  rejects_unpaced: {
    what: "rejects without a delay are delivered again at once, whatever the policy says",
    file: "events/subscription.ts",
    edits: [
      [
        "      const backoff = rejection.delayMs === undefined ? backoffNanoseconds(policy, event.attempt) : 0;",
        "      const backoff = rejection.delayMs === undefined ? backoffNanoseconds(policy, event.attempt) * 0 : 0;",
      ],
    ],
    finds: ["letters"],
  },
  attempts_unlimited: {
    what: "an event whose attempts are used up is delivered once more",
    file: "events/subscription.ts",
    edits: [
      [
        "policy.maxAttempts > 0 && event.attempt > policy.maxAttempts)",
        "policy.maxAttempts > 0 && event.attempt > policy.maxAttempts + 1)",
      ],
    ],
    finds: ["letters"],
  },
  reader_skips: {
    what: "a reading that begins anew leaves out an event",
    file: "nats/consumer-walk.ts",
    edits: [["        opt_start_seq: this.#from,", "        opt_start_seq: this.#from + 1,"]],
    finds: ["reads"],
  },
  cancel_denied: {
    what: "an event that is taken back is told not to be",
    file: "events/scheduler.ts",
    edits: [["    if (time > clockOf(after.ts)) return true;", "    if (time > clockOf(after.ts)) return false;"]],
    finds: ["schedules"],
  },
  cancel_claimed: {
    what: "an event that is not taken back is told to be",
    file: "events/scheduler.ts",
    edits: [
      [
        "    const left = time - clockOf(info.ts);\n",
        "    if (clockOf(info.ts) > 0) return true;\n    const left = time - clockOf(info.ts);\n",
      ],
    ],
    finds: ["schedules"],
  },
  scheduled_early: {
    what: "a scheduled event appears half a second too early",
    file: "events/schedule.ts",
    edits: [["  return AT + at;", "  return AT + new Date(Date.parse(at) - 500).toISOString();"]],
    finds: ["schedules"],
  },
} as const satisfies Record<string, Mutant>;

/** Name of a mutant. */
export type MutantName = keyof typeof MUTANTS;

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Copies the sources with the fault in them; returns the program to run. */
export async function plant({ file, edits, what }: Mutant): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "windshift-mutant-"));
  await mkdir(join(folder, "src"));
  await cp(join(ROOT, "src"), join(folder, "src"), { recursive: true });
  await cp(join(ROOT, "package.json"), join(folder, "package.json"));
  await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"));
  for (const [from, to, other] of edits) {
    const name = other ?? file;
    const path = join(folder, "src", name);
    const text = await readFile(path, "utf8");
    const count = text.split(from).length - 1;
    if (count !== 1) throw new Error(`mutant "${what}": a text is ${count} times in src/${name}, not once:\n${from}`);
    await writeFile(
      path,
      text.replace(from, () => to),
    );
  }
  return join(folder, "src", "main.ts");
}
