/**
 * Makes the slot that locks a data key under a caller's secret: for a new file, and for a new secret.
 *
 * Chance comes in as a function, so that the simulator can replay it; each slot draws its own salt.
 */

import { ARGON2_DEFAULT, type Argon2Parameters, type StretchRequest } from "./argon2.ts";
import type { CallerSecret } from "./caller-secret.ts";
import { SLOT_SALT_BYTES, type KeySlot, type SlotPrefix } from "./key-slot.ts";
import { KEY_BYTES, secretBuffer, secretCopy, SecretKey } from "./secret.ts";
import { lockSlot, type SlotHome } from "./slot-lock.ts";

/** Fills a buffer with random bytes of cryptographic quality. */
export type Random = (into: Uint8Array) => void;

export interface LockOptions {
  readonly secret: CallerSecret;
  readonly home: SlotHome;
  readonly random: Random;
  /** Default: `ARGON2_DEFAULT`. Only for a passphrase. */
  readonly argon2?: Argon2Parameters;
}

/** A fresh data key, for a new file. The caller wipes it. */
export function newDataKey(random: Random): SecretKey {
  return new SecretKey(randomBytes(random, KEY_BYTES));
}

/** A slot for the secret, stretching a passphrase on this thread. */
export function newSlot(
  dataKey: SecretKey,
  options: LockOptions,
  stretch: (request: StretchRequest) => SecretKey,
): KeySlot {
  const { prefix, request } = planned(options);
  using inputKey = request === undefined ? new SecretKey(secretCopy(options.secret.bytes)) : stretch(request);
  return lockSlot(dataKey, { ...prefix, inputKey, home: options.home });
}

/** As `newSlot`, for work that is asynchronous anyway. */
export async function newSlotLater(
  dataKey: SecretKey,
  options: LockOptions,
  stretch: (request: StretchRequest) => Promise<SecretKey>,
): Promise<KeySlot> {
  const { prefix, request } = planned(options);
  using inputKey = request === undefined ? new SecretKey(secretCopy(options.secret.bytes)) : await stretch(request);
  return lockSlot(dataKey, { ...prefix, inputKey, home: options.home });
}

function planned(options: LockOptions): { readonly prefix: SlotPrefix; readonly request: StretchRequest | undefined } {
  const { secret } = options;
  const salt = randomBytes(options.random, SLOT_SALT_BYTES);
  if (secret.kind === "raw") return { prefix: { kind: "raw", argon2: undefined, salt }, request: undefined };
  const argon2 = options.argon2 ?? ARGON2_DEFAULT;
  const request = { passphrase: secret.bytes, salt, parameters: argon2 };
  return { prefix: { kind: "passphrase", argon2, salt }, request };
}

function randomBytes(random: Random, bytes: number): Uint8Array {
  const into = secretBuffer(bytes);
  random(into);
  return into;
}
