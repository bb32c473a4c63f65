/**
 * The Huffman code of HPACK (RFC 7541, appendix B). It is canonical: ordered by length, then by symbol, the codes count
 * up. So the lengths say it all.
 */
import { Buffer } from "node:buffer";

/** Bits of each octet's code, and last those of EOS. */
// prettier-ignore
const LENGTHS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
];
const EOS = 256;

/*
 * Decoding takes four bits at a time: no code is shorter than five, so at most one symbol ends in each step. An entry
 * of the table holds the next state, whether a symbol ended and which, and whether the text may end there (inside of
 * at most seven bits of padding, all of them ones).
 */
const SYMBOL_SHIFT = 16;
const HAS_SYMBOL = 1 << 15;
const MAY_END = 1 << 14;
const STATE_MASK = (1 << 10) - 1;
const FAILED = STATE_MASK;
const MAX_PADDING = 7;

interface Node {
  state: number;
  readonly next: [Node | undefined, Node | undefined];
  symbol: number;
  depth: number;
  allOnes: boolean;
}

function newNode(depth: number, allOnes: boolean): Node {
  return { state: 0, next: [undefined, undefined], symbol: -1, depth, allOnes };
}

function buildTree(): Node {
  const root = newNode(0, true);
  const order = LENGTHS.map((length, symbol) => ({ length, symbol })).toSorted(
    (a, b) => a.length - b.length || a.symbol - b.symbol,
  );
  let [code, bits] = [0, 0];
  for (const { length, symbol } of order) {
    code *= 2 ** (length - bits);
    bits = length;
    let node = root;
    for (let bit = length - 1; bit >= 0; bit--) {
      const branch = (code >>> bit) & 1;
      node = node.next[branch] ??= newNode(node.depth + 1, node.allOnes && branch === 1);
    }
    node.symbol = symbol;
    code += 1;
  }
  return root;
}

function buildTable(): Uint32Array {
  const root = buildTree();
  const inner: Node[] = [];
  const number = (node: Node | undefined): void => {
    if (node === undefined || node.symbol >= 0) return;
    node.state = inner.length;
    inner.push(node);
    for (const next of node.next) number(next);
  };
  number(root);
  const table = new Uint32Array(inner.length * 16);
  for (const [state, start] of inner.entries()) {
    for (let nibble = 0; nibble < 16; nibble++) table[state * 16 + nibble] = step(root, start, nibble);
  }
  return table;
}

function step(root: Node, start: Node, nibble: number): number {
  let node = start;
  let symbol = -1;
  for (let bit = 3; bit >= 0; bit--) {
    const next = node.next[(nibble >>> bit) & 1];
    // EOS is no symbol of a text (section 5.2).
    if (next === undefined || next.symbol === EOS) return FAILED;
    node = next;
    if (node.symbol < 0) continue;
    symbol = node.symbol;
    node = root;
  }
  const mayEnd = node.allOnes && node.depth <= MAX_PADDING;
  return node.state | (mayEnd ? MAY_END : 0) | (symbol < 0 ? 0 : HAS_SYMBOL | (symbol << SYMBOL_SHIFT));
}

const TABLE = buildTable();
/** The shortest code has five bits. */
const MAX_EXPANSION = 8 / 5;
let scratch = Buffer.alloc(4096);

/** The text coded in `bytes[start, end)`, each octet one character; undefined where that is no such code. */
export function decodeHuffman(bytes: Uint8Array, start: number, end: number): string | undefined {
  const room = Math.ceil((end - start) * MAX_EXPANSION);
  if (scratch.length < room) scratch = Buffer.alloc(room);
  let entry = MAY_END;
  let length = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    entry = TABLE[(entry & STATE_MASK) * 16 + (byte >>> 4)]!;
    if (entry === FAILED) return undefined;
    if ((entry & HAS_SYMBOL) !== 0) scratch[length++] = entry >>> SYMBOL_SHIFT;
    entry = TABLE[(entry & STATE_MASK) * 16 + (byte & 15)]!;
    if (entry === FAILED) return undefined;
    if ((entry & HAS_SYMBOL) !== 0) scratch[length++] = entry >>> SYMBOL_SHIFT;
  }
  return (entry & MAY_END) === 0 ? undefined : scratch.toString("latin1", 0, length);
}
