/** Hot path: what becomes of a published event is counted and traced in the same way, whichever call published it. */
import type { WindshiftError } from "../errors.ts";
import type { EventPublishListener } from "../events/publishing.ts";
import { MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_ID } from "../telemetry/attributes.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { ActiveSpan, Tracing } from "../telemetry/tracing.ts";

/** What the service counts and traces with. */
export interface ServiceTelemetry {
  readonly metrics: Metrics;
  readonly tracing: Tracing;
}

/** Counts one event, ends its span, and answers who published it. */
export abstract class PublishAnswer implements EventPublishListener {
  readonly #metrics: Metrics;
  readonly #span: ActiveSpan | undefined;

  constructor(metrics: Metrics, span: ActiveSpan | undefined) {
    this.#metrics = metrics;
    this.#span = span;
  }

  onPublished(id: bigint, stream: string, isDuplicate: boolean): void {
    const counts = this.#metrics.publishes(stream);
    (isDuplicate ? counts.duplicates : counts.stored).add(1);
    if (this.#span !== undefined) {
      this.#span.set(MESSAGING_DESTINATION_NAME, stream);
      this.#span.set(MESSAGING_MESSAGE_ID, id.toString());
      this.#span.end();
    }
    this.stored(id);
  }

  onFailed(error: WindshiftError): void {
    this.#metrics.publishes().failed(error.reason).add(1);
    this.#span?.fail(error.reason, error.message);
    this.failed(error);
  }

  protected abstract stored(id: bigint): void;
  protected abstract failed(error: WindshiftError): void;
}
