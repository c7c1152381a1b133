import { expect, test } from "bun:test";
import { inspect } from "node:util";
import { CallerSecret } from "../../src/crypto/caller-secret.ts";
import { createAead } from "../../src/crypto/create-aead.ts";
import { FrameSealer } from "../../src/crypto/frame-sealer.ts";
import { equalsInConstantTime, SecretBytes, SecretKey, wipe } from "../../src/crypto/secret.ts";
import { SessionTable } from "../../src/crypto/session-table.ts";
import { bytesOf, keyOf } from "./fixtures.ts";

const bytes = bytesOf("shown", 32);
const traces = [
  bytes.toHex(),
  bytes.toBase64(),
  [...bytes.subarray(0, 4)].join(", "),
  [...bytes.subarray(0, 4)].join(),
];

/** Everything that a person or a logger does to see a value. */
function shown(value: object): string {
  return [
    inspect(value, { depth: 9, showHidden: true }),
    Bun.inspect(value),
    JSON.stringify({ value }),
    // oxlint-disable-next-line typescript/no-base-to-string -- what a careless message does
    String(value),
    JSON.stringify(structuredClone(value)),
    JSON.stringify(Object.entries(value)),
  ].join("\n");
}

test("no holder of a secret shows it in inspect, JSON, text or a clone", () => {
  const key = new SecretKey(bytes.slice());
  const fileId = bytesOf("id", 16);
  const sealer = new FrameSealer({ cipher: "aes-256-gcm", key, fileId, generation: 1, clearBytes: 0 });
  const table = new SessionTable({ dataKey: key, cipher: "aes-256-gcm", fileId, generation: 1, clearBytes: 0 });
  const holders = [new SecretBytes(bytes.slice()), key, new CallerSecret("raw", bytes.slice()), sealer, table];
  for (const holder of [...holders, createAead("aes-256-gcm", key), createAead("chacha20-poly1305", key)]) {
    const text = shown(holder);
    for (const trace of traces) expect(text).not.toContain(trace);
  }
  expect(inspect({ key })).toContain("[redacted]");
  expect(JSON.stringify({ key })).toBe('{"key":"[redacted]"}');
});

test("wiping zeroes the buffer that was taken over, and ends its use", () => {
  const buffer = bytes.slice();
  const secret = new SecretKey(buffer);
  expect(secret.bytes).toBe(buffer);
  secret.wipe();
  secret.wipe();
  expect(buffer.every((byte) => byte === 0)).toBe(true);
  expect(secret.isWiped).toBe(true);
  expect(() => secret.bytes).toThrow("wiped");
});

test("wiping reaches a key in shared memory, and `using` wipes at the end of its block", () => {
  const buffer = new Uint8Array(new SharedArrayBuffer(32)).fill(7);
  {
    using secret = new SecretKey(buffer);
    expect(secret.isWiped).toBe(false);
  }
  expect(buffer.every((byte) => byte === 0)).toBe(true);
});

test("a key of any other length is a bug", () => {
  for (const count of [0, 16, 31, 33]) expect(() => new SecretKey(new Uint8Array(count))).toThrow("32 bytes");
});

test("comparison in constant time tells every single-bit difference, and length", () => {
  const a = keyOf("a").bytes;
  expect(equalsInConstantTime(a, a.slice())).toBe(true);
  for (let bit = 0; bit < 256; bit++) {
    const b = a.slice();
    b[bit >> 3]! ^= 1 << (bit & 7);
    expect(equalsInConstantTime(a, b)).toBe(false);
  }
  expect(equalsInConstantTime(a, a.subarray(1))).toBe(false);
  expect(equalsInConstantTime(new Uint8Array(0), new Uint8Array(0))).toBe(true);
  wipe(a);
  expect(a.every((byte) => byte === 0)).toBe(true);
});
