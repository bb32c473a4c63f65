/**
 * `npm run conformance [-- h2spec | interop]`: the conformance suites that others wrote for HTTP/2 and gRPC, against the
 * native engine. They are Go and Java programs: where one cannot be built, it is skipped with the reason. The exit code is 0
 * where all of it ran and passed, 3 where what can run here has passed, and 1 where something failed.
 */
import { selfSigned } from "../support/certificate.ts";
import { runH2spec } from "./h2spec.ts";
import { runInterop } from "./interop.ts";
import { formatResults, hasFailed } from "./report.ts";

const SUITES = { h2spec: runH2spec, interop: runInterop };

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !Object.hasOwn(SUITES, name));
if (unknown.length > 0) {
  console.error(`npm run conformance [-- ${Object.keys(SUITES).join(" | ")}]`);
  process.exit(64);
}
const tls = selfSigned();
const suites = Object.entries(SUITES).filter(([name]) => wanted.length === 0 || wanted.includes(name));
// At once, as h2spec waits most of the time.
const results = (await Promise.all(suites.map(async ([, run]) => run(tls)))).flat();
console.log(formatResults(results));
if (results.some(hasFailed)) process.exit(1);
process.exit(results.every(({ skipped }) => skipped === undefined) ? 0 : 3);
