/**
 * The ciphers a database can have, by name and by the number in the header page. Never renumber.
 */

export type Cipher = "aes-256-gcm" | "chacha20-poly1305";

export const CIPHER_DEFAULT: Cipher = "aes-256-gcm";

/** The header page's number for a database that is not encrypted. */
export const CIPHER_NUMBER_NONE = 0;

const CIPHER_NUMBERS: Readonly<Record<Cipher, number>> = {
  "aes-256-gcm": 1,
  "chacha20-poly1305": 2,
};

/** Whether a value that a caller passed names a cipher. */
export function isCipher(value: unknown): value is Cipher {
  return value === "aes-256-gcm" || value === "chacha20-poly1305";
}

/** The number that stands for a cipher on disk, 1 or more. */
export function cipherNumber(cipher: Cipher): number {
  return CIPHER_NUMBERS[cipher];
}

/** The cipher behind a number on disk; undefined for any other number, `CIPHER_NUMBER_NONE` included. */
export function cipherOfNumber(number: number): Cipher | undefined {
  switch (number) {
    case 1:
      return "aes-256-gcm";
    case 2:
      return "chacha20-poly1305";
    default:
      return undefined;
  }
}
