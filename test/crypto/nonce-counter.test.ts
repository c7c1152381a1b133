import { expect, test } from "bun:test";
import {
  BLOCK_COUNTERS,
  BLOCKS_MAX,
  NonceCounter,
  SESSION_BYTES_MAX,
  SESSION_SEALS_MAX,
  sharedClaim,
  writeNonce,
} from "../../src/crypto/nonce-counter.ts";

const sharedWords = (claimed = 0): Int32Array => {
  const words = new Int32Array(new SharedArrayBuffer(16));
  words[2] = claimed;
  return words;
};
const claimOf = (words: Int32Array) => sharedClaim(words, { index: 2 });

test("four threads that count in turns through a shared word never get one counter twice", () => {
  const words = sharedWords();
  const threads = Array.from({ length: 4 }, () => new NonceCounter(claimOf(words)));
  const seen = new Set<number>();
  let random = 12345;
  for (let call = 0; call < 60_000; call++) {
    random = (Math.imul(random, 1103515245) + 12345) >>> 0;
    const counter = threads[(random >>> 16) & 3]!.next()!;
    expect(seen.has(counter)).toBe(false);
    seen.add(counter);
  }
  expect(seen.size).toBe(60_000);
  expect(words[2]).toBe(Math.ceil(Math.max(...seen) / BLOCK_COUNTERS));
});

test("real threads claim different blocks", async () => {
  const words = sharedWords();
  const workers = [0, 1].map(() => new Worker(new URL("count-worker.ts", import.meta.url)));
  const lists = await Promise.all(
    workers.map(async (worker) => {
      const { promise, resolve, reject } = Promise.withResolvers<number[]>();
      worker.addEventListener("message", ({ data }: MessageEvent<number[]>) => resolve(data));
      worker.addEventListener("error", reject);
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a Worker has no origin
      worker.postMessage(words);
      return promise;
    }),
  );
  for (const worker of workers) worker.terminate();
  expect(new Set(lists.flat()).size).toBe(40_000);
});

test("the last block gives its counters, then the session is spent for ever and the word stays full", () => {
  const words = sharedWords(BLOCKS_MAX - 1);
  const counter = new NonceCounter(claimOf(words));
  for (let index = 0; index < BLOCK_COUNTERS; index++) {
    expect(counter.next()).toBe(SESSION_SEALS_MAX - BLOCK_COUNTERS + index);
  }
  for (let call = 0; call < 3; call++) expect(counter.next()).toBeUndefined();
  expect(new NonceCounter(claimOf(words)).next()).toBeUndefined();
  expect(words[2]).toBe(BLOCKS_MAX);
});

test("a block outside the session is a bug, not a nonce", () => {
  for (const block of [-1, BLOCKS_MAX, 0.5, Number.NaN]) {
    expect(() => new NonceCounter(() => block).next()).toThrow("block");
  }
});

test("a nonce is 8 zeros and the counter, big endian, and differs for different counters", () => {
  const nonce = new Uint8Array(12);
  const hex = (counter: number): string => {
    writeNonce(nonce, counter);
    return nonce.toHex();
  };
  expect(hex(0)).toBe("00".repeat(12));
  expect(hex(0x01020304)).toBe(`${"00".repeat(8)}01020304`);
  expect(hex(SESSION_SEALS_MAX - 1)).toBe(`${"00".repeat(8)}ffffffff`);
  const bits = Array.from({ length: 32 }, (_, bit) => hex(2 ** bit));
  expect(new Set(bits).size).toBe(32);
});

test("a counter beyond the session is refused before it wraps", () => {
  for (const counter of [SESSION_SEALS_MAX, -1, 1.5, Number.NaN]) {
    expect(() => writeNonce(new Uint8Array(12), counter)).toThrow("counter");
  }
  expect(SESSION_BYTES_MAX / 16).toBe(2 ** 36);
});

test.each(["load", "add"] as const)(
  "who is overtaken before its %s in claiming the last block finds the session spent",
  (name) => {
    const words = new Int32Array(new SharedArrayBuffer(4));
    words[0] = BLOCKS_MAX - 1;
    const claim = sharedClaim(words, { index: 0 });
    const operate = Atomics[name];
    const atomics = Atomics as unknown as Record<string, unknown>;
    const blocks: (number | undefined)[] = [];
    atomics[name] = (...args: [Int32Array, number, number]): number => {
      atomics[name] = operate;
      blocks.push(claim());
      return operate(...args);
    };
    try {
      blocks.push(claim());
    } finally {
      atomics[name] = operate;
    }
    expect(blocks).toStrictEqual([BLOCKS_MAX - 1, undefined]);
  },
);
