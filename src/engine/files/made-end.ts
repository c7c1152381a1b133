/**
 * The made end: a log that is made whole before it gets its name says in its header where it ended then, so that a copy of it
 * that was cut short can be told from what a crash leaves.
 *
 * Invariant: the header page is written again only while the file has no name that an open would follow, and is durable with
 * everything before the made end when it gets one.
 */

import { carryKeyArea } from "../../crypto/key-area.ts";
import { EmdbError } from "../../errors.ts";
import { must } from "../../ffi/io-error.ts";
import type { Pinned } from "../../ffi/memory.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";
import { KEY_AREA_AT, decodeHeader, encodeHeader, type LogHeader } from "../../log/header.ts";
import type { Core } from "../core.ts";

/** The header page of a log of the same database, with some of its fields changed; key slots come along. @throws {EmdbError} EMDB_CORRUPTED */
export function pageAfter(core: Core, before: Uint8Array, changes: Partial<LogHeader>): Pinned {
  const verdict = decodeHeader(before);
  if (verdict.kind !== "sound")
    throw new EmdbError("EMDB_CORRUPTED", "the header page is damaged; nothing has been changed", {
      path: core.file?.path,
      offset: 0,
    });
  const page = encodeHeader({ ...verdict.header, ...changes });
  const { vault } = core;
  if (vault !== undefined) {
    const { cipher, dataKey } = vault;
    const from = { sector: before.subarray(0, KEY_AREA_AT), keyArea: before.subarray(KEY_AREA_AT), cipher };
    page.u8.set(carryKeyArea(from, { dataKey, sector: page.u8.slice(0, KEY_AREA_AT) }), KEY_AREA_AT);
  }
  return page;
}

/** The header page as it is on the disk, or of a log in memory. */
export function headerPageOf({ system, file, page }: Core): Uint8Array {
  const bytes = page?.slice() ?? new Uint8Array(HEADER_PAGE_BYTES);
  if (file === undefined) return bytes;
  const { path, handle } = file;
  must(system.read(handle, bytes, { position: 0, bytes: bytes.length }), { syscall: "pread", path });
  return bytes;
}

/** Notes in a new database that has no name yet where it ends. The note, and what is still to be written, are durable with its close. */
export function noteEnd(core: Core): void {
  const { system, file } = core;
  if (file === undefined) return;
  const next = pageAfter(core, headerPageOf(core), { madeEnd: core.visible - core.base });
  const written = system.write(file.handle, next.address, { position: 0, bytes: HEADER_PAGE_BYTES });
  must(written, { syscall: "pwrite", path: file.path });
}
