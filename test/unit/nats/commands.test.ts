import fc from "fast-check";
import { expect, test } from "vitest";
import { CommandWriter } from "../../../src/nats/commands.ts";

interface Command {
  readonly subject: string;
  readonly reply: string;
  readonly token: number | undefined;
  readonly headers: string;
  readonly payload: Buffer;
}

function append(writer: CommandWriter, { subject, reply, token, headers, payload }: Command): void {
  writer.publish(subject, reply, token, headers, payload);
}

/** As the protocol has it. */
function text({ subject, reply, token, headers, payload }: Command): Buffer {
  const target = reply === "" ? subject : `${subject} ${reply}${token ?? ""}`;
  const bytes = Buffer.byteLength(headers);
  const total = bytes + payload.length;
  const line = bytes === 0 ? `PUB ${target} ${total}\r\n` : `HPUB ${target} ${bytes} ${total}\r\n`;
  return Buffer.concat([Buffer.from(line + headers), payload, Buffer.from("\r\n")]);
}

const subject = fc.stringMatching(/^[!-~]{1,80}$/);
const command: fc.Arbitrary<Command> = fc.record({
  subject,
  reply: fc.oneof(fc.constant(""), subject),
  token: fc.option(fc.oneof(fc.nat(), fc.maxSafeNat(), fc.constantFrom(9, 10, 99, 100, Number.MAX_SAFE_INTEGER)), {
    nil: undefined,
  }),
  headers: fc.oneof(
    fc.constant(""),
    fc.string({ unit: "grapheme", maxLength: 300 }).map((key) => `NATS/1.0\r\nNats-Msg-Id: ${key}\r\n\r\n`),
  ),
  payload: fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    fc.integer({ min: 16_000, max: 70_000 }).map((size) => Buffer.alloc(size, "ab")),
  ),
});

test("commands are written as the protocol has them, one after the other", () => {
  fc.assert(
    fc.property(fc.array(fc.array(command, { maxLength: 30 }), { maxLength: 4 }), (turns) => {
      const writer = new CommandWriter();
      const taken: Buffer[] = [];
      for (const commands of turns) {
        for (const one of commands) append(writer, one);
        expect(writer.count).toBe(commands.length);
        expect(writer.bytes).toBe(Buffer.concat(commands.map(text)).length);
        taken.push(...writer.take());
        expect(writer.count).toBe(0);
      }
      // Only now: what was taken stays as it is.
      expect(Buffer.concat(taken).equals(Buffer.concat(turns.flat().map(text)))).toBe(true);
    }),
  );
});

test("large payloads go along without a copy", () => {
  const writer = new CommandWriter();
  const payload = Buffer.alloc(16 * 1024);
  writer.publish("a", "", undefined, "", payload);
  expect(writer.take().some((chunk) => chunk === payload)).toBe(true);
});

test("what is forgotten is not sent", () => {
  const writer = new CommandWriter();
  writer.publish("a", "", undefined, "", Buffer.from("forgotten"));
  writer.publish("a", "", undefined, "", Buffer.alloc(20_000));
  writer.clear();
  expect(writer.count).toBe(0);
  writer.publish("b", "c.", 7, "", Buffer.from("sent"));
  expect(Buffer.concat(writer.take()).toString()).toBe("PUB b c.7 4\r\nsent\r\n");
  expect(writer.take()).toEqual([]);
});
