/**
 * Hot path: acknowledgements, rejects and pings on their way to one consumer, each of which JetStream has to answer.
 *
 * A nats-server that keeps the consumer all by itself takes what one connection sends in the order in which it was sent, and
 * works it off one by one from one queue (`pushAck` and `processInboundAcks` in its `server/consumer.go`): its answer to one
 * stands for all before it. So of those that leave together only the last one asks for an answer. Where there are other
 * nodes between us and the consumer, one may be lost on its way and the next one arrive: there each asks for its own. So
 * does one whose event came before an outage: a nats-server that was killed may have forgotten the delivery, and then does
 * not apply what is said of it, and answers nothing. One that we may not publish is refused and the next one taken: that is
 * told before the answer comes (ADR 6).
 */
import type { NatsConnection, NoReply, ReplyHandler } from "./connection.ts";
import type { NatsMessage } from "./message.ts";

/** What one subscription has to tell about its events. */
export class SettlementLane {
  readonly #connection: NatsConnection;
  readonly #isReplicated: boolean;
  /** Those that wait for the same answer. */
  #group: ReplyHandler[] = [];
  /** The connection that the group was begun on. */
  #connects = 0;
  /** The last one of the group, which has not been sent. */
  #subject = "";
  #payload: Uint8Array = NOTHING;
  readonly #close = (): void => this.#sendLast();

  /** `isReplicated`: the consumer is one of a cluster. */
  constructor(connection: NatsConnection, isReplicated: boolean) {
    this.#connection = connection;
    this.#isReplicated = isReplicated;
  }

  /**
   * Sends one; the handler hears of the answer, which may be that of a later one. `isRecent`: there was no outage since its
   * event came.
   */
  send(subject: string, payload: Uint8Array, isRecent: boolean, handler: ReplyHandler): void {
    const connection = this.#connection;
    if (this.#isReplicated || !connection.isAnsweredInOrder || !isRecent) {
      connection.request(subject, "", payload, connection.options.requestTimeoutMs, handler);
      return;
    }
    const [before, itsPayload] = [this.#subject, this.#payload];
    this.#subject = subject;
    this.#payload = payload;
    this.#group.push(handler);
    if (this.#group.length > 1) {
      // This may bring about the write that ends the group.
      connection.publish(before, "", itsPayload);
    } else {
      this.#connects = connection.connects;
      connection.beforeWrite(this.#close);
    }
  }

  #sendLast(): void {
    const connection = this.#connection;
    const group = this.#group;
    this.#group = [];
    const handler = group.length === 1 ? group[0]! : new Group(connection, group);
    if (this.#connects === connection.connects) {
      connection.request(this.#subject, "", this.#payload, connection.options.requestTimeoutMs, handler);
    } else {
      handler.onNoReply("disconnected");
    }
  }
}

const NOTHING = new Uint8Array(0);

/** Several that share an answer. */
class Group implements ReplyHandler {
  readonly #connection: NatsConnection;
  readonly #handlers: readonly ReplyHandler[];

  constructor(connection: NatsConnection, handlers: readonly ReplyHandler[]) {
    this.#connection = connection;
    this.#handlers = handlers;
  }

  onReply(message: NatsMessage): void {
    const last = this.#handlers.at(-1);
    const isOfAll = this.#connection.isAnsweredInOrder;
    this.#tell((handler) => {
      if (isOfAll || handler === last) handler.onReply(message);
      else handler.onNoReply("timeout");
    });
  }

  onNoReply(why: NoReply): void {
    this.#tell((handler) => handler.onNoReply(why));
  }

  /** One that throws is not to keep others from theirs. */
  #tell(tell: (handler: ReplyHandler) => void): void {
    const errors: unknown[] = [];
    for (const handler of this.#handlers) {
      try {
        tell(handler);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
