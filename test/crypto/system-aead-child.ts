/**
 * Does something to the system's libcrypto, and prints which implementation of each cipher is used then, whether a message that it
 * sealed is what a package makes of it, and whether its HMAC is used.
 */

import { CIPHERS, bytesOf, keyOf } from "./fixtures.ts";
import { createAead, packageAead } from "../../src/crypto/create-aead.ts";
import { systemHmac } from "../../src/crypto/system-hmac.ts";
import { CipherContext, LibcryptoCipher, LibcryptoHmac } from "../../src/ffi/libcrypto.ts";

const [change] = process.argv.slice(2);
const { seal, open } = CipherContext.prototype;
const { context } = LibcryptoCipher.prototype;
const { sum } = LibcryptoHmac.prototype;
const changes: Readonly<Record<string, () => void>> = {
  none: () => undefined,
  "seals otherwise": () => {
    CipherContext.prototype.seal = function (message, from, bytes, into) {
      const nonce = message.nonce.map((byte) => byte ^ 1);
      return seal.call(this, { ...message, nonce }, from, bytes, into);
    };
  },
  "does not look at associated data": () => {
    const associatedData = new Uint8Array(0);
    CipherContext.prototype.seal = function (message, from, bytes, into) {
      return seal.call(this, { ...message, associatedData }, from, bytes, into);
    };
    CipherContext.prototype.open = function (message, from, bytes, into) {
      return open.call(this, { ...message, associatedData }, from, bytes, into);
    };
  },
  "opens nothing": () => {
    CipherContext.prototype.open = () => false;
  },
  "opens everything": () => {
    CipherContext.prototype.open = function (...message) {
      open.apply(this, message);
      return true;
    };
  },
  "sums otherwise": () => {
    LibcryptoHmac.prototype.sum = function (key, message, into) {
      return sum.call(
        this,
        key,
        message.map((byte) => byte ^ 1),
        into,
      );
    };
  },
  "sums nothing": () => {
    LibcryptoHmac.prototype.sum = () => false;
  },
  "has no memory": () => {
    LibcryptoCipher.prototype.context = () => undefined;
  },
  "has memory once": () => {
    let calls = 0;
    LibcryptoCipher.prototype.context = function (...asked) {
      return calls++ === 0 ? context.apply(this, asked) : undefined;
    };
  },
};
changes[change!]!();

const message = { nonce: bytesOf("nonce", 12), associatedData: bytesOf("data", 40) };
const used = CIPHERS.map((cipher) => {
  const aead = createAead(cipher, keyOf("key"));
  const [into, expected] = [new Uint8Array(116), new Uint8Array(116)];
  aead.sealInto(bytesOf("text", 100), message, { into, at: 0 });
  packageAead(cipher, keyOf("key")).sealInto(bytesOf("text", 100), message, { into: expected, at: 0 });
  return { name: aead.constructor.name, isRight: into.toHex() === expected.toHex() };
});
console.log(JSON.stringify({ used, hasHmac: systemHmac() !== undefined }));
