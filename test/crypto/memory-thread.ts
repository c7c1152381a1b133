/** A thread that uses a cipher, leaves it as it is, and ends as it is told to. */

import { createAead } from "../../src/crypto/create-aead.ts";
import type { Cipher } from "../../src/crypto/cipher.ts";
import { SecretKey, secretBuffer } from "../../src/crypto/secret.ts";
import { MASK } from "./process-memory.ts";

declare const self: Worker;

export interface ThreadOrders {
  readonly cipher: Cipher;
  /** The cipher's key, masked. */
  readonly masked: Uint8Array;
  readonly end: "terminated" | "exits" | "ends";
}

self.onmessage = ({ data }: MessageEvent<ThreadOrders | "end">): void => {
  if (data === "end") {
    self.onmessage = null;
    return;
  }
  const { cipher, masked, end } = data;
  const key = new SecretKey(secretBuffer(32));
  for (const [index, byte] of masked.entries()) key.bytes[index] = byte ^ MASK;
  const aead = createAead(cipher, key);
  const context = { nonce: new Uint8Array(12), associatedData: new Uint8Array(5) };
  const into = new Uint8Array(216);
  aead.sealInto(new Uint8Array(200), context, { into, at: 0 });
  if (!aead.openInto(into, context, { at: 0, bytes: 216 }, new Uint8Array(200))) throw new Error("it does not open");
  // Ours go; what the cipher made of the key is still there.
  key.bytes.fill(0);
  postMessage("used");
  if (end === "exits") process.exit(0);
};
