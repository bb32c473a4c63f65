/** Ports that are known before their owner listens, because others have to be told of them. */
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";

const FIRST = 12_000;
const LAST = 19_999;

/** A port that nobody uses, below those that the system gives to outgoing connections. */
export async function unusedPort(): Promise<number> {
  for (;;) {
    const probe = createServer();
    try {
      await once(probe.listen(FIRST + Math.floor(Math.random() * (LAST - FIRST)), "127.0.0.1"), "listening");
      return (probe.address() as AddressInfo).port;
    } catch {
      // Taken; try another.
    } finally {
      probe.close();
    }
  }
}
