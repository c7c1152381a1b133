/**
 * What macOS and FreeBSD do alike. Pages: mmap(2), msync(2).
 *
 * Neither has Linux's advice about the cache of a file. msync with MS_INVALIDATE drops the pages behind a mapping;
 * without MS_SYNC macOS would drop those that are dirty as well.
 */

import type { Address, FileHandle } from "./system.ts";

const PROT_READ = 1;
const MAP_SHARED = 1;
const MS_INVALIDATE = 2;

interface CachedFile {
  readonly file: FileHandle;
  readonly bytes: number;
  /** MS_SYNC, which differs. */
  readonly synchronous: number;
}

/** Drops what the system has cached of a file, after writing what is dirty. Raw. */
export function invalidate(
  calls: {
    mmap(at: Address, bytes: number, access: number, flags: number, file: FileHandle, position: number): Address;
    munmap(at: Address, bytes: number): number;
    msync(at: Address, bytes: number, flags: number): number;
  },
  { file, bytes, synchronous }: CachedFile,
): number {
  const address = calls.mmap(0, bytes, PROT_READ, MAP_SHARED, file, 0);
  if (address <= 0) return -1;
  const result = calls.msync(address, bytes, synchronous | MS_INVALIDATE);
  // A success leaves errno as it is.
  calls.munmap(address, bytes);
  return result;
}
