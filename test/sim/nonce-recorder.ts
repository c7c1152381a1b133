/**
 * Watches every seal that is made in this process: a nonce that is used twice under one key is the worst that an
 * encrypted log can do, and it would open all the same.
 *
 * A key is told by what it makes of nothing: an empty body, sealed at a place that no frame has with a counter that no
 * session reaches.
 */

import { FrameSealer } from "../../src/crypto/frame-sealer.ts";

/** Sessions end at half of their counters, so that this one is never taken. */
const PROBE_COUNTER = 2 ** 32 - 1;
const PROBE = { lsn: Number.MAX_SAFE_INTEGER, kind: 254, counter: PROBE_COUNTER };

type SealInto = FrameSealer["sealInto"];

export class NonceRecorder implements Disposable {
  /** What was sealed twice, as "key counter". */
  readonly repeats: string[] = [];
  sealCount = 0;
  readonly #seen = new Set<string>();
  readonly #names = new WeakMap<FrameSealer, string>();
  readonly #original: SealInto;

  constructor() {
    const original = (this.#original = FrameSealer.prototype.sealInto);
    const note = (sealer: FrameSealer, counter: number): void => this.#note(sealer, counter);
    FrameSealer.prototype.sealInto = function sealInto(this: FrameSealer, body, place, target) {
      note(this, place.counter);
      original.call(this, body, place, target);
    };
  }

  #note(sealer: FrameSealer, counter: number): void {
    const pair = `${this.#nameOf(sealer)} ${counter}`;
    if (this.#seen.has(pair)) this.repeats.push(pair);
    this.#seen.add(pair);
    this.sealCount += 1;
  }

  #nameOf(sealer: FrameSealer): string {
    const known = this.#names.get(sealer);
    if (known !== undefined) return known;
    const kept = sealer.clear.slice();
    sealer.clear.fill(0);
    const into = new Uint8Array(20);
    this.#original.call(sealer, new Uint8Array(0), PROBE, { into, at: 0 });
    sealer.clear.set(kept);
    const name = into.toHex();
    this.#names.set(sealer, name);
    return name;
  }

  /** Seals are not watched any more. */
  [Symbol.dispose](): void {
    FrameSealer.prototype.sealInto = this.#original;
  }
}
