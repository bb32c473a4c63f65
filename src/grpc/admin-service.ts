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
  GetStreamRequestSchema,
  GetStreamResponseSchema,
  ListStoresRequestSchema,
  ListStoresResponseSchema,
  ListStreamsRequestSchema,
  ListStreamsResponseSchema,
  PurgeStreamRequestSchema,
  PurgeStreamResponseSchema,
} from "../gen/windshift/admin/v1alpha1/admin_pb.ts";
import { METHODS, type MethodName } from "../rpc.ts";
import { fromPage, fromStore, fromStream, toPage, toPurgeSpec } from "./admin-convert.ts";
import type { Router, ServerCall } from "./server.ts";

/** Serves all methods of the service on a router. */
export function registerAdminService(router: Router, { streams, stores }: Admin): void {
  unary(router, METHODS.listStreams, ListStreamsRequestSchema, ListStreamsResponseSchema, async (request, call) => {
    const { entries, nextPageToken } = fromPage(await streams.list(toPage(request), call), fromStream);
    return { streams: entries, nextPageToken };
  });
  unary(router, METHODS.getStream, GetStreamRequestSchema, GetStreamResponseSchema, async ({ stream }, call) => ({
    stream: fromStream(await streams.get(stream, call)),
  }));
  unary(router, METHODS.deleteStream, DeleteStreamRequestSchema, DeleteStreamResponseSchema, async (request, call) => {
    const { stream, consumers } = await streams.delete(request.stream, call);
    return { stream: fromStream(stream), consumers: [...consumers] };
  });
  unary(router, METHODS.purgeStream, PurgeStreamRequestSchema, PurgeStreamResponseSchema, async (request, call) => ({
    purged: await streams.purge(toPurgeSpec(request), call),
  }));
  unary(router, METHODS.listStores, ListStoresRequestSchema, ListStoresResponseSchema, async (request, call) => {
    const { entries, nextPageToken } = fromPage(await stores.list(toPage(request), call), fromStore);
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
    },
    async (message, call) => handle(message, adminCall(call)),
  );
}

function adminCall({ deadlineMs, engineCall }: ServerCall): AdminCall {
  return { deadlineMs, by: engineCall.peer };
}
