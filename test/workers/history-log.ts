/**
 * The order that the log gives a history: every version of every key, with the commit that made it visible. The fillers of
 * a thread, which come and go in one batch, are one key more.
 *
 * A compaction leaves versions out. Where there are some, the files that they replace are kept as they were at the swap;
 * of the file that comes after, only what is behind the copied part counts.
 */

import { copyFileSync, existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { System } from "../../src/ffi/system.ts";
import { KEYS, LISTS, markIn, numberOfKey, recordsIn } from "./history-facts.ts";

/** One version of a key. Commits count up from 1; a removal's mark is 0, and so is what was there at the beginning. */
export interface Version {
  readonly mark: number;
  readonly commit: number;
}

const PAGE = 4096;
const HEADER = 24;
const PUT = 1;
const REMOVE = 2;
/** Takes the batch back that it ends. */
const ABORT = 6;
const MARK = 7;
const FIRST = 1;
const MIDDLE = 2;

interface Frame {
  readonly kind: number;
  readonly place: number;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly end: number;
}

/** Reads a log of frames without expiry and of short distances; no code of the database is used. */
function* framesIn(bytes: Buffer, from: number): Generator<Frame> {
  for (let at = from; at + HEADER <= bytes.length;) {
    const shape = bytes.readUInt32LE(at + 8);
    const kind = shape & 15;
    if ((bytes.readUInt32LE(at) === 0 && shape === 0) || kind === MARK) return;
    const valueAt = at + HEADER + (shape >>> 16);
    const valueEnd = valueAt + bytes.readUInt32LE(at + 12);
    const end = Math.ceil(valueEnd / 8) * 8;
    const key = bytes.subarray(at + HEADER, valueAt);
    yield { kind, place: (shape >> 4) & 3, key, value: bytes.subarray(valueAt, valueEnd), end };
    at = end;
  }
}

/** A batch in which the fillers of a thread are one. Throws where there are some of them only, or of two writes. */
function joined(batch: readonly (readonly [number, Version])[]): readonly (readonly [number, Version])[] {
  const fillers = batch.filter(([number]) => number >= KEYS);
  const [first] = fillers;
  if (first === undefined) return batch;
  const wanted = recordsIn(first[0]);
  const isWhole = fillers.length === wanted && batch.length === wanted;
  const isOne = fillers.every(([number, { mark }]) => number === first[0] && mark === first[1].mark);
  if (!isWhole || !isOne) throw new Error(`the log holds a batch with ${fillers.length} of ${wanted} fillers`);
  return [first];
}

/** The versions in a log, after those in the files that compactions have replaced (`keepReplaced`). */
export function versionsIn(path: string, kept?: string): Version[][] {
  const versions: Version[][] = Array.from({ length: LISTS }, () => [{ mark: 0, commit: 0 }]);
  let commit = 1;
  let from = PAGE;
  const names = kept === undefined ? [] : readdirSync(kept).sort();
  const files = [...names.map((name) => ({ file: join(kept ?? "", name), next: Number(name.split("-")[1]) }))];
  for (const { file, next } of [...files, { file: path, next: 0 }]) {
    /** What the batch at hand writes, by key. */
    let batch: (readonly [number, Version])[] = [];
    for (const { kind, place, key, value } of framesIn(readFileSync(file), from)) {
      const number = kind === PUT || kind === REMOVE ? numberOfKey(key) : undefined;
      if (number !== undefined) batch.push([number, { mark: kind === REMOVE ? 0 : markIn(value), commit }]);
      if (place === FIRST || place === MIDDLE) continue;
      if (kind !== ABORT) for (const [written, version] of joined(batch)) versions[written]!.push(version);
      batch = [];
      commit += 1;
    }
    from = next;
  }
  return versions;
}

/** Keeps a copy of each file that a compaction of this thread replaces, until it is told to stop. */
export function keepReplaced(
  system: System,
  { path, kept }: { readonly path: string; readonly kept: string },
): () => void {
  const own = system.rename;
  const hooked = system as { rename: System["rename"] };
  hooked.rename = (from, to) => {
    if (!from.startsWith(`${path}.emdb-compact-`) || to !== path) return own.call(system, from, to);
    const copied = [...framesIn(readFileSync(from), PAGE)].at(-1)?.end ?? PAGE;
    // Its number, and where in the new file that begins which is no copy. Swaps are made one after the other, under a lock.
    const copy = join(kept, `${String(readdirSync(kept).length).padStart(6, "0")}-${copied}`);
    copyFileSync(existsSync(path) ? path : from.replace(".emdb-compact-", ".emdb-replaced-"), copy);
    const result = own.call(system, from, to);
    if (result < 0) rmSync(copy);
    return result;
  };
  return () => void (hooked.rename = own);
}
