/** The order that the log gives a history: every version of every key, with the commit that made it visible. */

import { readFileSync } from "node:fs";
import { KEYS, markIn, numberOfKey } from "./history-facts.ts";

/** One version of a key. Commits count up from 1; a removal's mark is 0, and so is what was there at the beginning. */
export interface Version {
  readonly mark: number;
  readonly commit: number;
}

const PAGE = 4096;
const HEADER = 24;
const PUT = 1;
const REMOVE = 2;
const MARK = 7;
const FIRST = 1;
const MIDDLE = 2;

/** Reads a log of frames without expiry and of short distances; no code of the database is used. */
export function versionsIn(path: string): Version[][] {
  const bytes = readFileSync(path);
  const versions: Version[][] = Array.from({ length: KEYS }, () => [{ mark: 0, commit: 0 }]);
  let commit = 1;
  for (let at = PAGE; at + HEADER <= bytes.length;) {
    const shape = bytes.readUInt32LE(at + 8);
    const [kind, place, keyBytes] = [shape & 15, (shape >> 4) & 3, shape >>> 16];
    if (bytes.readUInt32LE(at) === 0 && shape === 0) break;
    if (kind === MARK) break;
    const valueAt = at + HEADER + keyBytes;
    const valueBytes = bytes.readUInt32LE(at + 12);
    const key = kind === PUT || kind === REMOVE ? numberOfKey(bytes.subarray(at + HEADER, valueAt)) : undefined;
    if (key !== undefined) {
      const mark = kind === REMOVE ? 0 : markIn(bytes.subarray(valueAt, valueAt + valueBytes));
      versions[key]!.push({ mark, commit });
    }
    if (place !== FIRST && place !== MIDDLE) commit += 1;
    at = Math.ceil((valueAt + valueBytes) / 8) * 8;
  }
  return versions;
}
