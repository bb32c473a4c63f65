/** Events as the server stores them, put into NATS by hand: what they cost to publish is not what is measured. */
import { type MsgHdrs, headers } from "@nats-io/nats-core";

/** What a stored event has besides its payload. */
export function eventHeaders(): MsgHdrs {
  const all = headers();
  all.set("WS-Published-Time", new Date().toISOString());
  all.set("WS-Data-Type", "bench.v1.Bytes");
  return all;
}
