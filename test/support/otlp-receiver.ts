/** A collector for tests: takes OTLP over gRPC and keeps what it got as bytes. */
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";

const TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/** One export as it arrived. Strings and ids stand in the bytes as they are. */
interface Export {
  readonly body: Buffer;
  readonly header: (name: string) => string | undefined;
  /** How long the exporter would have waited for the answer. */
  readonly timeoutMs: number;
}

/** A listening collector; disposing it cuts what is open. */
export interface OtlpReceiver extends AsyncDisposable {
  readonly endpoint: string;
  readonly traces: readonly Export[];
  readonly metrics: readonly Export[];
}

/** Starts a collector on a free port. With `answers: false` it takes calls and leaves them waiting. */
export async function startOtlpReceiver({ answers = true } = {}): Promise<OtlpReceiver> {
  const traces: Export[] = [];
  const metrics: Export[] = [];
  const server = new Server();
  const takeInto =
    (list: Export[]) =>
    (call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void => {
      const header = (name: string): string | undefined => call.metadata.get(name)[0]?.toString();
      list.push({ body: call.request, header, timeoutMs: Number(call.getDeadline()) - Date.now() });
      // An empty message is a full success.
      if (answers) callback(null, Buffer.alloc(0));
    };
  server.addService(
    { traces: method(TRACES), metrics: method(METRICS) },
    { traces: takeInto(traces), metrics: takeInto(metrics) },
  );
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
    error === null ? resolve(port) : reject(error),
  );
  const port = await promise;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    traces,
    metrics,
    [Symbol.asyncDispose]: () => {
      server.forceShutdown();
      return Promise.resolve();
    },
  };
}

function method(path: string): {
  path: string;
  requestStream: false;
  responseStream: false;
  requestSerialize: (value: Buffer) => Buffer;
  requestDeserialize: (value: Buffer) => Buffer;
  responseSerialize: (value: Buffer) => Buffer;
  responseDeserialize: (value: Buffer) => Buffer;
} {
  const same = (value: Buffer): Buffer => value;
  return {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}
