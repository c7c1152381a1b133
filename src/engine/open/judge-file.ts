/** Judging what is at a path before anything is done with it. */

import { EmdbError } from "../../errors.ts";
import { Errno } from "../../ffi/errno.ts";
import { ioError } from "../../ffi/io-error.ts";
import type { System } from "../../ffi/system.ts";
import { decodeHeader, type LogHeader } from "../../log/header.ts";
import { firstPage } from "../files/first-page.ts";
import { WHAT_HELPS, type HeaderPage } from "../sealed/unlock.ts";

/** The header page of a log; undefined when there is no file, or an empty one. Throws for what is not ours. */
export function judgeFile(system: System, path: string): HeaderPage | undefined {
  const status = system.status(path);
  if (typeof status === "number") {
    if (status === -Errno.ENOENT) return undefined;
    throw ioError(status, { syscall: "stat", path });
  }
  if (status.kind !== "file") throw noFile(path, status.kind);
  if (status.bytes === 0) return undefined;
  const page = firstPage(system, path);
  if (!(page instanceof Uint8Array)) throw ioError(page.result, page);
  return { header: judgeHeader(page, path), page };
}

/** The error for what is there and cannot be a database. */
export function noFile(path: string, kind: "folder" | "other"): EmdbError {
  const what = kind === "folder" ? "is a folder; give the path of a file in it" : "is neither a file nor a folder";
  return new EmdbError("EMDB_NOT_A_DATABASE", `${JSON.stringify(path)} ${what}`, { path });
}

export function judgeHeader(bytes: Uint8Array, path: string): LogHeader {
  const verdict = decodeHeader(bytes);
  switch (verdict.kind) {
    case "sound":
      return verdict.header;
    case "foreign":
      throw new EmdbError(
        "EMDB_NOT_A_DATABASE",
        `${JSON.stringify(path)} is not an emdb database; give the path of one, or of no file`,
        { path },
      );
    case "future":
      throw new EmdbError(
        "EMDB_VERSION",
        `${JSON.stringify(path)} has format version ${verdict.version}; this emdb reads version 1`,
        { path },
      );
    case "damaged":
      throw new EmdbError("EMDB_CORRUPTED", `the header of ${JSON.stringify(path)} is damaged; ${WHAT_HELPS}`, {
        path,
        offset: verdict.offset,
      });
  }
}
