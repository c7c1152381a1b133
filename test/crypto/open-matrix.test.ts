import { describe, expect, test } from "bun:test";
import { callerSecret, decideOpening, type CallerFacts, type FileFacts } from "../../src/crypto/open-matrix.ts";
import { CIPHER_NUMBER_NONE, cipherOfNumber, type Cipher } from "../../src/crypto/cipher.ts";
import type { SecretKind } from "../../src/crypto/key-slot.ts";
import { bytesOf, CIPHERS, outcome } from "./fixtures.ts";

const key = bytesOf("key", 32);
const files: FileFacts[] = [
  { kind: "none" },
  { kind: "plain" },
  ...CIPHERS.flatMap((cipher) =>
    ([["raw"], ["passphrase"], ["raw", "passphrase"]] as SecretKind[][]).map((slotKinds): FileFacts => ({
      kind: "encrypted",
      cipher,
      slotKinds,
    })),
  ),
];
const encryptions: Record<string, unknown> = {
  nothing: undefined,
  "a key": { key },
  "a passphrase": { passphrase: "correct horse" },
  both: { key, passphrase: "correct horse" },
  neither: {},
  null: null,
  "a string": "correct horse",
  "a short key": { key: key.subarray(1) },
  "a long key": { key: bytesOf("long", 33) },
  "a key as an array": { key: [...key] },
  "an empty passphrase": { passphrase: "" },
  "a passphrase as bytes": { passphrase: key },
};
const ciphers: unknown[] = [undefined, ...CIPHERS, "aes-128-gcm", "", 1, null];

/** The table once more, as a list of what is allowed. */
function expected(file: FileFacts, name: string, cipher: unknown): string {
  const isCipherSane = cipher === undefined || CIPHERS.includes(cipher as Cipher);
  if (!isCipherSane) return "EMDB_INVALID_CONFIG";
  if (name === "nothing" && cipher === undefined && file.kind !== "encrypted") return "plain";
  const kind = name === "a key" ? "raw" : name === "a passphrase" ? "passphrase" : undefined;
  if (kind === undefined) return "EMDB_INVALID_CONFIG";
  if (file.kind === "none") return `encrypted ${cipher === undefined ? "aes-256-gcm" : (cipher as Cipher)} ${kind}`;
  if (file.kind === "plain" || !file.slotKinds.includes(kind)) return "EMDB_INVALID_CONFIG";
  return cipher === undefined || cipher === file.cipher ? `encrypted ${file.cipher} ${kind}` : "EMDB_INVALID_CONFIG";
}

function decided(file: FileFacts, caller: CallerFacts): string {
  const { value, code } = outcome(() => decideOpening(file, caller));
  if (value === undefined) return String(code);
  return value.kind === "plain" ? "plain" : `encrypted ${value.cipher} ${value.secret.kind}`;
}

describe("over the whole table,", () => {
  for (const file of files) {
    const title = file.kind === "encrypted" ? `${file.cipher} with ${file.slotKinds.join(" and ")}` : file.kind;
    test(`a file that is ${title} opens with what the table says, and with nothing else`, () => {
      for (const [name, encryption] of Object.entries(encryptions)) {
        for (const cipher of ciphers) {
          const outcomeOf = decided(file, { encryption, cipher });
          expect(`${name}, ${String(cipher)}: ${outcomeOf}`).toBe(
            `${name}, ${String(cipher)}: ${expected(file, name, cipher)}`,
          );
        }
      }
    });
  }
});

test("no refusal repeats the passphrase or the key, and each pair of disagreements has a message of its own", () => {
  const messages = new Set<string>();
  for (const file of files) {
    for (const [name, encryption] of Object.entries(encryptions)) {
      const { message } = outcome(() => decideOpening(file, { encryption, cipher: "chacha20-poly1305" }));
      if (message === undefined) continue;
      expect(message).not.toContain("correct horse");
      expect(message).not.toContain(key.toHex());
      expect(message).not.toContain([...key].join());
      if (name === "a key" || name === "a passphrase" || name === "nothing") messages.add(message);
    }
  }
  expect(messages.size).toBe(7);
});

test("a secret is a copy: what the caller does to its key afterwards changes nothing", () => {
  const theirs = key.slice();
  const secret = callerSecret({ key: theirs });
  theirs.fill(0);
  expect(secret.bytes.toHex()).toBe(key.toHex());
  secret.wipe();
  expect(secret.isWiped).toBe(true);
});

test("a key or passphrase that is undefined is not given", () => {
  expect(callerSecret({ key: undefined, passphrase: "x" }).kind).toBe("passphrase");
  expect(callerSecret({ key, passphrase: undefined }).kind).toBe("raw");
});

test("only the numbers of the two ciphers name one", () => {
  const named = Array.from({ length: 300 }, (_, number) => cipherOfNumber(number));
  expect(named.filter((cipher) => cipher !== undefined)).toEqual(["aes-256-gcm", "chacha20-poly1305"]);
  expect(cipherOfNumber(CIPHER_NUMBER_NONE)).toBeUndefined();
});
