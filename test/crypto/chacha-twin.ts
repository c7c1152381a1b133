/**
 * ChaCha20-Poly1305 of RFC 8439 in its plainest form, to hold the package against: big integers, one byte at a time.
 */

export function chachaPolyTwin(
  key: Uint8Array,
  message: { readonly nonce: Uint8Array; readonly associatedData: Uint8Array; readonly plaintext: Uint8Array },
): Uint8Array {
  const { nonce, associatedData, plaintext } = message;
  const blocks = Array.from({ length: Math.ceil(plaintext.length / 64) }, (_, index) => block(key, nonce, 1 + index));
  const ciphertext = plaintext.map((byte, index) => byte ^ blocks[index >> 6]![index & 63]!);
  const lengths = new Uint8Array(16);
  new DataView(lengths.buffer).setUint32(0, associatedData.length, true);
  new DataView(lengths.buffer).setUint32(8, ciphertext.length, true);
  const covered = [...padded(associatedData), ...padded(ciphertext), ...lengths];
  const oneTimeKey = block(key, nonce, 0).subarray(0, 32);
  return Uint8Array.from([...ciphertext, ...poly1305(oneTimeKey, Uint8Array.from(covered))]);
}

function padded(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(Math.ceil(bytes.length / 16) * 16);
  whole.set(bytes);
  return whole;
}

/** RFC 8439, 2.3. */
function block(key: Uint8Array, nonce: Uint8Array, counter: number): Uint8Array {
  const start = new Uint32Array(16);
  start.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574]);
  start.set(new Uint32Array(key.slice().buffer), 4);
  start[12] = counter;
  start.set(new Uint32Array(nonce.slice().buffer), 13);
  const state = start.slice();
  for (let round = 0; round < 10; round++) {
    for (let column = 0; column < 4; column++) quarter(state, [column, column + 4, column + 8, column + 12]);
    for (let column = 0; column < 4; column++) {
      quarter(state, [column, ((column + 1) % 4) + 4, ((column + 2) % 4) + 8, ((column + 3) % 4) + 12]);
    }
  }
  return new Uint8Array(state.map((word, index) => word + start[index]!).buffer);
}

/** RFC 8439, 2.1. */
function quarter(state: Uint32Array, [a, b, c, d]: readonly [number, number, number, number]): void {
  for (const [to, from, into, bits] of [
    [a, b, d, 16],
    [c, d, b, 12],
    [a, b, d, 8],
    [c, d, b, 7],
  ] as const) {
    state[to] = state[to]! + state[from]!;
    const mixed = (state[into]! ^ state[to]) >>> 0;
    state[into] = (mixed << bits) | (mixed >>> (32 - bits));
  }
}

/** RFC 8439, 2.5. */
function poly1305(key: Uint8Array, message: Uint8Array): Uint8Array {
  const prime = 2n ** 130n - 5n;
  const r = number(key.subarray(0, 16)) & 0x0ffffffc0ffffffc0ffffffc0fffffffn;
  let sum = 0n;
  for (let at = 0; at < message.length; at += 16) {
    sum = ((sum + number(Uint8Array.from([...message.subarray(at, at + 16), 1]))) * r) % prime;
  }
  const tag = (sum + number(key.subarray(16))) % 2n ** 128n;
  return Uint8Array.from({ length: 16 }, (_, index) => Number((tag >> BigInt(index * 8)) & 255n));
}

function number(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => value * 256n + BigInt(byte), 0n);
}
