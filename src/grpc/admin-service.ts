/** `windshift.admin.v1alpha1.AdminService`: convert, call, convert. */
import {
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  create,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
import type { Admin } from "../admin/admin.ts";
import type { AdminCall } from "../admin/call.ts";
import { ANONYMOUS } from "../auth/principal.ts";
import {
  DeleteDeadLettersRequestSchema,
  DeleteDeadLettersResponseSchema,
  DeleteStoreRequestSchema,
  DeleteStoreResponseSchema,
  DeleteStreamRequestSchema,
  DeleteStreamResponseSchema,
  GetConsumerRequestSchema,
  GetConsumerResponseSchema,
  GetStreamRequestSchema,
  GetStreamResponseSchema,
  ListConsumersRequestSchema,
  ListConsumersResponseSchema,
  ListDeadLettersRequestSchema,
  ListDeadLettersResponseSchema,
  ListStoresRequestSchema,
  ListStoresResponseSchema,
  ListStreamsRequestSchema,
  ListStreamsResponseSchema,
  PauseConsumerRequestSchema,
  PauseConsumerResponseSchema,
  PurgeStreamRequestSchema,
  PurgeStreamResponseSchema,
  ReplayDeadLettersRequestSchema,
  ReplayDeadLettersResponseSchema,
  ResetConsumerRequestSchema,
  ResetConsumerResponseSchema,
  ResumeConsumerRequestSchema,
  ResumeConsumerResponseSchema,
} from "../gen/windshift/admin/v1alpha1/admin_pb.ts";
import { METHODS, type MethodName } from "../rpc.ts";
import { adminAccess } from "./access.ts";
import {
  fromConsumer,
  fromConsumerReport,
  fromLetter,
  fromPage,
  fromReset,
  fromStore,
  fromStream,
  fromTimestamp,
  toPage,
  toLetterChoice,
  toPurgeSpec,
  toResetSpec,
  toTimestamp,
} from "./admin-convert.ts";
import { finite } from "./consume-loop.ts";
import { ReplayLoop } from "./replay-loop.ts";
import type { Method, Router, ServerCall } from "./server.ts";

/** Registers the service. Disposing it ends the replays that are under way. */
export class AdminService implements Disposable {
  readonly #admin: Admin;
  readonly #replays = new Set<ReplayLoop>();
  #isDraining = false;

  constructor(admin: Admin) {
    this.#admin = admin;
  }

  /** Serves all methods on a router. */
  register(router: Router): void {
    registerStreams(router, this.#admin);
    registerConsumers(router, this.#admin);
    registerStores(router, this.#admin);
    registerDeadLetters(router, this.#admin);
    router.serverStreaming(
      messages(METHODS.replayDeadLetters, ReplayDeadLettersRequestSchema, ReplayDeadLettersResponseSchema),
      (request, call) => {
        const loop = new ReplayLoop(call, this.#admin.deadLetters);
        this.#replays.add(loop);
        if (this.#isDraining) loop.drain();
        void loop.run(request, adminCall(call)).finally(() => this.#replays.delete(loop));
      },
    );
  }

  [Symbol.dispose](): void {
    this.#isDraining = true;
    for (const loop of this.#replays) loop.drain();
  }
}

function registerStreams(router: Router, { streams }: Admin): void {
  unary(router, METHODS.listStreams, ListStreamsRequestSchema, ListStreamsResponseSchema, async (request, call) => {
    const { entries, nextPageToken } = fromPage(await streams.list(toPage(request), call), fromStream, byName);
    return { streams: entries, nextPageToken };
  });
  unary(router, METHODS.getStream, GetStreamRequestSchema, GetStreamResponseSchema, async (request, call) => {
    const { stream, interruptedResets } = await streams.get(request.stream, call);
    return { stream: fromStream(stream), interruptedResets: [...interruptedResets] };
  });
  unary(router, METHODS.deleteStream, DeleteStreamRequestSchema, DeleteStreamResponseSchema, async (request, call) => {
    const { stream, consumers } = await streams.delete(request.stream, call);
    return { stream: fromStream(stream), consumers: [...consumers] };
  });
  unary(router, METHODS.purgeStream, PurgeStreamRequestSchema, PurgeStreamResponseSchema, async (request, call) => ({
    purged: await streams.purge(toPurgeSpec(request), call),
  }));
}

function registerConsumers(router: Router, { consumers, reset }: Admin): void {
  unary(
    router,
    METHODS.listConsumers,
    ListConsumersRequestSchema,
    ListConsumersResponseSchema,
    async (request, call) => {
      const { stream } = request;
      const page = await consumers.list(stream, toPage(request), call);
      const { entries, nextPageToken } = fromPage(page, fromConsumer, (id) => ({ stream, id }));
      return { consumers: entries, nextPageToken };
    },
  );
  unary(
    router,
    METHODS.getConsumer,
    GetConsumerRequestSchema,
    GetConsumerResponseSchema,
    async ({ stream, id }, call) => fromConsumerReport(await consumers.get(stream, id, call)),
  );
  unary(
    router,
    METHODS.pauseConsumer,
    PauseConsumerRequestSchema,
    PauseConsumerResponseSchema,
    async (request, call) => {
      const { stream, id } = request;
      const until = toTimestamp("until", request.until);
      return { pausedUntil: fromTimestamp(await consumers.pause(stream, id, until, call)) };
    },
  );
  unary(
    router,
    METHODS.resumeConsumer,
    ResumeConsumerRequestSchema,
    ResumeConsumerResponseSchema,
    async (request, call) => {
      await consumers.resume(request.stream, request.id, call);
      return {};
    },
  );
  unary(router, METHODS.resetConsumer, ResetConsumerRequestSchema, ResetConsumerResponseSchema, async (request, call) =>
    fromReset(await reset.run(toResetSpec(request), call)),
  );
}

function registerStores(router: Router, { stores }: Admin): void {
  unary(router, METHODS.listStores, ListStoresRequestSchema, ListStoresResponseSchema, async (request, call) => {
    const { entries, nextPageToken } = fromPage(await stores.list(toPage(request), call), fromStore, byName);
    return { stores: entries, nextPageToken };
  });
  unary(router, METHODS.deleteStore, DeleteStoreRequestSchema, DeleteStoreResponseSchema, async ({ store }, call) => ({
    store: fromStore(await stores.delete(store, call)),
  }));
}

function registerDeadLetters(router: Router, { deadLetters }: Admin): void {
  unary(
    router,
    METHODS.listDeadLetters,
    ListDeadLettersRequestSchema,
    ListDeadLettersResponseSchema,
    async (request, call) => {
      const { stream, consumer, withoutData = false } = request;
      const { entries, nextToken } = await deadLetters.list(stream, consumer, toPage(request), call);
      return { deadLetters: entries.map((letter) => fromLetter(letter, !withoutData)), nextPageToken: nextToken };
    },
  );
  unary(
    router,
    METHODS.deleteDeadLetters,
    DeleteDeadLettersRequestSchema,
    DeleteDeadLettersResponseSchema,
    async (request, call) => {
      const { stream, consumer, events } = request;
      const { ids, isComplete } = await deadLetters.delete(stream, consumer, toLetterChoice(events), call);
      return { ids: [...ids], isComplete };
    },
  );
}

function unary<Request extends DescMessage, Response extends DescMessage>(
  router: Router,
  method: MethodName,
  request: Request,
  response: Response,
  handle: (request: MessageShape<Request>, call: AdminCall) => Promise<MessageInitShape<Response>>,
): void {
  router.async(messages(method, request, response), async (message, call) => handle(message, adminCall(call)));
}

function messages<Request extends DescMessage, Response extends DescMessage>(
  method: MethodName,
  request: Request,
  response: Response,
): Method<MessageShape<Request>, MessageInitShape<Response>> {
  return {
    method,
    decode: (bytes) => fromBinary(request, bytes),
    encode: (message) => toBinary(response, create(response, message)),
    access: adminAccess(method),
  };
}

function adminCall({ deadlineMs, engineCall, caller }: ServerCall): AdminCall {
  const { peer } = engineCall;
  const { name, kind } = caller?.principal ?? ANONYMOUS;
  return { deadlineMs: finite(deadlineMs), by: kind === "anonymous" ? peer : `${name} at ${peer}` };
}

function byName(name: string): { name: string } {
  return { name };
}
