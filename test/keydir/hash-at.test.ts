/** A key is hashed where it lies in a frame exactly as it is hashed on its own. */

import { expect, test } from "bun:test";
import { pinned } from "../../src/ffi/memory.ts";
import { KeyHash } from "../../src/keydir/hash.ts";
import { Random } from "../sim/random.ts";

test("the hash of a key does not depend on where it lies and what lies behind it", () => {
  const random = new Random(5);
  const hash = new KeyHash(Uint8Array.from({ length: 16 }, () => random.below(256)));
  const alone = pinned(1024);
  const among = pinned(4096);
  for (let length = 0; length < 700; length += 1) {
    alone.u8.fill(0);
    for (let index = 0; index < among.u8.length; index += 1) among.u8[index] = random.below(256);
    const offset = 4 * random.below(800);
    alone.u8.set(among.u8.subarray(offset, offset + length));
    expect(hash.at(among, offset, length)).toBe(hash.of(alone, length));
  }
});
