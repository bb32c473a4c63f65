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
import {
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
  ListStoresRequestSchema,
  ListStoresResponseSchema,
  ListStreamsRequestSchema,
  ListStreamsResponseSchema,
  PauseConsumerRequestSchema,
  PauseConsumerResponseSchema,
  PurgeStreamRequestSchema,
  PurgeStreamResponseSchema,
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
  fromPage,
  fromReset,
  fromStore,
  fromStream,
  fromTimestamp,
  toPage,
  toPurgeSpec,
  toResetSpec,
  toTimestamp,
} from "./admin-convert.ts";
import type { Router, ServerCall } from "./server.ts";

/** Serves all methods of the service on a router. */
export function registerAdminService(router: Router, admin: Admin): void {
  registerStreams(router, admin);
  registerConsumers(router, admin);
  registerStores(router, admin);
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

function unary<Request extends DescMessage, Response extends DescMessage>(
  router: Router,
  method: MethodName,
  request: Request,
  response: Response,
  handle: (request: MessageShape<Request>, call: AdminCall) => Promise<MessageInitShape<Response>>,
): void {
  router.async(
    {
      method,
      decode: (bytes) => fromBinary(request, bytes),
      encode: (message: MessageInitShape<Response>) => toBinary(response, create(response, message)),
      access: adminAccess(method),
    },
    async (message, call) => handle(message, adminCall(call)),
  );
}

function adminCall({ deadlineMs, engineCall }: ServerCall): AdminCall {
  return { deadlineMs, by: engineCall.peer };
}

function byName(name: string): { name: string } {
  return { name };
}
