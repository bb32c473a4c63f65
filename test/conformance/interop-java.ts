/** The interop client of grpc-java, on both HTTP/2 implementations that it has: Netty's and OkHttp's. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Toolchain, execute, fetched, toolchain } from "../support/toolchain.ts";
import type { InteropClient } from "./interop.ts";
import { Server } from "./server.ts";

const VERSION = "1.79.0";
const MAIN = "io.grpc.testing.integration.TestServiceClient";
const STORE_PASSWORD = "changeit";
/** A process for each case lives for a second or two. The archive of classes is for those that know it. */
const JVM = ["-XX:+IgnoreUnrecognizedVMOptions", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
/** A project without sources, whose dependencies are the program. */
const PROJECT = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>windshift</groupId>
  <artifactId>interop</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>io.grpc</groupId>
      <artifactId>grpc-interop-testing</artifactId>
      <version>${VERSION}</version>
    </dependency>
  </dependencies>
</project>
`;

const SOAK = ["--soak_per_iteration_max_acceptable_latency_ms=30000", "--soak_overall_timeout_seconds=100"];

/**
 * All that the client knows but those of credentials and load reports, as for grpc-go, and:
 *
 * - `cacheable_unary` calls by GET, which gRPC over HTTP/2 does not have.
 * - `very_large_request` has 10 MiB, more than the 4 MiB that is taken here.
 * - `client_compressed_*` first sends a plain message that it calls compressed, and has the handler refuse it: handlers here
 *   get messages unpacked, and do not know how they came. What follows is played (`*_noprobe`).
 * - `server_compressed_*` ask for packed responses, which the engine does not send.
 */
export const GRPC_JAVA: InteropClient = {
  suite: "grpc-java interop client",
  cases: [
    ["empty_unary"],
    ["large_unary"],
    ["client_compressed_unary_noprobe"],
    ["client_streaming"],
    ["client_compressed_streaming_noprobe"],
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
    ["rpc_soak", "--soak_iterations=100", ...SOAK],
    ["channel_soak", "--soak_iterations=10", ...SOAK],
  ],
  transports: { ", Netty": ["--use_okhttp=false"], ", OkHttp": ["--use_okhttp=true"] },
  build: buildJavaClient,
  command: async (folder, trusted) => {
    const program = programOf(folder, `-XX:SharedArchiveFile=${archiveOf(folder)}`);
    if (trusted === undefined) return ["java", ...program, "--use_tls=false"];
    const store = `${trusted}.p12`;
    const password = ["-storetype", "PKCS12", "-storepass", STORE_PASSWORD];
    await execute("keytool", ["-importcert", "-noprompt", "-file", trusted, "-keystore", store, ...password]);
    const trust = [`-Djavax.net.ssl.trustStore=${store}`, `-Djavax.net.ssl.trustStorePassword=${STORE_PASSWORD}`];
    return ["java", ...trust, ...program, "--use_tls=true"];
  },
};

async function buildJavaClient(): Promise<Toolchain> {
  return toolchain("interop-java", [], ["test/conformance/interop-java.ts"], async (folder) => {
    await fetched("java", ["-version"]);
    await writeFile(join(folder, "pom.xml"), PROJECT);
    const goal = ["dependency:copy-dependencies", `-DoutputDirectory=${join(folder, "lib")}`];
    await fetched("mvn", ["--quiet", "--batch-mode", ...goal], { cwd: folder });
    // Half of the life of a process is loading classes, unless they are found as one loaded them.
    await using server = await Server.start();
    const one = [`--server_port=${server.port}`, "--use_tls=false", "--test_case=ping_pong"];
    await execute("java", [...programOf(folder, `-XX:ArchiveClassesAtExit=${archiveOf(folder)}`), ...one]);
  });
}

function programOf(folder: string, archive: string): string[] {
  return [...JVM, archive, "-cp", join(folder, "lib/*"), MAIN];
}

function archiveOf(folder: string): string {
  return join(folder, "classes.jsa");
}
