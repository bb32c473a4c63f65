/** A process of its own that replays all dead letters of a consumer: `<NATS URL> <stream> <consumer>`. */
import { openDeadLetters } from "./dead-letters.ts";

const [, , url = "", stream = "", consumer = ""] = process.argv;
await using opened = await openDeadLetters(url);
await opened.letters.replay(stream, consumer, "all", {}, {});
