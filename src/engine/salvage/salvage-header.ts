/**
 * Finding out the salts of a damaged log: without them no frame can be told from garbage. An encrypted log needs its
 * header page whole besides, and one key slot.
 *
 * They come from the file id and the generation in the header page's first sector, in this order:
 * 1. the sector as it stands, if its check is right;
 * 2. the sector with one bit flipped back, if that makes the check right;
 * 3. the file id and generation as they stand, if a frame in the file proves them.
 * In each key slot one bit is flipped back too, if that makes its check right, and what stands behind them is passed over.
 */

import { KEY_AREA_OFFSET, mendKeyArea } from "../../crypto/key-area.ts";
import { EmdbError } from "../../errors.ts";
import { must } from "../../ffi/io-error.ts";
import { HEADER_PAGE_BYTES, SCAN_BYTES } from "../../limits.ts";
import { KIND_END, type Salts } from "../../log/frame.ts";
import { decodeHeader, saltsOf, unprovenSalts, type HeaderVerdict } from "../../log/header.ts";
import { Scanner, type ScanSource } from "../../log/scanner.ts";
import type { HeaderPage } from "../sealed/unlock.ts";

const SECTOR_BYTES = 512;
/** How far a frame is looked for that proves salts. */
const PROOF_BYTES = 16 * SCAN_BYTES;

/** What is known of a log before its frames are. */
export interface FoundLog {
  readonly salts: Salts;
  /** The header page, mended if need be; undefined where only the salts are proven. */
  readonly page: HeaderPage | undefined;
  /** Where there is no page: whether the frame that proves the salts is an encrypted log's. */
  readonly isSealed: boolean;
}

/**
 * The salts of a log, and its header page.
 *
 * @throws {EmdbError} EMDB_NOT_A_DATABASE, EMDB_VERSION, EMDB_CORRUPTED when they cannot be known
 */
export function findLog(source: Omit<ScanSource, "salts">): FoundLog {
  const { system, file, path } = source;
  const page = new Uint8Array(HEADER_PAGE_BYTES);
  const read = system.read(file, page, { position: 0, bytes: page.length });
  const bytes = page.subarray(0, must(read, { syscall: "pread", path }));
  const verdict = mend(bytes);
  if (verdict.kind === "sound") {
    const { header } = verdict;
    mendKeyArea(page.subarray(KEY_AREA_OFFSET));
    return { salts: saltsOf(header), page: { header, page }, isSealed: false };
  }
  const named = JSON.stringify(path);
  if (verdict.kind === "future") {
    const message = `${named} has format version ${verdict.version}; this emdb reads version 1`;
    throw new EmdbError("EMDB_VERSION", message, { path });
  }
  const salts = unprovenSalts(page);
  const proof = provingKind({ ...source, salts });
  if (proof !== undefined) return { salts, page: undefined, isSealed: proof > KIND_END };
  if (verdict.kind === "foreign" && bytes.some((byte) => byte !== 0)) {
    throw new EmdbError("EMDB_NOT_A_DATABASE", `${named} is not an emdb database`, { path });
  }
  const message = `the header of ${named} is gone, and with it what tells its records from garbage; nothing can be salvaged`;
  throw new EmdbError("EMDB_CORRUPTED", message, { path, offset: 0 });
}

/** The verdict over a header page; a bit that was flipped is flipped back. */
function mend(page: Uint8Array): HeaderVerdict {
  const verdict = decodeHeader(page);
  if (verdict.kind === "sound") return verdict;
  for (let bit = 0; bit < SECTOR_BYTES * 8; bit++) {
    page[bit >> 3]! ^= 1 << (bit & 7);
    const before = decodeHeader(page);
    if (before.kind === "sound") return before;
    page[bit >> 3]! ^= 1 << (bit & 7);
  }
  return verdict;
}

/** The kind of a frame that proves the salts; undefined when there is none. */
function provingKind(source: ScanSource): number | undefined {
  const scanner = new Scanner(source, HEADER_PAGE_BYTES);
  const proof = scanner.findSound(HEADER_PAGE_BYTES, -1, HEADER_PAGE_BYTES + PROOF_BYTES);
  scanner.release();
  return proof === undefined ? undefined : scanner.facts.kind;
}
