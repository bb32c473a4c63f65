/**
 * Who may import whom is data here, so that a wrong import fails the check; `docs/architecture.md` shows the same table.
 */
import { defineConfig } from "oxlint";

const leaves = ["errors.ts"];
const mayImport: Record<string, string[]> = {
  grpc: ["admin", "events", "state", "auth", "telemetry", "gen", "protobuf", "rpc.ts", "errors.ts"],
  admin: ["events", "state", "nats", "telemetry", "names.ts", "errors.ts"],
  events: ["nats", "telemetry", "names.ts", "errors.ts"],
  state: ["nats", "telemetry", "protobuf", "names.ts", "errors.ts"],
  nats: ["telemetry", "names.ts", ...leaves],
  auth: ["telemetry", "names.ts", ...leaves],
  cli: ["auth", "config", ...leaves],
  health: ["telemetry", "names.ts", ...leaves],
  telemetry: leaves,
  config: leaves,
  gen: [],
  protobuf: [],
};
const packagesOnlyIn: Record<string, string[]> = {
  "@nats-io/": ["nats", "events", "state", "admin"],
  "@grpc/": ["grpc", "telemetry"],
  fastify: ["health"],
  "@opentelemetry/": ["telemetry"],
};
const all = [...Object.keys(mayImport), "errors.ts", "names.ts", "rpc.ts", "admission.ts", "daemon.ts", "main.ts"];

export default defineConfig({
  plugins: ["typescript", "import", "promise", "node", "unicorn", "vitest"],
  categories: { correctness: "error" },
  options: { typeAware: true },
  ignorePatterns: ["src/gen/**", "dist/**", "coverage/**", "node_modules/**"],
  rules: {
    "import/no-cycle": "error",
    "import/no-default-export": "error",
    "typescript/no-floating-promises": "error",
    "typescript/no-misused-promises": "error",
    "typescript/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
    "typescript/consistent-type-imports": "error",
    // Copies are on purpose where a callback may change what is walked over.
    "unicorn/no-useless-spread": "off",
    "vitest/no-conditional-expect": "off",
    "vitest/expect-expect": "off",
    "vitest/no-standalone-expect": "off",
    // Functions in options and fixtures do not use `this`.
    "typescript/unbound-method": "off",
    "no-empty-pattern": ["error", { allowObjectPatternsAsParameters: true }],
  },
  overrides: [
    { files: ["*.config.ts", "*.config.js"], rules: { "import/no-default-export": "off" } },
    ...Object.entries(mayImport).map(([folder, allowed]) => {
      const folders = all
        .filter((other) => other !== folder && !allowed.includes(other))
        .map((other) => other.replace(".", "\\."));
      const packages = Object.keys(packagesOnlyIn).filter((name) => !packagesOnlyIn[name]!.includes(folder));
      const message = `src/${folder} may not import this: see the table in docs/architecture.md`;
      const patterns = [
        { regex: `^(\\.\\./)+(${folders.join("|")})(/|$)`, message },
        ...(packages.length === 0 ? [] : [{ regex: `^(${packages.join("|")})`, message }]),
      ];
      const rule: ["error", { patterns: typeof patterns }] = ["error", { patterns }];
      return { files: [`src/${folder}/**`], rules: { "no-restricted-imports": rule } };
    }),
  ],
});
