/** HPACK against the examples of RFC 7541 (appendix C), random lists, and bytes that are none. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HeaderField, HpackDecoder, HpackError, encodeField } from "../../../../src/grpc/engine/native/hpack.ts";
import { decodeHuffman } from "../../../../src/grpc/engine/native/huffman.ts";

type Pair = [name: string, value: string];

function decodeWith(decoder: HpackDecoder, block: Buffer): Pair[] {
  const pairs: Pair[] = [];
  decoder.decode(block, 0, block.length, ({ name, value }) => void pairs.push([name, value]));
  return pairs;
}

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(/\s/g, ""), "hex");
}

const FIRST: Pair[] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "www.example.com"],
];
const SECOND: Pair[] = [...FIRST, ["cache-control", "no-cache"]];
const THIRD: Pair[] = [
  [":method", "GET"],
  [":scheme", "https"],
  [":path", "/index.html"],
  [":authority", "www.example.com"],
  ["custom-key", "custom-value"],
];
const RESPONSES: Pair[][] = [
  [
    [":status", "302"],
    ["cache-control", "private"],
    ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
    ["location", "https://www.example.com"],
  ],
  [
    [":status", "307"],
    ["cache-control", "private"],
    ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
    ["location", "https://www.example.com"],
  ],
  [
    [":status", "200"],
    ["cache-control", "private"],
    ["date", "Mon, 21 Oct 2013 20:13:22 GMT"],
    ["location", "https://www.example.com"],
    ["content-encoding", "gzip"],
    ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
  ],
];

describe("the examples of RFC 7541", () => {
  test("C.2.1 to C.2.4: the four representations", () => {
    expect(decodeWith(new HpackDecoder(), hex("400a637573746f6d2d6b65790d637573746f6d2d686561646572"))).toEqual([
      ["custom-key", "custom-header"],
    ]);
    expect(decodeWith(new HpackDecoder(), hex("040c2f73616d706c652f70617468"))).toEqual([[":path", "/sample/path"]]);
    expect(decodeWith(new HpackDecoder(), hex("100870617373776f726406736563726574"))).toEqual([["password", "secret"]]);
    expect(decodeWith(new HpackDecoder(), hex("82"))).toEqual([[":method", "GET"]]);
  });

  test.for([
    [
      "C.3, plain",
      "828684410f7777772e6578616d706c652e636f6d",
      "828684be58086e6f2d6361636865",
      "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ],
    [
      "C.4, Huffman",
      "828684418cf1e3c2e5f23a6ba0ab90f4ff",
      "828684be5886a8eb10649cbf",
      "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ],
  ] as const)("%s: requests on one connection", ([, first, second, third]) => {
    const decoder = new HpackDecoder();
    expect(decodeWith(decoder, hex(first))).toEqual(FIRST);
    expect(decodeWith(decoder, hex(second))).toEqual(SECOND);
    expect(decodeWith(decoder, hex(third))).toEqual(THIRD);
  });

  test.for([
    [
      "C.5, plain",
      `4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d`,
      "4803333037c1c0bf",
      `88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31`,
    ],
    [
      "C.6, Huffman",
      "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
      "4883640effc1c0bf",
      "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ],
  ] as const)("%s: responses, with a table that evicts", ([, ...blocks]) => {
    const decoder = new HpackDecoder(256);
    for (const [index, block] of blocks.entries()) expect(decodeWith(decoder, hex(block))).toEqual(RESPONSES[index]);
  });
});

describe("a list", () => {
  const text = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)) });
  const long = text.chain((part) => fc.nat({ max: 300 }).map((times) => part.repeat(times)));

  test("that was encoded here is decoded to the same", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(text, fc.oneof(text, long))), (pairs) => {
        const block = Buffer.concat(pairs.map(([name, value]) => encodeField(name, value)));
        expect(decodeWith(new HpackDecoder(), block)).toEqual(pairs);
      }),
    );
  });

  test("is counted as HTTP/2 does", () => {
    expect(new HeaderField("a", "bc").size).toBe(35);
  });

  test("may refer to what other lists left in the table, as long as it has room", () => {
    const decoder = new HpackDecoder(100);
    const indexed = (name: string) =>
      Buffer.concat([Buffer.from([0x40, 1]), Buffer.from(name), Buffer.from([1, 0x76])]);
    expect(decodeWith(decoder, Buffer.concat([indexed("a"), indexed("b")]))).toEqual([
      ["a", "v"],
      ["b", "v"],
    ]);
    // 34 bytes each: the third pushes the first out.
    expect(decodeWith(decoder, Buffer.concat([indexed("c"), Buffer.from([0x80 | 62, 0x80 | 63])]))).toEqual([
      ["c", "v"],
      ["c", "v"],
      ["b", "v"],
    ]);
    expect(() => decodeWith(decoder, Buffer.from([0x80 | 64]))).toThrow(HpackError);
    // Larger than the table: it empties it.
    expect(decodeWith(decoder, encodeIndexed("d", "x".repeat(90)))).toHaveLength(1);
    expect(() => decodeWith(decoder, Buffer.from([0x80 | 62]))).toThrow(HpackError);
  });

  test("a thousand times over leaves no more than the table holds", () => {
    const decoder = new HpackDecoder();
    for (let n = 0; n < 5_000; n++) decodeWith(decoder, encodeIndexed("name", `value ${n}`));
    expect(decodeWith(decoder, Buffer.from([0x80 | 62]))).toEqual([["name", "value 4999"]]);
    expect(() => decodeWith(decoder, Buffer.from([0xff, 0x80, 0x02]))).toThrow(HpackError);
  });
});

function encodeIndexed(name: string, value: string): Buffer {
  const block = encodeField(name, value);
  block[0] = 0x40;
  return block;
}

describe("a block that comes again", () => {
  const indexed = hex("8286");
  const literal = hex("0f0d0131");
  const inserting = hex("400161 0162");
  const resizing = hex("20 82");

  test.for([
    ["of fields from the tables", indexed],
    ["of texts that no table remembers", literal],
  ] as const)("is known: %s", ([, block]) => {
    const decoder = new HpackDecoder();
    expect(decoder.isRepeated(block, 0, block.length)).toBe(false);
    decodeWith(decoder, block);
    const around = Buffer.concat([indexed, block, indexed]);
    expect(decoder.isRepeated(around, indexed.length, indexed.length + block.length)).toBe(true);
    expect(decoder.isRepeated(around, indexed.length, indexed.length + block.length - 1)).toBe(false);
    expect(decoder.isRepeated(around, 1, 1 + block.length)).toBe(false);
  });

  test.for([
    ["it adds to the table", inserting],
    ["it changes the table's size", resizing],
    ["it is long", Buffer.alloc(200, 0x82)],
    ["it is empty", Buffer.alloc(0)],
  ] as const)("is not where %s", ([, block]) => {
    const decoder = new HpackDecoder();
    decodeWith(decoder, block);
    expect(decoder.isRepeated(block, 0, block.length)).toBe(false);
  });

  test("means what it would if it were read, whatever came between", () => {
    const block = fc
      .array(fc.constantFrom("82", "86", "be", "bf", "c0", "0f0d0131", "4001610162", "4001630164", "7e0165"), {
        maxLength: 4,
      })
      .chain((fields) => fc.constantFrom("", "20", "3f21").map((size) => hex(size + fields.join(""))));
    fc.assert(
      fc.property(fc.array(block, { maxLength: 30 }), (blocks) => {
        const [decoder, reference] = [new HpackDecoder(), new HpackDecoder()];
        let known: Pair[] = [];
        for (const each of [...blocks, ...blocks].flatMap((one) => [one, one])) {
          let expected: Pair[];
          try {
            expected = decodeWith(reference, each);
          } catch {
            // A connection ends with the first of these.
            expect(decoder.isRepeated(each, 0, each.length)).toBe(false);
            expect(() => decodeWith(decoder, each)).toThrow(HpackError);
            return;
          }
          if (!decoder.isRepeated(each, 0, each.length)) known = decodeWith(decoder, each);
          expect(known).toEqual(expected);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe("what is no header block is refused", () => {
  test.for([
    ["index 0", "80"],
    ["an index beyond the tables", "be"],
    ["a name index beyond the tables", "7f8001"],
    ["an integer without end", "ffffffffffffffffff"],
    ["an integer that is too large", "ff8080808010"],
    ["an integer that is cut off", "ff"],
    ["a text that leaves the block", "400561"],
    ["a text without its length", "4001"],
    ["a size beyond the limit", "3fe21f"],
    ["a size behind a field", "8220"],
    ["Huffman padding of eight ones", "4082ffff0161"],
    ["Huffman padding with a zero", "40810001 61"],
    ["Huffman with EOS", "4084ffffffff0161"],
  ] as const)("%s", ([, block]) => {
    expect(() => decodeWith(new HpackDecoder(), hex(block))).toThrow(HpackError);
  });

  test("and nothing but that is ever thrown", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 5 }), (blocks) => {
        const decoder = new HpackDecoder();
        try {
          for (const block of blocks) decodeWith(decoder, Buffer.from(block));
        } catch (error) {
          expect(error).toBeInstanceOf(HpackError);
        }
      }),
      { numRuns: 3_000 },
    );
  });
});

describe("a field says whether its characters are allowed", () => {
  test.for(["a", ":path", "grpc-timeout", "x_y.z", "!#$%&'*+-^`|~"])("name %j: yes", (name) => {
    expect(new HeaderField(name, "v").isValid).toBe(true);
  });

  test.for(["", "A", "a b", "a:b", "::a", "a\0", "a\x7f", "ä"])("name %j: no", (name) => {
    expect(new HeaderField(name, "v").isValid).toBe(false);
  });

  test.for(["", "a b", "a\tb", "\xe4", "x"])("value %j: yes", (value) => {
    expect(new HeaderField("n", value).isValid).toBe(true);
  });

  test.for([" a", "a ", "\ta", "a\t", "a\0b", "a\rb", "a\nb", " "])("value %j: no", (value) => {
    expect(new HeaderField("n", value).isValid).toBe(false);
  });
});

test("texts in Huffman code begin and end where they are told", () => {
  const around = hex("ff 1c6490b2cd39ba7f ff");
  expect(decodeHuffman(hex("a8eb10649cbf"), 0, 6)).toBe("no-cache");
  expect(decodeHuffman(Buffer.concat([around, hex("a8eb10649cbf"), around]), 10, 16)).toBe("no-cache");
  expect(decodeHuffman(Buffer.alloc(5), 0, 5)).toBe("0".repeat(8));
  expect(decodeHuffman(Buffer.alloc(0), 0, 0)).toBe("");
});
