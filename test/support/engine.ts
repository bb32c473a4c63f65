/** The engine that tests of every engine run on: the suite runs once for each. */
import { GrpcJsEngine } from "../../src/grpc/engine/grpc-js.ts";
import { NativeEngine } from "../../src/grpc/engine/native/server.ts";

export const EngineUnderTest: typeof GrpcJsEngine | typeof NativeEngine =
  process.env["GRPC_ENGINE"] === "grpc-js" ? GrpcJsEngine : NativeEngine;
