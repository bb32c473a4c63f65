/**
 * The RPCs by name and kind, coloured by no engine and no client library. The server binds codecs and handlers to them,
 * a client its own; both get the paths from here.
 */

/** How many messages go each way. */
export type MethodKind = "unary" | "server_streaming" | "bidi";

/** One RPC: where it is. */
export interface MethodName {
  /** Full name of the service, `windshift.events.v1alpha1.EventsService`. */
  readonly service: string;
  readonly name: string;
  readonly kind: MethodKind;
  /** Further names under which the same RPC is served. */
  readonly aliases: readonly string[];
}

/** The service of streams, consumers and events. */
export const EVENTS_SERVICE = "windshift.events.v1alpha1.EventsService";
/** The service of stores and values. */
export const STATE_SERVICE = "windshift.state.v1alpha1.StateService";
/** The service of administration. */
export const ADMIN_SERVICE = "windshift.admin.v1alpha1.AdminService";

type MethodKey =
  | "ensureStream"
  | "ensureConsumer"
  | "deleteConsumer"
  | "publishEvent"
  | "events"
  | "publishEvents"
  | "publishStream"
  | "readEvents"
  | "cancelScheduledEvent"
  | "getEvent"
  | "ensureStore"
  | "get"
  | "set"
  | "delete"
  | "listStreams"
  | "getStream"
  | "deleteStream"
  | "purgeStream"
  | "listConsumers"
  | "getConsumer"
  | "pauseConsumer"
  | "resumeConsumer"
  | "resetConsumer"
  | "listDeadLetters"
  | "replayDeadLetters"
  | "deleteDeadLetters"
  | "listStores"
  | "deleteStore";

/** Every RPC of the contract. `Publish` and `Consume` are the names of an older generation of clients. */
export const METHODS: Readonly<Record<MethodKey, MethodName>> = {
  ensureStream: method(EVENTS_SERVICE, "EnsureStream"),
  ensureConsumer: method(EVENTS_SERVICE, "EnsureConsumer"),
  deleteConsumer: method(EVENTS_SERVICE, "DeleteConsumer"),
  publishEvent: method(EVENTS_SERVICE, "PublishEvent", "unary", ["Publish"]),
  events: method(EVENTS_SERVICE, "Events", "bidi", ["Consume"]),
  publishEvents: method(EVENTS_SERVICE, "PublishEvents"),
  publishStream: method(EVENTS_SERVICE, "PublishStream", "bidi"),
  readEvents: method(EVENTS_SERVICE, "ReadEvents", "server_streaming"),
  cancelScheduledEvent: method(EVENTS_SERVICE, "CancelScheduledEvent"),
  getEvent: method(EVENTS_SERVICE, "GetEvent"),
  ensureStore: method(STATE_SERVICE, "EnsureStore"),
  get: method(STATE_SERVICE, "Get"),
  set: method(STATE_SERVICE, "Set"),
  delete: method(STATE_SERVICE, "Delete"),
  listStreams: method(ADMIN_SERVICE, "ListStreams"),
  getStream: method(ADMIN_SERVICE, "GetStream"),
  deleteStream: method(ADMIN_SERVICE, "DeleteStream"),
  purgeStream: method(ADMIN_SERVICE, "PurgeStream"),
  listConsumers: method(ADMIN_SERVICE, "ListConsumers"),
  getConsumer: method(ADMIN_SERVICE, "GetConsumer"),
  pauseConsumer: method(ADMIN_SERVICE, "PauseConsumer"),
  resumeConsumer: method(ADMIN_SERVICE, "ResumeConsumer"),
  resetConsumer: method(ADMIN_SERVICE, "ResetConsumer"),
  listDeadLetters: method(ADMIN_SERVICE, "ListDeadLetters"),
  replayDeadLetters: method(ADMIN_SERVICE, "ReplayDeadLetters", "server_streaming"),
  deleteDeadLetters: method(ADMIN_SERVICE, "DeleteDeadLetters"),
  listStores: method(ADMIN_SERVICE, "ListStores"),
  deleteStore: method(ADMIN_SERVICE, "DeleteStore"),
};

/** `package.Service/Method`: what logs, traces and metrics call a method. */
export function fullName({ service, name }: MethodName): string {
  return `${service}/${name}`;
}

/** The HTTP/2 paths a method answers on, its own first. */
export function methodPaths({ service, name, aliases }: MethodName): string[] {
  return [name, ...aliases].map((each) => `/${service}/${each}`);
}

function method(
  service: string,
  name: string,
  kind: MethodKind = "unary",
  aliases: readonly string[] = [],
): MethodName {
  return { service, name, kind, aliases };
}
