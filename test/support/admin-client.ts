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
  type ReplayDeadLettersResponse,
  ReplayDeadLettersResponseSchema,
  ResetConsumerRequestSchema,
  ResetConsumerResponseSchema,
  ResumeConsumerRequestSchema,
  ResumeConsumerResponseSchema,
} from "../../src/gen/windshift/admin/v1alpha1/admin_pb.ts";
import { type ClientReadableStream, status } from "@grpc/grpc-js";
import { CallError, type CallOptions, type Client, metadataOf } from "./client.ts";

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
  listDeadLetters = this.#unary("ListDeadLetters", ListDeadLettersRequestSchema, ListDeadLettersResponseSchema);
  deleteDeadLetters = this.#unary("DeleteDeadLetters", DeleteDeadLettersRequestSchema, DeleteDeadLettersResponseSchema);
  listStores = this.#unary("ListStores", ListStoresRequestSchema, ListStoresResponseSchema);
  deleteStore = this.#unary("DeleteStore", DeleteStoreRequestSchema, DeleteStoreResponseSchema);

  /** Opens a replay. */
  replay(request: MessageInitShape<typeof ReplayDeadLettersRequestSchema>, options: CallOptions = {}): ReplayCall {
    const stream = this.#client.grpc.makeServerStreamRequest(
      `${ADMIN}ReplayDeadLetters`,
      (message: Uint8Array) => Buffer.from(message),
      (bytes) => fromBinary(ReplayDeadLettersResponseSchema, bytes),
      toBinary(ReplayDeadLettersRequestSchema, create(ReplayDeadLettersRequestSchema, request)),
      metadataOf({}, options),
    );
    return new ReplayCall(stream);
  }

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

/** An open replay: what comes is kept. */
export class ReplayCall {
  readonly stream: ClientReadableStream<ReplayDeadLettersResponse>;
  readonly received: ReplayDeadLettersResponse["response"][] = [];
  /** Resolves when the call ended: undefined for OK. */
  readonly ended: Promise<CallError | undefined>;

  constructor(stream: ClientReadableStream<ReplayDeadLettersResponse>) {
    this.stream = stream;
    stream.on("data", ({ response }: ReplayDeadLettersResponse) => this.received.push(response));
    stream.on("error", () => undefined);
    const { promise, resolve } = Promise.withResolvers<CallError | undefined>();
    stream.on("status", (end) => resolve(end.code === status.OK ? undefined : new CallError(end)));
    this.ended = promise;
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
