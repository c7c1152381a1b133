/** How a thread without this library makes a file durable: the names and numbers that the commit Worker needs. */

import type { ErrnoDialect } from "./errno.ts";
import { hostPlatform, librariesOf } from "./library-names.ts";

export interface SyncRecipe {
  readonly libraries: readonly string[];
  readonly call: string;
  readonly args: readonly string[];
  /** Arguments behind the file. */
  readonly values: readonly number[];
  readonly success: "not zero" | "not minus one";
  readonly errnoCall: string;
  readonly isErrnoAddress: boolean;
  /** The errno of an interrupted call, which is tried again; 0 where there is none. */
  readonly interrupted: number;
  /** A call for file systems that answer the first one with one of `fallbackOn`; it takes the handle alone. */
  readonly fallback: string | undefined;
  readonly fallbackOn: readonly number[];
  /** A call that gives a second handle of the file to sync, -1 when it cannot, and the one that closes it. */
  readonly reopen: { readonly call: string; readonly values: readonly number[]; readonly close: string } | undefined;
  readonly dialect: ErrnoDialect;
}

/** fcntl's command on macOS that empties the drive's cache too; fcntl(2). */
const F_FULLFSYNC = 51;
const EINTR = 4;
const GENERIC_WRITE = 0x40000000;
const SHARE_ALL = 7;
/** What file systems without F_FULLFSYNC answer: ENODEV, EINVAL, ENOTTY, ENOTSUP, EOPNOTSUPP. As in macos.ts. */
const NO_FULL_SYNC = [19, 22, 25, 45, 102];

/** The recipe of a platform, this one's unless another is asked for. */
export function syncRecipe(platform = hostPlatform()): SyncRecipe {
  const libraries = librariesOf[platform].system;
  const posix = {
    libraries,
    args: ["i32"],
    values: [],
    success: "not minus one",
    isErrnoAddress: true,
    interrupted: EINTR,
    fallback: undefined,
    fallbackOn: [],
    reopen: undefined,
  } as const;
  switch (platform) {
    case "linux-glibc":
    case "linux-musl":
      return { ...posix, call: "fdatasync", errnoCall: "__errno_location", dialect: "linux" };
    case "freebsd":
      return { ...posix, call: "fdatasync", errnoCall: "__error", dialect: "freebsd" };
    case "macos": {
      const fallback = { fallback: "fsync", fallbackOn: NO_FULL_SYNC };
      const full = { call: "fcntl", args: ["i32", "i32"], values: [F_FULLFSYNC] };
      return { ...posix, ...full, ...fallback, errnoCall: "__error", dialect: "darwin" };
    }
    case "windows":
      return {
        libraries,
        call: "FlushFileBuffers",
        args: ["ptr"],
        values: [],
        success: "not zero",
        errnoCall: "GetLastError",
        isErrnoAddress: false,
        interrupted: 0,
        fallback: undefined,
        fallbackOn: [],
        // As in win32.ts: on the file object that the writers use, they would wait for the disk.
        reopen: { call: "ReOpenFile", values: [GENERIC_WRITE, SHARE_ALL, 0], close: "CloseHandle" },
        dialect: "windows",
      };
  }
}
