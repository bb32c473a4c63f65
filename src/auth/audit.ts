/**
 * The audit log: who was refused, who changed what there is, and what changed of the rules. A stream of its own, apart
 * from the log of the server, and switched on by itself (`AUDIT_LOG`). It names principals and never holds a credential
 * or a payload.
 */
import { LineLimit } from "../telemetry/line-limit.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Principal } from "./principal.ts";

/** Of the same kind and principal in a second; how many were left out is told with the next, or when it is over. */
const LINES_PER_SECOND = 50;
/** Of a list, such as the subjects of a stream; how many it has is told beside them. */
const MAX_LISTED = 5;
/** Kinds that are told apart; beyond them all principals share what may be written. */
const MAX_KINDS = 1_000;

/** A call that is audited. */
export interface AuditedCall {
  /** `package.Service/Method`. */
  readonly method: string;
  readonly peer: string;
}

/** Writes the audit log; every method is of no effect where that is switched off. */
export class Audit {
  readonly #logger: Logger | undefined;
  readonly #limit = new LineLimit(LINES_PER_SECOND, {
    onQuiet: (kind, leftOut) => this.#logger?.warn({ event: "left_out", kind, leftOut }, "lines were left out"),
  });
  readonly #kinds = new Set<string>();

  constructor(logger: Logger | undefined) {
    this.#logger = logger;
  }

  get isOn(): boolean {
    return this.#logger !== undefined;
  }

  /** Somebody without a credential that holds; `why` is for the operator. */
  unauthenticated(call: AuditedCall, why: string): void {
    this.#write("unauthenticated", undefined, { ...call, why }, "a call without a valid credential was refused");
  }

  /** Somebody who may not do what they asked for. */
  denied(call: AuditedCall, principal: Principal, what: string): void {
    this.#write("denied", principal, { ...call, what }, "a call was refused that its principal may not make");
  }

  /** Somebody at a limit. */
  limited(call: AuditedCall, principal: Principal, why: string): void {
    this.#write("limited", principal, { ...call, why }, "a call was refused as its principal is at a limit");
  }

  /** Somebody was let do what changes or shows more than events and values; none of these is left out. */
  administered(call: AuditedCall, principal: Principal, what: object, code: string): void {
    const fields = { event: "administered", ...call, ...identity(principal), what: shortened(what), code };
    this.#logger?.info(fields, "an administrative call ended");
  }

  /** The rules, tokens or keys are others than before. */
  changed(what: string, detail: object = {}): void {
    this.#logger?.info({ event: "changed", what, ...detail }, `${what} changed`);
  }

  #write(event: string, principal: Principal | undefined, fields: object, message: string): void {
    if (this.#logger === undefined) return;
    const kind = `${event} ${principal?.kind ?? ""} ${principal?.name ?? ""}`;
    const leftOut = this.#limit.admit(this.#isTold(kind) ? kind : event);
    if (leftOut === undefined) return;
    const rest = leftOut === 0 ? {} : { leftOut };
    this.#logger.warn({ event, ...fields, ...(principal && identity(principal)), ...rest }, message);
  }

  #isTold(kind: string): boolean {
    if (this.#kinds.size < MAX_KINDS) this.#kinds.add(kind);
    return this.#kinds.has(kind);
  }
}

/** The same with the first few items of each list in it, at any depth. */
function shortened(what: object): object {
  return Object.fromEntries(
    Object.entries(what).flatMap(([name, value]: [string, unknown]): [string, unknown][] => {
      if (!Array.isArray(value)) return [[name, value]];
      const items: readonly unknown[] = value;
      const listed = items.slice(0, MAX_LISTED).map((item) => (isObject(item) ? shortened(item) : item));
      return items.length > MAX_LISTED
        ? [
            [name, listed],
            [`${name}Count`, items.length],
          ]
        : [[name, listed]];
    }),
  );
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

function identity({ kind, name }: Principal): object {
  return { principal: name, principalKind: kind };
}
