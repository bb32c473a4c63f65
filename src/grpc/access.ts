/**
 * What each call wants to do, as a policy sees it: the access rule of every method, in one place. A rule reads the request
 * and decides nothing; the guard asks the policy about what it returns, before the handler gets the request.
 *
 * A rule that returns nothing leaves the question to its handler, which asks by `call.authorize` as soon as it knows what
 * the call is about.
 */
import { type Access, type AccessSource, OPERATIONS, type Operation } from "../auth/policy-access.ts";
import type {
  DeleteConsumerRequest,
  EnsureConsumerRequest,
  EnsureStreamRequest,
  EnsureStreamRequest_StreamSource,
  GetEventRequest,
  ReadEventsRequest,
} from "../gen/windshift/events/v1alpha1/events_pb.ts";
import type { MethodName } from "../rpc.ts";

/** What a request asks for: all of it has to be allowed. */
export type AccessRule<Request> = (request: Request) => Access | readonly Access[] | undefined;

/** A stream with its subjects; what it takes from others is read. */
export function ensureStreamAccess({ name, source }: EnsureStreamRequest): Access {
  const access = { verb: "ensure-stream", stream: name } as const;
  switch (source.case) {
    case "subjects":
      return { ...access, subjects: source.value.subjects };
    case "mirror":
      return { ...access, subjects: [], sources: [sourceAccess(source.value)] };
    case "aggregate":
      return { ...access, subjects: [], sources: source.value.sources.map(sourceAccess) };
    case undefined:
      return { ...access, subjects: [] };
  }
}

function sourceAccess({ name, filterSubjects }: EnsureStreamRequest_StreamSource): AccessSource {
  return { stream: name, filters: filterSubjects };
}

/** A consumer with its filters, and the stream of its dead letters; empty names are none. */
export function ensureConsumerAccess({ stream, name, subjects, deliveryPolicy }: EnsureConsumerRequest): Access {
  const deadLetterStream = deliveryPolicy?.deadLetter?.stream || undefined;
  return { verb: "ensure-consumer", stream, consumer: name || undefined, filters: subjects, deadLetterStream };
}

/** A consumer by its id. */
export function deleteConsumerAccess({ stream, id }: DeleteConsumerRequest): Access {
  return { verb: "delete-consumer", stream, consumer: id };
}

/** One event. */
export function publishAccess({ subject }: { readonly subject: string }): Access {
  return { verb: "publish", subject };
}

/** A scheduled event, which is known by its stream and its key alone. */
export function cancelScheduledEventAccess({ stream }: { readonly stream: string }): Access {
  return { verb: "cancel-event", stream };
}

/** Of many events each is allowed or not by itself: their handler asks, as one that is not must not end the call. */
export function publishManyAccess(): undefined {
  return undefined;
}

/** The subject of an event is known when it was found: its handler asks then. */
export function getEventAccess({ stream, event }: GetEventRequest): Access | undefined {
  return event.case === "lastOfSubject" ? { verb: "read", stream, filters: [event.value] } : undefined;
}

/** The subjects of a stream that are asked for. */
export function readEventsAccess({ stream, subjects }: ReadEventsRequest): Access {
  return { verb: "read", stream, filters: subjects };
}

/** What a subscription may see is what its consumer filters: its handler asks when it knows that. */
export function consumeAccess(): undefined {
  return undefined;
}

/** A store. */
export function ensureStoreAccess({ store }: { readonly store: string }): Access {
  return { verb: "ensure-store", store };
}

/** A key, to read it. */
export function readKeyAccess({ store, key }: { readonly store: string; readonly key: string }): Access {
  return { verb: "state-read", store, keys: [key] };
}

/** A key, to write or delete it. */
export function writeKeyAccess({ store, key }: { readonly store: string; readonly key: string }): Access {
  return { verb: "state-write", store, keys: [key] };
}

/** What requests of administration name; `id` is a consumer's. */
interface AdminNames {
  readonly stream?: string;
  readonly id?: string;
  readonly consumer?: string;
  readonly store?: string;
}

/** An administrative method is the operation of its name; a request that names nothing is about everything. */
export function adminAccess({ name }: MethodName): AccessRule<unknown> {
  const operation = name.replaceAll(/(?<=.)[A-Z]/g, "-$&").toLowerCase();
  if (!isOperation(operation)) throw new Error(`${name} is no operation of a policy`);
  return (request) => {
    const { stream, id, consumer = id, store } = request as AdminNames;
    return {
      verb: "admin",
      operation,
      ...(stream === undefined ? {} : { stream }),
      ...(consumer === undefined ? {} : { consumer }),
      ...(store === undefined ? {} : { store }),
    };
  };
}

function isOperation(name: string): name is Operation {
  return Object.hasOwn(OPERATIONS, name);
}
