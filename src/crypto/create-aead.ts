/** Which implementation of a cipher is used: the system's, else a package's. All of them give the same bytes. */

import type { Aead } from "./aead.ts";
import type { Cipher } from "./cipher.ts";
import { AesGcm, ChaChaPoly } from "./package-aead.ts";
import type { SecretKey } from "./secret.ts";
import { systemAead } from "./system-aead.ts";

/** The cipher under a key; loads what it needs. */
export function createAead(cipher: Cipher, key: SecretKey): Aead {
  return systemAead(cipher, key) ?? packageAead(cipher, key);
}

/** The cipher as it is where the system has none. */
export function packageAead(cipher: Cipher, key: SecretKey): Aead {
  switch (cipher) {
    case "aes-256-gcm":
      return new AesGcm(key);
    case "chacha20-poly1305":
      return new ChaChaPoly(key);
  }
}
