/**
 * The settings of a consumer while it is deleted and not yet made again, in the metadata of its stream: whoever dies in between
 * leaves them to be found there.
 */
import type { ConsumerConfig, StreamConfig, StreamInfo } from "@nats-io/jetstream";
import { WindshiftError } from "../errors.ts";
import type { ApiCall, JetStreamApi } from "../nats/api.ts";

const PREFIX = "windshift.reset-settings.";
/** Of more entries, only so many are looked at. */
const MAX_INTERRUPTED = 100;

/** Settings as JetStream has them, with the name. */
export type NamedConfig = Partial<ConsumerConfig> & { name: string };

/** Keeps the settings of a consumer. */
export async function keepSettings(
  api: JetStreamApi,
  stream: string,
  consumer: string,
  config: NamedConfig,
  call: ApiCall,
): Promise<void> {
  const { config: current } = await api.streamInfo(stream, call);
  await update(api, current, { ...current.metadata, [PREFIX + consumer]: JSON.stringify(config) }, call);
}

/** The settings that are kept of a consumer; undefined where there are none, or nobody can read them. */
export async function keptSettings(
  api: JetStreamApi,
  stream: string,
  consumer: string,
  call: ApiCall,
): Promise<NamedConfig | undefined> {
  const { config } = await api.streamInfo(stream, call);
  try {
    const kept = JSON.parse(config.metadata?.[PREFIX + consumer] ?? "null") as NamedConfig | null;
    return kept?.name === consumer ? kept : undefined;
  } catch {
    return undefined;
  }
}

/** Forgets them. */
export async function forgetSettings(
  api: JetStreamApi,
  stream: string,
  consumer: string,
  call: ApiCall,
): Promise<void> {
  const { config } = await api.streamInfo(stream, call);
  const { [PREFIX + consumer]: kept, ...metadata } = config.metadata ?? {};
  if (kept !== undefined) await update(api, config, metadata, call);
}

/** Consumers that are not there, and whose settings are. */
export async function interruptedResets(api: JetStreamApi, { config }: StreamInfo, call: ApiCall): Promise<string[]> {
  const kept = Object.keys(config.metadata ?? {}).filter((key) => key.startsWith(PREFIX));
  const interrupted: string[] = [];
  for (const key of kept.slice(0, MAX_INTERRUPTED)) {
    const consumer = key.slice(PREFIX.length);
    try {
      await api.consumerInfo(config.name, consumer, call);
    } catch (error) {
      if (!(error instanceof WindshiftError) || error.reason !== "CONSUMER_NOT_FOUND") throw error;
      interrupted.push(consumer);
    }
  }
  return interrupted;
}

async function update(
  api: JetStreamApi,
  config: StreamConfig,
  metadata: Record<string, string>,
  call: ApiCall,
): Promise<void> {
  await api.updateStream({ ...config, metadata }, { ...call, names: { stream: config.name } });
}
