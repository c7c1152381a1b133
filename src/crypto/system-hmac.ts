/** HMAC-SHA-256 as the system's libcrypto has it, once it has given the published answer (`ffi/libcrypto.ts`). */

import { assert } from "../errors.ts";
import { libcryptoHmac } from "../ffi/libcrypto.ts";
import { secretBuffer } from "./secret.ts";

/** HMAC-SHA-256 in memory of its own, which is wiped if it is a secret. */
export type Hmac = (key: Uint8Array, message: Uint8Array) => Uint8Array;

const HMAC_BYTES = 32;
/** A key of no bytes is one of zeros (RFC 2104); libcrypto takes none without bytes. */
const NO_KEY = new Uint8Array(HMAC_BYTES);

/** RFC 4231, test case 1. */
const ANSWER = {
  key: "0b".repeat(20),
  message: "4869205468657265",
  mac: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
} as const;

/** What was found, once for each thread; null: it was looked for. */
let found: Hmac | null | undefined;

/** Undefined where the system has none that answers right. */
export function systemHmac(): Hmac | undefined {
  found ??= tried() ?? null;
  return found ?? undefined;
}

function tried(): Hmac | undefined {
  const library = libcryptoHmac();
  if (library === undefined) return undefined;
  const into = new Uint8Array(HMAC_BYTES);
  const isSummed = library.sum(Uint8Array.fromHex(ANSWER.key), Uint8Array.fromHex(ANSWER.message), into);
  if (!isSummed || into.toHex() !== ANSWER.mac) return undefined;
  return (key, message) => {
    const mac = secretBuffer(HMAC_BYTES);
    assert(library.sum(key.length === 0 ? NO_KEY : key, message, mac), "libcrypto makes a MAC");
    return mac;
  };
}
