/** The interop client of grpc-go. */
import { join } from "node:path";
import { type Toolchain, fetched, toolchain } from "../support/toolchain.ts";
import type { InteropClient } from "./interop.ts";

const MODULE = "google.golang.org/grpc/interop/client";
const VERSION = "v1.79.3";

/** A busy machine is slow, and slowness is not what these cases are about. */
const SOAK = ["--soak_per_iteration_max_acceptable_latency_ms=30000", "--soak_overall_timeout_seconds=100"];

/**
 * All that the client knows but those that need credentials of Google (`*_creds`, `*_credentials`, `oauth2_auth_token`), and
 * those about load reports (`orca_*`), a protocol of its own above gRPC. It has no cases with compression.
 */
export const GRPC_GO: InteropClient = {
  suite: "grpc-go interop client",
  cases: [
    ["empty_unary"],
    ["large_unary"],
    ["client_streaming"],
    ["server_streaming"],
    ["ping_pong"],
    ["empty_stream"],
    ["timeout_on_sleeping_server"],
    ["cancel_after_begin"],
    ["cancel_after_first_response"],
    ["status_code_and_message"],
    ["special_status_message"],
    ["custom_metadata"],
    ["unimplemented_method"],
    ["unimplemented_service"],
    ["pick_first_unary"],
    // Large unary calls, one after the other, side by side, and each on a connection of its own.
    ["rpc_soak", "--soak_iterations=100", ...SOAK],
    ["rpc_soak", "--soak_iterations=400", "--soak_num_threads=16", ...SOAK],
    ["channel_soak", "--soak_iterations=48", "--soak_num_threads=4", ...SOAK],
  ],
  transports: { "": [] },
  build: buildGoClient,
  command: async (folder, trusted) => [
    join(folder, "client"),
    ...(trusted === undefined ? [] : ["--use_tls=true", "--use_test_ca=true", `--ca_file=${trusted}`]),
  ],
};

/** The folder that holds it as `client`, or why there is none. */
export async function buildGoClient(): Promise<Toolchain> {
  return toolchain("interop-client", [MODULE, VERSION], ["test/conformance/interop-go.ts"], async (folder) =>
    fetched("go", ["install", `${MODULE}@${VERSION}`], { cwd: folder, env: { GOBIN: folder } }),
  );
}
