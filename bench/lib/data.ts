/**
 * Keys and values: 24 and 150 bytes by default, the same for every peer, computed from a seed and a number.
 *
 * A key is recomputed from its number, so no run holds more keys than it is about to use, and keys can be laid out
 * in memory in the order in which they will be asked for: then the cost measured is the store's, not that of
 * finding the key to ask with.
 */

export type Entry = readonly [key: Uint8Array, value: Uint8Array];

/** Values come from a pool of this many: small enough for the last-level cache, so that copying from it is cheap for all. */
const poolValues = 65_536;

/** A 32-bit mixing step (the finaliser of MurmurHash3). */
function mix(word: number): number {
  let mixed = word;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

export interface DataShape {
  readonly seed: number;
  readonly keyBytes?: number;
  /** 1: no values are wanted, only keys. */
  readonly valueBytes?: number;
}

export class Data {
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly #seed: number;
  readonly #pool: Uint8Array[] = [];
  #words = new Uint32Array(16);

  constructor(shape: DataShape) {
    this.#seed = mix(shape.seed + 0x9e3779b9);
    this.keyBytes = shape.keyBytes ?? 24;
    this.valueBytes = shape.valueBytes ?? 150;
    if (this.valueBytes <= 1) return;
    const count = Math.max(1, Math.min(poolValues, Math.floor((64 << 20) / this.valueBytes)));
    for (let index = 0; index < count; index++) this.#pool.push(this.#bytes(this.valueBytes, index ^ 0x2545f491));
  }

  /** Key number `index`, as a fresh array of its own. Different numbers give different keys. */
  key(index: number): Uint8Array {
    const key = this.#bytes(this.keyBytes, index);
    // The number itself stands in the last four bytes, mixed one-to-one: two keys can never be equal.
    const unique = mix((index ^ this.#seed) >>> 0);
    for (let at = 1; at <= 4 && at <= key.length; at++) key[key.length - at] = unique >>> (8 * (at - 1));
    return key;
  }

  /** The value for a number; shared, never to be written to. */
  value(index: number): Uint8Array {
    return this.#pool[index % this.#pool.length] ?? this.#bytes(this.valueBytes, index);
  }

  /** Records `from` to `to` (exclusive), in insertion order. */
  entries(from: number, to: number): Entry[] {
    const entries: Entry[] = [];
    for (let index = from; index < to; index++) entries.push([this.key(index), this.value(index)]);
    return entries;
  }

  /** `count` keys out of the first `records`, in a random order that is the same for every peer; all different up to `records`. */
  shuffledKeys(records: number, count: number): Uint8Array[] {
    return this.shuffled(records, count).map((index) => this.key(index));
  }

  /** `count` keys that no record below `records` has. */
  missingKeys(records: number, count: number): Uint8Array[] {
    return this.missing(records, count).map((index) => this.key(index));
  }

  /** The numbers of `shuffledKeys`, for whoever does not want all of them in memory. */
  shuffled(records: number, count: number): number[] {
    return shuffledNumbers(records, count, this.#seed);
  }

  /** The numbers of `missingKeys`. */
  missing(records: number, count: number): number[] {
    return Array.from({ length: count }, (_, index) => records + 1_000_000_000 + index);
  }

  /** `count` keys skewed as in YCSB (Zipf, constant 0.99): a few are asked for most of the time. */
  zipfKeys(records: number, count: number): Uint8Array[] {
    const random = randomFrom(this.#seed ^ 0x51ed270b);
    const theta = 0.99;
    let zeta = 0;
    for (let rank = 1; rank <= records; rank++) zeta += rank ** -theta;
    const eta = (1 - (2 / records) ** (1 - theta)) / (1 - (1 + 0.5 ** theta) / zeta);
    const scatter = shuffledNumbers(records, records, this.#seed ^ 0x1b873593);
    return Array.from({ length: count }, () => {
      const uniform = random();
      const first = uniform * zeta;
      const rank =
        first < 1
          ? 0
          : first < 1 + 0.5 ** theta
            ? 1
            : Math.floor(records * (eta * uniform - eta + 1) ** (1 / (1 - theta)));
      return this.key(scatter[Math.min(rank, records - 1)] ?? 0);
    });
  }

  /**
   * An array that is no view of a buffer of its own: of a million keys that are views the collector keeps two objects more
   * for each, and whoever makes garbage, as all stores do, pays for going over them.
   */
  #bytes(length: number, salt: number): Uint8Array {
    const count = Math.ceil(length / 4);
    if (this.#words.length < count) this.#words = new Uint32Array(count);
    const words = this.#words;
    let state = mix(salt + this.#seed);
    for (let at = 0; at < count; at++) {
      state = (state + 0x9e3779b9) >>> 0;
      words[at] = mix(state ^ salt);
    }
    const bytes = new Uint8Array(length);
    bytes.set(new Uint8Array(words.buffer, 0, length));
    return bytes;
  }
}

/** The first `count` numbers of a permutation of 0 to `records` - 1; beyond that it repeats. */
export function shuffledNumbers(records: number, count: number, seed: number): number[] {
  const random = randomFrom(seed);
  const all = Uint32Array.from({ length: records }, (_, index) => index);
  const steps = Math.min(count, records);
  for (let at = 0; at < steps; at++) {
    const other = at + Math.floor(random() * (records - at));
    const kept = all[at] ?? 0;
    all[at] = all[other] ?? 0;
    all[other] = kept;
  }
  return Array.from({ length: count }, (_, index) => all[index % records] ?? 0);
}

/** Numbers in [0, 1) from a seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
