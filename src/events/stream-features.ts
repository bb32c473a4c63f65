/** What a stream allows beyond the original contract: asked for once, and kept from then on. Pure functions. */
import { fieldError } from "../errors.ts";
import type { NatsConnection } from "../nats/connection.ts";
import { type NATS_WITH, requireNats } from "../nats/version.ts";

/** Undefined keeps what the stream has. */
export interface StreamFeatures {
  readonly allowTimeToLive?: boolean | undefined;
  /** Brings the time to live along. */
  readonly allowScheduling?: boolean | undefined;
  readonly allowAtomic?: boolean | undefined;
}

/** What these features are in JetStream's configuration; the client library knows not all of them yet. */
export interface FeatureConfig {
  readonly allow_msg_ttl?: boolean;
  readonly allow_msg_schedules?: boolean;
  readonly allow_atomic?: boolean;
}

interface Feature {
  readonly field: string;
  readonly asked: keyof StreamFeatures;
  readonly setting: keyof FeatureConfig;
  readonly needs: keyof typeof NATS_WITH;
  readonly isForEver: boolean;
  readonly notFor: readonly string[];
}

const FEATURES: readonly Feature[] = [
  {
    field: "allow_time_to_live",
    asked: "allowTimeToLive",
    setting: "allow_msg_ttl",
    needs: "timeToLive",
    isForEver: true,
    notFor: ["mirror"],
  },
  {
    field: "allow_scheduling",
    asked: "allowScheduling",
    setting: "allow_msg_schedules",
    needs: "scheduling",
    isForEver: true,
    notFor: ["mirror", "aggregate"],
  },
  {
    field: "allow_atomic",
    asked: "allowAtomic",
    setting: "allow_atomic",
    needs: "atomicBatches",
    isForEver: false,
    notFor: ["mirror"],
  },
];

/** Throws where a stream of this kind cannot have what is asked for, or NATS does not know it. */
export function checkFeatures(
  asked: StreamFeatures & { readonly source: { readonly kind: string } },
  nats: Pick<NatsConnection, "server">,
): void {
  if (asked.allowScheduling === true && asked.allowTimeToLive === false) {
    throw fieldError("CONFLICTING_FIELDS", "allow_time_to_live", "comes with allow_scheduling, it cannot be false");
  }
  for (const feature of FEATURES) {
    if (asked[feature.asked] !== true) continue;
    const { kind } = asked.source;
    if (feature.notFor.includes(kind)) {
      throw fieldError(
        "CONFIGURATION_REFUSED",
        feature.field,
        `cannot be true for ${kind === "mirror" ? "a" : "an"} ${kind}`,
      );
    }
    requireNats(nats, feature.needs, feature.field);
  }
}

/**
 * The part of the configuration that decides these features; throws where the stream cannot have one, or would have to give
 * up one that is for ever.
 */
export function featureConfig(
  asked: StreamFeatures,
  current: FeatureConfig & { readonly retention?: string } = {},
): FeatureConfig {
  const config: { -readonly [K in keyof FeatureConfig]: FeatureConfig[K] } = {};
  const { retention = "limits" } = current;
  // NATS removes what no consumer asks for, or one has settled: schedules, too.
  if (asked.allowScheduling === true && retention !== "limits") {
    const problem = `cannot be true for a stream with ${retention} retention, which does not keep what waits`;
    throw fieldError("CONFIGURATION_REFUSED", "allow_scheduling", problem);
  }
  for (const { field, asked: name, setting, isForEver } of FEATURES) {
    const has = current[setting] === true;
    if (asked[name] === false && has && isForEver) {
      throw fieldError("UNCHANGEABLE_SETTING", field, "the stream has it, and NATS cannot switch it off");
    }
    if (asked[name] === true || (asked[name] === false && has)) config[setting] = asked[name];
  }
  if (config.allow_msg_schedules === true) config.allow_msg_ttl = true;
  return config;
}
