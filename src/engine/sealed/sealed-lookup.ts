/**
 * Finding the frame of a key in an encrypted log: as `lookup.ts`, with each frame opened before it is looked at.
 *
 * A slot's 27 bits of hash make another key's frame a candidate once in 2^27 / records misses, so a hit opens one
 * frame and a miss hardly ever any.
 *
 * Invariant: a frame that does not open is damage, unless its slot has changed meanwhile. It never counts as
 * another key's.
 */

import type { Keydir } from "../../keydir/keydir.ts";
import { FRAME_HEADER_BYTES, KIND_PUT, KIND_REMOVE, KIND_SPACE_CREATE, kindOf } from "../../log/frame.ts";
import type { LogReader } from "../../log/log-words.ts";
import { compare } from "../../ffi/memory.ts";
import type { KeyBuffer } from "../read/key-buffer.ts";
import { Lookup } from "../read/lookup.ts";
import { sealedLiveBytes } from "./sealed-encoder.ts";
import { SealedReader } from "./sealed-reader.ts";
import type { Vault } from "./vault.ts";
import { decodeName } from "../names.ts";

const WORD_COMPARE_BYTES_MAX = 256;

export class SealedLookup extends Lookup {
  readonly #reader: SealedReader;

  constructor(parts: { readonly keydir: Keydir; readonly log: LogReader; readonly key: KeyBuffer }, vault: Vault) {
    super(parts.keydir, parts.log, parts.key);
    this.#reader = new SealedReader(parts.log, vault, this.frame);
  }

  override findNewest(root: number): boolean {
    const { keydir } = this;
    if (!keydir.seek(root, this.key.hash)) return false;
    while (keydir.next()) {
      for (;;) {
        const lsn = keydir.units * 8;
        // An undone first version leaves a removal that names nothing.
        if (lsn === 0) {
          if (!keydir.reload()) break;
          continue;
        }
        const isOpen = this.#reader.read(lsn);
        if (isOpen && this.#isOfKey()) {
          this.#take(lsn);
          return true;
        }
        if (keydir.reload()) continue;
        if (!isOpen) throw this.log.corrupted(lsn);
        break;
      }
    }
    return false;
  }

  #isOfKey(): boolean {
    const { key, frame } = this;
    const bytes = key.bytes;
    if (this.#reader.opening.record.keyBytes !== bytes) return false;
    if (bytes > WORD_COMPARE_BYTES_MAX)
      return compare(frame.address + FRAME_HEADER_BYTES, key.memory.address, bytes) === 0;
    const there = frame.u32;
    const wanted = key.memory.u32;
    const first = FRAME_HEADER_BYTES >> 2;
    const whole = bytes >> 2;
    for (let index = 0; index < whole; index++) if (there[first + index] !== wanted[index]) return false;
    const rest = bytes & 3;
    return rest === 0 || ((there[first + whole]! ^ wanted[whole]!) & ((1 << (8 * rest)) - 1)) === 0;
  }

  /** Makes the frame that was opened the one that was found. */
  #take(lsn: number): void {
    const { opening } = this.#reader;
    this.lsn = lsn;
    this.shape = opening.shape;
    this.valueBytes = opening.record.valueBytes;
  }

  override loadAt(lsn: number): void {
    this.loadAnyAt(lsn);
    const kind = kindOf(this.shape);
    if (kind !== KIND_PUT && kind !== KIND_REMOVE) throw this.log.corrupted(lsn);
  }

  override loadAnyAt(lsn: number): void {
    if (!this.#reader.read(lsn)) throw this.log.corrupted(lsn);
    this.#take(lsn);
  }

  override prev(): number {
    const { previous } = this.#reader.opening.record;
    return previous === 0 ? 0 : this.lsn - previous * 8;
  }

  override expiresAtMs(): number {
    return this.#reader.opening.record.expiresAtMs;
  }

  override frameBytes(): number {
    return this.#reader.frameBytes;
  }

  override liveBytes(): number {
    return sealedLiveBytes(this.#reader.opening.record);
  }

  override value(): Uint8Array {
    return this.#reader.opening.valueCopy();
  }

  override text(): string {
    return this.#reader.opening.valueText();
  }

  override space(): number {
    return this.#reader.opening.record.space;
  }

  override nameAt(lsn: number): string {
    this.loadAnyAt(lsn);
    if (kindOf(this.shape) !== KIND_SPACE_CREATE) throw this.log.corrupted(lsn);
    return decodeName(this.keyCopy());
  }
}
