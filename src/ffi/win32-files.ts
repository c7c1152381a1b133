/**
 * Windows, the half that has to do with names and records of kernel32: opening, status, cutting, renaming.
 *
 * All handles share everything, deletion too, so that a file that is open can be renamed and deleted as on
 * other systems, as far as the file system goes along. Virus scanners and indexers open what was just written, and some
 * share nothing: what they have in hand is asked for again for a moment, as SQLite, libuv and others do.
 */

import path from "node:path";
import { Errno, resultOfNumber } from "./errno.ts";
import { copy, pinned } from "./memory.ts";
import type { WindowsCalls } from "./symbols-win32.ts";
import type { Address, FileHandle, FileStatus, OpenMode, Patience, Result } from "./system.ts";

const GENERIC_READ = 0x80000000;
const GENERIC_WRITE = 0x40000000;
const DELETE = 0x00010000;
const FILE_READ_ATTRIBUTES = 0x80;
const SHARE_ALL = 7;
const CREATE_NEW = 1;
const OPEN_EXISTING = 3;
const OPEN_ALWAYS = 4;
const FILE_ATTRIBUTE_DIRECTORY = 0x10;
const FILE_ATTRIBUTE_NORMAL = 0x80;
const FILE_FLAG_BACKUP_SEMANTICS = 0x02000000;
const FILE_FLAG_OPEN_REPARSE_POINT = 0x00200000;
const FILE_ATTRIBUTE_REPARSE_POINT = 0x400;
const TAG_NAME_SURROGATE = 0x20000000;
const FILE_STANDARD_INFO = 1;
const FILE_END_OF_FILE_INFO = 6;
const FILE_ATTRIBUTE_TAG_INFO = 9;
const FILE_ID_INFO = 18;
const FILE_RENAME_INFO_EX = 22;
const MOVEFILE_REPLACE_EXISTING = 1;
const MOVEFILE_WRITE_THROUGH = 8;
/** FILE_RENAME_REPLACE_IF_EXISTS, FILE_RENAME_POSIX_SEMANTICS, FILE_RENAME_IGNORE_READONLY_ATTRIBUTE. */
const RENAME_FLAGS = 0x1 | 0x2 | 0x40;
const ERROR_FILE_NOT_FOUND = 2;
const ERROR_ACCESS_DENIED = 5;
const ERROR_GEN_FAILURE = 31;
const ERROR_SHARING_VIOLATION = 32;
const ERROR_USER_MAPPED_FILE = 1224;

/** Milliseconds between two tries of what somebody else has open and does not share: a quarter of a second in all. */
const PAUSES_MS = [1, 2, 4, 8, 16, 32, 64, 128];
const pauseWord = new Int32Array(new SharedArrayBuffer(4));

/** This thread's own place for what calls write into. */
const scratch = pinned(4096);

const modes: Record<OpenMode, { readonly access: number; readonly disposition: number; readonly flags: number }> = {
  read: { access: GENERIC_READ, disposition: OPEN_EXISTING, flags: 0 },
  write: { access: GENERIC_READ + GENERIC_WRITE, disposition: OPEN_EXISTING, flags: 0 },
  // FILE_FLAG_WRITE_THROUGH leaves what is written in the cache of many a drive: see `lacksWriteThrough` in win32.ts.
  "write-through": { access: GENERIC_READ + GENERIC_WRITE, disposition: OPEN_EXISTING, flags: 0 },
  create: { access: GENERIC_READ + GENERIC_WRITE, disposition: CREATE_NEW, flags: 0 },
  "write-or-create": {
    access: GENERIC_READ + GENERIC_WRITE,
    disposition: OPEN_ALWAYS,
    flags: FILE_FLAG_OPEN_REPARSE_POINT,
  },
  folder: { access: FILE_READ_ATTRIBUTES, disposition: OPEN_EXISTING, flags: FILE_FLAG_BACKUP_SEMANTICS },
};

/** The path as kernel32 wants it: prefixed so that it may be long, UTF-16, ended by a zero. */
function widePath(name: string): Uint8Array {
  return new Uint8Array(Buffer.from(`${path.toNamespacedPath(name)}\0`, "utf16le"));
}

export function lastFailure(calls: WindowsCalls): Result {
  return resultOfNumber("windows", calls.GetLastError());
}

/** What the last call failed with, negated. */
function failureOf(calls: WindowsCalls): number {
  return 0 - (calls.GetLastError() || ERROR_GEN_FAILURE);
}

/** How it is refused what another program has open and does not share. */
const HELD: readonly number[] = [ERROR_SHARING_VIOLATION];
/** The same to replace: where that program shares no deletion of it the rename is denied. */
const HELD_OR_DENIED: readonly number[] = [ERROR_SHARING_VIOLATION, ERROR_ACCESS_DENIED];
/** How it is refused to cut what somebody has mapped. */
const MAPPED: readonly number[] = [ERROR_USER_MAPPED_FILE];

/** What an attempt gives, which answers a failure negated; made again while that says that another program has the file. */
export function untilShared(attempt: () => number, held = HELD): number {
  let answer = attempt();
  for (const pauseMs of PAUSES_MS) {
    if (!held.includes(-answer)) break;
    Atomics.wait(pauseWord, 0, 0, pauseMs);
    answer = attempt();
  }
  return answer;
}

export function openFile(calls: WindowsCalls, name: string, mode: OpenMode): FileHandle | Result {
  if (name.includes("\0")) return -Errno.EINVAL;
  const { access, disposition, flags } = modes[mode];
  const wide = widePath(name);
  const file = untilShared(() => {
    const opened = calls.CreateFileW(wide, access, SHARE_ALL, 0, disposition, FILE_ATTRIBUTE_NORMAL + flags, 0);
    return opened === -1 ? failureOf(calls) : opened;
  });
  if (file >= 0 && flags === FILE_FLAG_OPEN_REPARSE_POINT && isLink(calls, file)) {
    calls.CloseHandle(file);
    return -Errno.ELOOP;
  }
  if (file >= 0 && mode === "folder") return folderOrError(calls, file);
  if (file >= 0) return file;
  // What is to be made is "not found" where Windows lets only some programs in ("controlled folder access"): a folder that is
  // missing is another number.
  if (disposition !== OPEN_EXISTING && file === -ERROR_FILE_NOT_FOUND) return -Errno.EPERM;
  const result = resultOfNumber("windows", -file);
  if (result !== -Errno.EACCES) return result;
  // A folder is refused in the same words as a file that we may not open.
  const status = statusOfPath(calls, name);
  return typeof status !== "number" && status.kind === "folder" ? -Errno.EISDIR : result;
}

/** What opens a folder opens a file as well. */
function folderOrError(calls: WindowsCalls, file: FileHandle): FileHandle | Result {
  const status = statusOfHandle(calls, file);
  if (typeof status !== "number" && status.kind === "folder") return file;
  calls.CloseHandle(file);
  return typeof status === "number" ? status : -Errno.ENOTDIR;
}

/** FILE_ATTRIBUTE_TAG_INFO: attributes u32, tag u32, of which one bit says that the file stands for another name. */
function isLink(calls: WindowsCalls, file: FileHandle): boolean {
  if (calls.GetFileInformationByHandleEx(file, FILE_ATTRIBUTE_TAG_INFO, scratch.address, 8) === 0) return false;
  const { u32 } = scratch;
  return (u32[0]! & FILE_ATTRIBUTE_REPARSE_POINT) !== 0 && (u32[1]! & TAG_NAME_SURROGATE) !== 0;
}

export function statusOfPath(calls: WindowsCalls, name: string): FileStatus | Result {
  if (name.includes("\0")) return -Errno.EINVAL;
  const flags = FILE_FLAG_BACKUP_SEMANTICS;
  const file = calls.CreateFileW(widePath(name), FILE_READ_ATTRIBUTES, SHARE_ALL, 0, OPEN_EXISTING, flags, 0);
  if (file === -1) return lastFailure(calls);
  const status = statusOfHandle(calls, file);
  calls.CloseHandle(file);
  return status;
}

/**
 * FILE_STANDARD_INFO: size i64 at 8, whether it is a folder u8 at 21. FILE_ID_INFO: volume u64, file id 16 bytes; the
 * only one that is unique on ReFS.
 */
export function statusOfHandle(calls: WindowsCalls, file: FileHandle): FileStatus | Result {
  const { u8, u32 } = scratch;
  if (calls.GetFileInformationByHandleEx(file, FILE_ID_INFO, scratch.address, 24) === 0) {
    const failure = lastFailure(calls);
    // By another record than at other times it would be another file.
    return failure === -Errno.ENOMEM ? failure : statusWithoutId(calls, file);
  }
  const identity = Buffer.from(u8.subarray(0, 24)).toString("hex");
  if (calls.GetFileInformationByHandleEx(file, FILE_STANDARD_INFO, scratch.address, 24) === 0)
    return lastFailure(calls);
  return { kind: u8[21] === 0 ? "file" : "folder", bytes: u32[3]! * 2 ** 32 + u32[2]!, identity };
}

/**
 * For a file system that has no FILE_ID_INFO (FAT, some servers). BY_HANDLE_FILE_INFORMATION: attributes u32 at 0, volume
 * u32 at 28, size high and low u32 at 32, index high and low u32 at 44.
 */
function statusWithoutId(calls: WindowsCalls, file: FileHandle): FileStatus | Result {
  if (calls.GetFileInformationByHandle(file, scratch.address) === 0) return lastFailure(calls);
  const { u32 } = scratch;
  const kind = (u32[0]! & FILE_ATTRIBUTE_DIRECTORY) === 0 ? "file" : "folder";
  return { kind, bytes: u32[8]! * 2 ** 32 + u32[9]!, identity: `${u32[7]!}:${u32[11]!}:${u32[12]!}` };
}

/** Sets where a file ends, as a LARGE_INTEGER at an address says. */
export function setEnd(calls: WindowsCalls, file: FileHandle, end: Address, patience?: Patience): Result {
  const answer = untilShared(
    () => (calls.SetFileInformationByHandle(file, FILE_END_OF_FILE_INFO, end, 8) === 0 ? failureOf(calls) : 0),
    patience === "at once" ? [] : MAPPED,
  );
  return answer === 0 ? 0 : resultOfNumber("windows", -answer);
}

/**
 * Renames, replacing what is there even when it is open (Windows 10 1709 on NTFS); elsewhere as MoveFileEx can,
 * which refuses to replace a file that is open. Durable when it returns. What is mapped is denied for good, in the words of
 * a virus scanner's file: who has another way for that asks `at once`.
 *
 * FILE_RENAME_INFO: flags u32, root HANDLE at 8, name length in bytes u32 at 16, name at 20.
 */
export function renameFile(calls: WindowsCalls, from: string, to: string, patience?: Patience): Result {
  if (from.includes("\0") || to.includes("\0")) return -Errno.EINVAL;
  const source = widePath(from);
  const target = widePath(to);
  const answer = untilShared(
    () => {
      const renamed = renameOpened(calls, source, target);
      if (renamed !== undefined) return renamed;
      const flags = MOVEFILE_REPLACE_EXISTING + MOVEFILE_WRITE_THROUGH;
      return calls.MoveFileExW(source, target, flags) === 0 ? failureOf(calls) : 0;
    },
    patience === "at once" ? HELD : HELD_OR_DENIED,
  );
  return answer === 0 ? 0 : resultOfNumber("windows", Math.abs(answer));
}

/**
 * Renames a file by a handle of it: 0, a failure negated, and as it is the failure of the flush behind a rename that was done,
 * which must not be made again. Undefined where it cannot be done like this: file systems say so in many words (exFAT that its
 * limits are passed, others that the parameter is wrong), and what else is in the way MoveFileEx tells as well.
 */
function renameOpened(calls: WindowsCalls, source: Uint8Array, target: Uint8Array): number | undefined {
  const access = GENERIC_WRITE + DELETE;
  const file = calls.CreateFileW(source, access, SHARE_ALL, 0, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, 0);
  if (file === -1) return undefined;
  const info = pinned(20 + target.length);
  info.u32[0] = RENAME_FLAGS;
  info.u32[4] = target.length - 2;
  copy(info.address + 20, target, target.length);
  const isRenamed = calls.SetFileInformationByHandle(file, FILE_RENAME_INFO_EX, info.address, 20 + target.length) !== 0;
  const failure = isRenamed && calls.FlushFileBuffers(file) !== 0 ? 0 : failureOf(calls);
  calls.CloseHandle(file);
  if (isRenamed) return Math.abs(failure);
  return HELD_OR_DENIED.includes(-failure) ? failure : undefined;
}
