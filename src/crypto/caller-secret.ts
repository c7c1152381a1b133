/**
 * What a caller locks a database with, once checked: a copy of the raw key, or the passphrase's bytes.
 *
 * The engine makes one at the door, uses it while opening, and wipes it; it is never kept.
 */

import type { SecretKind } from "./key-slot.ts";
import { SecretBytes } from "./secret.ts";

/** Owned bytes and their kind; redacted like every secret. */
export class CallerSecret extends SecretBytes {
  readonly kind: SecretKind;

  /** Takes the buffer over: 32 bytes of key, or a passphrase's UTF-8. */
  constructor(kind: SecretKind, bytes: Uint8Array) {
    super(bytes);
    this.kind = kind;
  }
}
