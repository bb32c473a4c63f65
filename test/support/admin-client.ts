/** A client of `AdminService` for tests, over the connection of another {@link Client}. */
import {
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  create,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
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
} from "../../src/gen/windshift/admin/v1alpha1/admin_pb.ts";
import type { CallOptions, Client } from "./client.ts";

const ADMIN = "/windshift.admin.v1alpha1.AdminService/";

/** Unary calls reject with `CallError`. */
export class AdminClient {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  listStreams = this.#unary("ListStreams", ListStreamsRequestSchema, ListStreamsResponseSchema);
  getStream = this.#unary("GetStream", GetStreamRequestSchema, GetStreamResponseSchema);
  deleteStream = this.#unary("DeleteStream", DeleteStreamRequestSchema, DeleteStreamResponseSchema);
  purgeStream = this.#unary("PurgeStream", PurgeStreamRequestSchema, PurgeStreamResponseSchema);
  listConsumers = this.#unary("ListConsumers", ListConsumersRequestSchema, ListConsumersResponseSchema);
  getConsumer = this.#unary("GetConsumer", GetConsumerRequestSchema, GetConsumerResponseSchema);
  pauseConsumer = this.#unary("PauseConsumer", PauseConsumerRequestSchema, PauseConsumerResponseSchema);
  resumeConsumer = this.#unary("ResumeConsumer", ResumeConsumerRequestSchema, ResumeConsumerResponseSchema);
  resetConsumer = this.#unary("ResetConsumer", ResetConsumerRequestSchema, ResetConsumerResponseSchema);
  listStores = this.#unary("ListStores", ListStoresRequestSchema, ListStoresResponseSchema);
  deleteStore = this.#unary("DeleteStore", DeleteStoreRequestSchema, DeleteStoreResponseSchema);

  #unary<Request extends DescMessage, Response extends DescMessage>(
    name: string,
    request: Request,
    response: Response,
  ) {
    return async (message: MessageInitShape<Request>, options: CallOptions = {}): Promise<MessageShape<Response>> => {
      const bytes = await this.#client.raw(ADMIN + name, toBinary(request, create(request, message)), options);
      return fromBinary(response, bytes);
    };
  }
}

/** All entries of a list, page by page. */
export async function allPages<Entry>(
  bring: (pageToken: string) => Promise<{ readonly entries: readonly Entry[]; readonly nextPageToken: string }>,
): Promise<Entry[]> {
  const all: Entry[] = [];
  for (let token = ""; ;) {
    const { entries, nextPageToken } = await bring(token);
    all.push(...entries);
    if (nextPageToken === "") return all;
    token = nextPageToken;
  }
}
