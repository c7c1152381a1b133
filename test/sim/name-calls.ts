/**
 * The calls that change names, as rename(2), link(2), unlink(2), mkdir(2) and their Windows kin do it.
 *
 * Only files are moved: renaming a folder is refused, since emdb never does.
 */

import { Errno } from "../../src/ffi/errno.ts";
import { PAGE_BYTES } from "./image.ts";
import { folderOf } from "./names.ts";
import type { FileStatus, OpenMode, Result } from "../../src/ffi/system.ts";
import type { Inode } from "./inode.ts";
import type { Machine } from "./machine.ts";

const CUT_BYTES = 2 * PAGE_BYTES;

interface TwoPaths {
  readonly from: string;
  readonly to: string;
}

/** On Windows a mapped file is neither replaced, removed nor cut. */
export function isPinned(machine: Machine, inode: Inode): boolean {
  return machine.options.isWindows && inode.mappingCount > 0;
}

/** What may be cut off at a time of a file that has no name, one handle and no mapping; kernel32 does not tell. */
export function cutBytesOf(machine: Machine, inode: Inode | undefined): number {
  if (inode === undefined || machine.options.isWindows || inode.handleCount !== 1 || inode.mappingCount > 0) return 0;
  return isNamed(machine, inode) ? 0 : CUT_BYTES;
}

function isNamed({ names }: Machine, { number }: Inode): boolean {
  return [...names.current.values()].some((entry) => entry.kind === "file" && entry.inode === number);
}

/** Whether a file is removed and has its name only until it is closed. */
function isLeaving(machine: Machine, path: string): boolean {
  return machine.inodeAt(path)?.leavingName === path;
}

/** The error for a path that is not there. */
export function missing({ names }: Machine, path: string): Result {
  return names.current.get(folderOf(path))?.kind === "file" ? -Errno.ENOTDIR : -Errno.ENOENT;
}

export function statusOfInode({ serial }: Machine, inode: Inode): FileStatus {
  return { kind: "file", bytes: inode.bytes, identity: `${serial}:${inode.number}` };
}

export function statusAt(machine: Machine, path: string): FileStatus | Result {
  const inode = machine.inodeAt(path);
  if (isLeaving(machine, path)) return -Errno.EACCES;
  if (inode !== undefined) return statusOfInode(machine, inode);
  if (!machine.names.current.has(path)) return missing(machine, path);
  return { kind: "folder", bytes: 0, identity: `${machine.serial}:${path}` };
}

/** What an open finds at a path, or makes there. */
export function findOrCreate(machine: Machine, path: string, mode: OpenMode): Inode | Result {
  const { current } = machine.names;
  const entry = current.get(path);
  if (mode === "folder" && entry?.kind === "file") return -Errno.ENOTDIR;
  // Nothing is read or written there: any inode will do.
  if (entry?.kind === "folder") return mode === "folder" ? machine.createInode() : -Errno.EISDIR;
  if (entry !== undefined && mode === "create") return -Errno.EEXIST;
  if (isLeaving(machine, path)) return -Errno.EACCES;
  const there = machine.inodeAt(path);
  if (there !== undefined) return there;
  if (mode !== "create" && mode !== "write-or-create") return missing(machine, path);
  if (current.get(folderOf(path))?.kind !== "folder") return missing(machine, path);
  const inode = machine.createInode();
  machine.changeNames([{ path, entry: { kind: "file", inode: inode.number } }]);
  return inode;
}

/**
 * When a file is closed for the last time. What was removed loses its name, and on Windows what is in it, mapped or not: "the
 * file's data streams remain accessible by other existing handles until the last handle has been closed"
 * (FILE_DISPOSITION_INFORMATION_EX); FatCommonCleanup of Microsoft's own FAT sets its size to 0 there.
 */
export function lastClose(machine: Machine, inode: Inode): void {
  if (inode.handleCount > 0) return;
  const path = inode.leavingName;
  inode.leavingName = undefined;
  if (path !== undefined) machine.changeNames([{ path, entry: undefined }]);
  if (isPinned(machine, inode) && !isNamed(machine, inode)) inode.image.resize(0);
}

export function renameFile(machine: Machine, { from, to }: TwoPaths): Result {
  const { current } = machine.names;
  const entry = current.get(from);
  if (entry === undefined) return missing(machine, from);
  if (current.get(folderOf(to))?.kind !== "folder") return missing(machine, to);
  if (entry.kind === "folder" || current.get(to)?.kind === "folder") return -Errno.EISDIR;
  const target = machine.inodeAt(to);
  if (isLeaving(machine, from) || isLeaving(machine, to)) return -Errno.EACCES;
  if (target?.number === entry.inode) return 0;
  if (target !== undefined && isPinned(machine, target)) return -Errno.EBUSY;
  machine.changeNames([
    { path: from, entry: undefined },
    { path: to, entry },
  ]);
  return 0;
}

export function linkFile(machine: Machine, { from, to }: TwoPaths): Result {
  const { current } = machine.names;
  const entry = current.get(from);
  if (entry === undefined) return missing(machine, from);
  if (entry.kind === "folder") return -Errno.EPERM;
  if (current.has(to)) return -Errno.EEXIST;
  if (current.get(folderOf(to))?.kind !== "folder") return missing(machine, to);
  machine.changeNames([{ path: to, entry }]);
  return 0;
}

export function removeFile(machine: Machine, path: string): Result {
  const inode = machine.inodeAt(path);
  if (inode === undefined) return machine.names.current.has(path) ? -Errno.EISDIR : missing(machine, path);
  if (isPinned(machine, inode)) return -Errno.EBUSY;
  if (isLeaving(machine, path)) return -Errno.EACCES;
  if (machine.options.keepsOpenNames && inode.handleCount > 0) inode.leavingName = path;
  else machine.changeNames([{ path, entry: undefined }]);
  return 0;
}

export function createFolder(machine: Machine, path: string): Result {
  const { current } = machine.names;
  if (current.has(path)) return -Errno.EEXIST;
  if (current.get(folderOf(path))?.kind !== "folder") return missing(machine, path);
  machine.changeNames([{ path, entry: { kind: "folder" } }]);
  return 0;
}

export function listFolder({ names }: Machine, folder: string): readonly string[] | Result {
  const kind = names.current.get(folder)?.kind;
  if (kind !== "folder") return kind === undefined ? -Errno.ENOENT : -Errno.ENOTDIR;
  const start = folder === "/" ? 1 : folder.length + 1;
  const inside = [...names.current.keys()].filter((path) => path !== "/" && folderOf(path) === folder);
  return inside.map((path) => path.slice(start));
}
