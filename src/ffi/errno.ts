/**
 * Error numbers: Linux's numbering is the one that all of emdb speaks, on every platform.
 *
 * Sources: errno(3) and asm-generic/errno.h; sys/errno.h of Darwin and FreeBSD; winerror.h, with the
 * nearest meaning chosen as libuv does (src/win/error.c) except where emdb must tell two things apart:
 * a lock that somebody has (EAGAIN) from a file that somebody holds open or mapped (EBUSY), and a file that is not there
 * (ENOENT) from one on a server, or a share of it, that is not reached (EHOSTUNREACH).
 */

import type { Result } from "./system.ts";

/** Linux's numbers by name. A `Result` carries them negated: `-Errno.ENOSPC`. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  EWOULDBLOCK: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EMLINK: 31,
  EPIPE: 32,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ETIMEDOUT: 110,
  EHOSTUNREACH: 113,
  ESTALE: 116,
  EDQUOT: 122,
  ECANCELED: 125,
} as const;

export type ErrnoName = keyof typeof Errno;

const nameOf = new Map<number, ErrnoName>();
for (const name of Object.keys(Errno) as ErrnoName[]) if (!nameOf.has(Errno[name])) nameOf.set(Errno[name], name);

/** The name of a failed result, as "ENOSPC"; "E200" for a number that has none here. */
export function errnoName(result: Result): string {
  return nameOf.get(-result) ?? `E${-result}`;
}

/** The result for an error that `node:fs` threw, by its code; EIO when it has none that is known. */
export function resultOfThrown(thrown: unknown): Result {
  const code = thrown instanceof Error ? (thrown as { code?: unknown }).code : undefined;
  if (typeof code === "string") {
    if (Object.hasOwn(Errno, code)) return -Errno[code as ErrnoName];
    if (code === "ENOTSUP") return -Errno.EOPNOTSUPP;
    // A path with a zero byte in it, above all.
    if (code.startsWith("ERR_INVALID_ARG")) return -Errno.EINVAL;
  }
  return -Errno.EIO;
}

/** Darwin's and FreeBSD's numbers that differ from Linux's; up to 34 all three agree, but for 11. */
const bsdNumbers: ReadonlyMap<number, ErrnoName> = new Map<number, ErrnoName>([
  [11, "EDEADLK"],
  [35, "EAGAIN"],
  [45, "EOPNOTSUPP"],
  [60, "ETIMEDOUT"],
  [62, "ELOOP"],
  [65, "EHOSTUNREACH"],
  [63, "ENAMETOOLONG"],
  [66, "ENOTEMPTY"],
  [69, "EDQUOT"],
  [70, "ESTALE"],
  [77, "ENOLCK"],
  [78, "ENOSYS"],
  [84, "EOVERFLOW"],
]);

/** Those that only one of the two has, or that mean different things on them. */
const darwinNumbers: ReadonlyMap<number, ErrnoName> = new Map<number, ErrnoName>([
  [89, "ECANCELED"],
  [102, "EOPNOTSUPP"],
]);
const freebsdNumbers: ReadonlyMap<number, ErrnoName> = new Map<number, ErrnoName>([[85, "ECANCELED"]]);

/** winerror.h by number. */
const windowsNumbers: ReadonlyMap<number, ErrnoName> = new Map<number, ErrnoName>([
  [1, "ENOSYS"], // ERROR_INVALID_FUNCTION
  [2, "ENOENT"], // ERROR_FILE_NOT_FOUND
  [3, "ENOENT"], // ERROR_PATH_NOT_FOUND
  [4, "EMFILE"], // ERROR_TOO_MANY_OPEN_FILES
  [5, "EACCES"], // ERROR_ACCESS_DENIED
  [6, "EBADF"], // ERROR_INVALID_HANDLE
  [8, "ENOMEM"], // ERROR_NOT_ENOUGH_MEMORY
  [14, "ENOMEM"], // ERROR_OUTOFMEMORY
  [15, "ENOENT"], // ERROR_INVALID_DRIVE
  [17, "EXDEV"], // ERROR_NOT_SAME_DEVICE
  [19, "EROFS"], // ERROR_WRITE_PROTECT
  [20, "ENODEV"], // ERROR_BAD_UNIT
  [32, "EBUSY"], // ERROR_SHARING_VIOLATION
  [33, "EAGAIN"], // ERROR_LOCK_VIOLATION
  [39, "ENOSPC"], // ERROR_HANDLE_DISK_FULL
  [50, "EOPNOTSUPP"], // ERROR_NOT_SUPPORTED
  [53, "EHOSTUNREACH"], // ERROR_BAD_NETPATH
  [55, "ENODEV"], // ERROR_DEV_NOT_EXIST
  [67, "EHOSTUNREACH"], // ERROR_BAD_NET_NAME
  [80, "EEXIST"], // ERROR_FILE_EXISTS
  [82, "EACCES"], // ERROR_CANNOT_MAKE
  [87, "EINVAL"], // ERROR_INVALID_PARAMETER
  [109, "EPIPE"], // ERROR_BROKEN_PIPE
  [112, "ENOSPC"], // ERROR_DISK_FULL
  [120, "ENOSYS"], // ERROR_CALL_NOT_IMPLEMENTED
  [123, "ENOENT"], // ERROR_INVALID_NAME
  [131, "EINVAL"], // ERROR_NEGATIVE_SEEK
  [145, "ENOTEMPTY"], // ERROR_DIR_NOT_EMPTY
  [158, "EINVAL"], // ERROR_NOT_LOCKED
  [161, "ENOENT"], // ERROR_BAD_PATHNAME
  [167, "EAGAIN"], // ERROR_LOCK_FAILED
  [170, "EBUSY"], // ERROR_BUSY
  [183, "EEXIST"], // ERROR_ALREADY_EXISTS
  [206, "ENAMETOOLONG"], // ERROR_FILENAME_EXCED_RANGE
  [223, "EFBIG"], // ERROR_FILE_TOO_LARGE
  [267, "ENOTDIR"], // ERROR_DIRECTORY
  [303, "EBUSY"], // ERROR_DELETE_PENDING
  [487, "EINVAL"], // ERROR_INVALID_ADDRESS
  [665, "EFBIG"], // ERROR_FILE_SYSTEM_LIMITATION
  [740, "EACCES"], // ERROR_ELEVATION_REQUIRED
  [995, "ECANCELED"], // ERROR_OPERATION_ABORTED
  [998, "EFAULT"], // ERROR_NOACCESS
  [1006, "EINVAL"], // ERROR_FILE_INVALID: a mapping of an empty file
  [1112, "ENODEV"], // ERROR_NO_MEDIA_IN_DRIVE
  [1142, "EMLINK"], // ERROR_TOO_MANY_LINKS
  [1224, "EBUSY"], // ERROR_USER_MAPPED_FILE
  [1295, "EDQUOT"], // ERROR_DISK_QUOTA_EXCEEDED
  [1314, "EPERM"], // ERROR_PRIVILEGE_NOT_HELD
  [1450, "ENOMEM"], // ERROR_NO_SYSTEM_RESOURCES
  [1453, "ENOMEM"], // ERROR_WORKING_SET_QUOTA
  [1454, "ENOMEM"], // ERROR_PAGEFILE_QUOTA
  [1455, "ENOMEM"], // ERROR_COMMITMENT_LIMIT
  [1816, "ENOMEM"], // ERROR_NOT_ENOUGH_QUOTA
  [1920, "EACCES"], // ERROR_CANT_ACCESS_FILE
  [1921, "ELOOP"], // ERROR_CANT_RESOLVE_FILENAME
]);

export type ErrnoDialect = "linux" | "darwin" | "freebsd" | "windows";

/** The result for an error number in a platform's own numbering; EIO for what Windows has and nobody else. */
export function resultOfNumber(dialect: ErrnoDialect, number: number): Result {
  if (dialect === "linux") return number > 0 ? -number : -Errno.EIO;
  if (dialect === "windows") return -Errno[windowsNumbers.get(number) ?? "EIO"];
  const name = bsdNumbers.get(number) ?? (dialect === "darwin" ? darwinNumbers : freebsdNumbers).get(number);
  if (name !== undefined) return -Errno[name];
  return number > 0 && number <= 34 ? -number : -Errno.EIO;
}
