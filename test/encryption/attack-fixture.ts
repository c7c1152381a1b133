/** What an attacker has: the file, byte by byte, and every checksum; not the secret. */

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { EmdbError } from "../../src/errors.ts";
import type { EncryptionInput } from "../../src/api/types.ts";
import { copy, pinned } from "../../src/ffi/memory.ts";
import { crc32, placeSeed, xxh32 } from "../../src/log/checksum.ts";
import { decodeHeader, saltsOf } from "../../src/log/header.ts";
import { stateOf } from "../engine/fixture.ts";

export const FIRST = 4096;
export const SECRET_TEXT = "telltale value";

/** A frame as it lies in a file. */
export interface Lying {
  readonly lsn: number;
  readonly bytes: number;
  /** Header and body, without padding. */
  readonly body: number;
}

/** Every frame of a log, by its lengths alone. */
export function framesOf(file: Uint8Array): Lying[] {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const frames: Lying[] = [];
  for (let lsn = FIRST; lsn + 24 <= file.length && view.getUint32(lsn + 8, true) !== 0;) {
    const body = 24 + (view.getUint32(lsn + 8, true) >>> 16) + view.getUint32(lsn + 12, true);
    const bytes = Math.ceil(body / 8) * 8;
    frames.push({ lsn, bytes, body });
    lsn += bytes;
  }
  return frames;
}

/** The place in its batch that the frame at a position says, in the clear. */
export function placeAt(file: Uint8Array, lsn: number): number {
  return (file[lsn + 8]! >> 4) & 3;
}

/** Puts both checksums of the frame at a position right, as anybody can who reads the header page. */
export function repair(file: Uint8Array, lsn: number): void {
  const verdict = decodeHeader(file.subarray(0, FIRST));
  if (verdict.kind !== "sound") throw new Error("the header is not sound");
  const salts = saltsOf(verdict.header);
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const bodyBytes = Math.min((view.getUint32(lsn + 8, true) >>> 16) + view.getUint32(lsn + 12, true), 1_000_000);
  const memory = pinned(24 + bodyBytes + 8);
  const there = Math.min(24 + bodyBytes, file.length - lsn);
  copy(memory.address, file.slice(lsn, lsn + there), there);
  const units = lsn / 8;
  const bodySeed = placeSeed(salts.body, units, 0);
  const body =
    bodyBytes <= 4096
      ? xxh32(memory, 24, bodyBytes, bodySeed)
      : crc32(memory.u8.subarray(24, 24 + bodyBytes), bodySeed);
  view.setInt32(lsn + 4, body, true);
  memory.i32[1] = body;
  view.setInt32(lsn, xxh32(memory, 4, 20, placeSeed(salts.header, units, 0)), true);
}

/** The header page's first sector with its check put right. */
export function repairSector(file: Uint8Array): void {
  const memory = pinned(512);
  memory.u8.set(file.subarray(0, 512));
  new DataView(file.buffer, file.byteOffset).setInt32(508, xxh32(memory, 0, 508, 0), true);
}

/** A key slot with its CRC put right. */
export function repairSlot(file: Uint8Array, index: 0 | 1): void {
  const at = 512 + index * 512;
  const check = Bun.hash.crc32(file.subarray(at, at + 508));
  new DataView(file.buffer, file.byteOffset).setUint32(at + 508, check, true);
}

/** What came of an open. */
export type Verdict =
  | { readonly kind: "open"; readonly state: string; readonly tornBytes: number; readonly usedCheckpoint: boolean }
  | { readonly kind: "error"; readonly code: string; readonly offset: number | undefined };

/** A path that files are put at and opened, one after another; what is thrown shows neither data nor secret. */
export class Bait {
  readonly path: string;
  readonly #secrets: readonly string[];

  constructor(path: string, secrets: readonly string[]) {
    this.path = path;
    this.#secrets = secrets;
  }

  /** Puts a log there without what an earlier one left beside it. */
  lay(file: Uint8Array, hint?: Uint8Array): void {
    for (const sidecar of [".hint", ".lock"]) rmSync(this.path + sidecar, { force: true });
    writeFileSync(this.path, file);
    if (hint !== undefined) writeFileSync(`${this.path}.hint`, hint);
  }

  open(encryption: EncryptionInput | undefined, mode: { readonly readOnly?: true } = {}): Verdict {
    let db: Emdb;
    try {
      const secret = encryption === undefined ? {} : { encryption };
      db = Emdb.open(this.path, { createIfMissing: false, ...secret, ...mode });
    } catch (error) {
      return this.#errorOf(error);
    }
    try {
      const { tornBytes, usedCheckpoint } = db.recovery;
      return { kind: "open", state: stateOf(db), tornBytes, usedCheckpoint };
    } catch (error) {
      return this.#errorOf(error);
    } finally {
      db.closeSync();
    }
  }

  /** The file is as it was put there. */
  isUntouched(file: Uint8Array): boolean {
    return Buffer.compare(readFileSync(this.path), file) === 0;
  }

  #errorOf(error: unknown): Verdict {
    if (!(error instanceof EmdbError)) throw error;
    const shown = `${error.message} ${error.stack} ${JSON.stringify(error)} ${Bun.inspect(error, { depth: 9 })}`;
    for (const secret of this.#secrets) if (shown.includes(secret)) throw new Error(`an error shows ${secret}`);
    return { kind: "error", code: error.code, offset: error.offset };
  }
}
