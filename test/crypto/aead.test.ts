import { describe, expect, test } from "bun:test";
import { gcm } from "@noble/ciphers/aes.js";
import { NONCE_BYTES, TAG_BYTES, type Aead } from "../../src/crypto/aead.ts";
import type { Cipher } from "../../src/crypto/cipher.ts";
import { createAead, packageAead } from "../../src/crypto/create-aead.ts";
import { SecretKey } from "../../src/crypto/secret.ts";
import { systemAead } from "../../src/crypto/system-aead.ts";
import { bytesOf, CIPHERS, flipped, fromHex, keyOf, opened } from "./fixtures.ts";
import { chachaPolyTwin } from "./chacha-twin.ts";

interface Vector {
  readonly cipher: Cipher;
  readonly name: string;
  readonly key: string;
  readonly nonce: string;
  readonly associatedData: string;
  readonly plaintext: string;
  readonly ciphertext: string;
  readonly tag: string;
}

const GCM_KEY = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
const GCM_PLAIN =
  "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
const GCM_CIPHER =
  "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662";
const SUNSCREEN =
  "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";

/** "The Galois/Counter Mode of Operation" as submitted to NIST, appendix B, test cases 13-16; RFC 8439, 2.8.2 and A.5. */
const vectors: readonly Vector[] = [
  {
    cipher: "aes-256-gcm",
    name: "GCM test case 13",
    key: "00".repeat(32),
    nonce: "00".repeat(12),
    associatedData: "",
    plaintext: "",
    ciphertext: "",
    tag: "530f8afbc74536b9a963b4f1c4cb738b",
  },
  {
    cipher: "aes-256-gcm",
    name: "GCM test case 14",
    key: "00".repeat(32),
    nonce: "00".repeat(12),
    associatedData: "",
    plaintext: "00".repeat(16),
    ciphertext: "cea7403d4d606b6e074ec5d3baf39d18",
    tag: "d0d1c8a799996bf0265b98b5d48ab919",
  },
  {
    cipher: "aes-256-gcm",
    name: "GCM test case 15",
    key: GCM_KEY,
    nonce: "cafebabefacedbaddecaf888",
    associatedData: "",
    plaintext: `${GCM_PLAIN}1aafd255`,
    ciphertext: `${GCM_CIPHER}898015ad`,
    tag: "b094dac5d93471bdec1a502270e3cc6c",
  },
  {
    cipher: "aes-256-gcm",
    name: "GCM test case 16",
    key: GCM_KEY,
    nonce: "cafebabefacedbaddecaf888",
    associatedData: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
    plaintext: GCM_PLAIN,
    ciphertext: GCM_CIPHER,
    tag: "76fc6ece0f4e1768cddf8853bb2d551b",
  },
  {
    cipher: "chacha20-poly1305",
    name: "RFC 8439, 2.8.2",
    key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
    nonce: "070000004041424344454647",
    associatedData: "50515253c0c1c2c3c4c5c6c7",
    plaintext: new TextEncoder().encode(SUNSCREEN).toHex(),
    ciphertext:
      "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b" +
      "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc" +
      "3ff4def08e4b7a9de576d26586cec64b6116",
    tag: "1ae10b594f09e26a7e902ecbd0600691",
  },
  {
    cipher: "chacha20-poly1305",
    name: "RFC 8439, A.5",
    key: "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
    nonce: "000000000102030405060708",
    associatedData: "f33388860000000000004e91",
    plaintext: new TextEncoder()
      .encode(
        "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, or " +
          "obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference " +
          "material or to cite them other than as /\u201cwork in progress./\u201d",
      )
      .toHex(),
    ciphertext:
      "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0" +
      "bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855" +
      "9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e9" +
      "9040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a" +
      "0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130" +
      "305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709b",
    tag: "eead9d67890cbb22392336fea1851f38",
  },
];

type Implementation = (cipher: Cipher, key: SecretKey) => Aead;

const hasSystem = systemAead("aes-256-gcm", keyOf("probe")) !== undefined;
const implementations: Readonly<Record<string, Implementation>> = {
  package: packageAead,
  ...(hasSystem ? { system: (cipher, key) => systemAead(cipher, key)! } : {}),
};
if (!hasSystem) console.log("SKIPPED the system's ciphers: it has no libcrypto");

test.skipIf(process.env["CI"] !== "true" || process.platform !== "linux" || process.arch !== "x64")(
  "where everything is tested the system has libcrypto, and it is what is used",
  () => {
    expect(hasSystem).toBe(true);
    for (const cipher of CIPHERS) {
      expect(createAead(cipher, keyOf("a")).constructor).toBe(systemAead(cipher, keyOf("a"))!.constructor);
    }
  },
);

describe.each(Object.entries(implementations))("of the %s, the published vectors hold for", (_, createWith) => {
  for (const vector of vectors) {
    test(vector.name, () => {
      const aead = createWith(vector.cipher, new SecretKey(fromHex(vector.key)));
      const context = { nonce: fromHex(vector.nonce), associatedData: fromHex(vector.associatedData) };
      const plaintext = fromHex(vector.plaintext);
      const into = new Uint8Array(plaintext.length + TAG_BYTES);
      aead.sealInto(plaintext, context, { into, at: 0 });
      expect(into.toHex()).toBe(vector.ciphertext + vector.tag);
      expect(opened(aead, into, context)?.toHex()).toBe(vector.plaintext);
    });
  }
});

const ways = Object.entries(implementations).flatMap(([name, createWith]) =>
  CIPHERS.map((cipher) => [cipher, name, createWith] as const),
);

describe.each(ways)("%s of the %s", (cipher, _, createWith) => {
  const key = keyOf("aead");
  const aead = createWith(cipher, key);
  const context = { nonce: bytesOf("nonce", NONCE_BYTES), associatedData: bytesOf("data", 40) };
  const plaintext = bytesOf("plaintext", 33);
  const sealed = new Uint8Array(plaintext.length + TAG_BYTES);
  aead.sealInto(plaintext, context, { into: sealed, at: 0 });

  test("gives for every length to 300 what another implementation gives", () => {
    for (let bytes = 0; bytes <= 300; bytes++) {
      const message = bytesOf(`twin ${bytes}`, bytes);
      const into = new Uint8Array(bytes + TAG_BYTES);
      aead.sealInto(message, context, { into, at: 0 });
      const twin =
        cipher === "aes-256-gcm"
          ? gcm(key.bytes, context.nonce, context.associatedData).encrypt(message)
          : chachaPolyTwin(key.bytes, { ...context, plaintext: message });
      expect(into.toHex()).toBe(twin.toHex());
      expect(opened(aead, twin, context)?.toHex()).toBe(message.toHex());
    }
  });
  test("does not open with any bit of message, tag, nonce or associated data turned over", () => {
    for (let bit = 0; bit < sealed.length * 8; bit++)
      expect(opened(aead, flipped(sealed, bit), context)).toBeUndefined();
    for (let bit = 0; bit < context.nonce.length * 8; bit++) {
      expect(opened(aead, sealed, { ...context, nonce: flipped(context.nonce, bit) })).toBeUndefined();
    }
    for (let bit = 0; bit < context.associatedData.length * 8; bit++) {
      expect(
        opened(aead, sealed, { ...context, associatedData: flipped(context.associatedData, bit) }),
      ).toBeUndefined();
    }
  });
  test("does not open cut short at any length, nor with bytes added", () => {
    for (let bytes = 0; bytes < sealed.length; bytes++)
      expect(opened(aead, sealed.slice(0, bytes), context)).toBeUndefined();
    expect(opened(aead, Uint8Array.from([...sealed, 0]), context)).toBeUndefined();
  });
  test("does not open under another key", () => {
    expect(opened(createWith(cipher, keyOf("other")), sealed, context)).toBeUndefined();
  });
  test("writes inside its target only, and opens from the middle of a buffer", () => {
    const into = new Uint8Array(sealed.length + 20).fill(0xee);
    aead.sealInto(plaintext, context, { into, at: 7 });
    expect(into.subarray(7, 7 + sealed.length).toHex()).toBe(sealed.toHex());
    expect(into.subarray(0, 7).every((byte) => byte === 0xee)).toBe(true);
    expect(into.subarray(7 + sealed.length).every((byte) => byte === 0xee)).toBe(true);
    expect(opened(aead, into.subarray(7, 7 + sealed.length), context)?.toHex()).toBe(plaintext.toHex());
  });
  test("refuses a target that is too small, and a nonce of another length", () => {
    const into = new Uint8Array(sealed.length);
    expect(() => aead.sealInto(plaintext, context, { into, at: 1 })).toThrow("target");
    expect(() => aead.sealInto(plaintext, { ...context, nonce: new Uint8Array(11) }, { into, at: 0 })).toThrow("nonce");
    expect(() => opened(aead, sealed, { ...context, nonce: new Uint8Array(16) })).toThrow("nonce");
  });
  test("is of no use once its key was wiped", () => {
    const wiped = keyOf("aead");
    const dead = createWith(cipher, wiped);
    wiped.wipe();
    expect(() => opened(dead, sealed, context)).toThrow("wiped");
  });
  test("is of no use once its key was wiped that was in use just then, and no other cipher is in its place", () => {
    const wiped = keyOf("aead");
    const dead = createWith(cipher, wiped);
    expect(opened(dead, sealed, context)?.toHex()).toBe(plaintext.toHex());
    dead.sealInto(plaintext, context, { into: sealed.slice(), at: 0 });
    wiped.wipe();
    expect(() => opened(dead, sealed, context)).toThrow("wiped");
    expect(() => dead.sealInto(plaintext, context, { into: sealed.slice(), at: 0 })).toThrow("wiped");
    expect(opened(aead, sealed, context)?.toHex()).toBe(plaintext.toHex());
  });
  test("takes turns with another key and with the other cipher", () => {
    const others = CIPHERS.map((one) => createWith(one, keyOf("other")));
    const into = new Uint8Array(sealed.length);
    for (let turn = 0; turn < 6; turn++) {
      for (const other of others) {
        other.sealInto(plaintext, context, { into, at: 0 });
        expect(opened(other, into, context)?.toHex()).toBe(plaintext.toHex());
        expect(opened(other, sealed, context)).toBeUndefined();
      }
      aead.sealInto(plaintext, context, { into, at: 0 });
      expect(into.toHex()).toBe(sealed.toHex());
      expect(opened(aead, sealed, context)?.toHex()).toBe(plaintext.toHex());
    }
  });
  test("leaves zeros where it decrypted what does not open", () => {
    const into = new Uint8Array(plaintext.length + 1).fill(0xee);
    const wrong = flipped(sealed, sealed.length * 8 - 1);
    expect(aead.openInto(wrong, context, { at: 0, bytes: wrong.length }, into)).toBe(false);
    const stale = into.subarray(0, plaintext.length);
    expect(stale.every((byte) => byte === 0) || stale.every((byte) => byte === 0xee)).toBe(true);
    expect(into[plaintext.length]).toBe(0xee);
  });
  test("refuses a span outside its buffer, and a target that is too small for the plaintext", () => {
    const into = new Uint8Array(plaintext.length);
    const bytes = sealed.length;
    for (const span of [
      { at: -1, bytes },
      { at: 1, bytes },
      { at: 0, bytes: bytes + 1 },
      { at: bytes, bytes: 1 },
      { at: 0, bytes: -1 },
      { at: Number.NaN, bytes },
      { at: 0, bytes: Number.NaN },
      { at: 0.5, bytes: bytes - 1 },
    ]) {
      expect(() => aead.openInto(sealed, context, span, into)).toThrow("inside");
    }
    expect(() => aead.openInto(sealed, context, { at: 0, bytes }, into.subarray(1))).toThrow("holds");
    for (const at of [-1, 1, 0.5, Number.NaN]) {
      expect(() => aead.sealInto(plaintext, context, { into: sealed.slice(), at })).toThrow("target");
    }
  });
});
