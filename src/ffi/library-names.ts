/**
 * The names of the system's libraries, per platform, in the order they are tried.
 *
 * musl's loader takes any name that begins with "libc." for itself, so "libc.so.6" is right on both Linux
 * kinds; the musl names stand behind it for a loader that is stricter.
 */

import { EmdbError } from "../errors.ts";

export type PlatformName = "linux-glibc" | "linux-musl" | "macos" | "freebsd" | "windows";

export interface LibraryNames {
  /** Where memcpy, memcmp and memset are. */
  readonly memory: readonly string[];
  /** Where files, mappings, locks and threads are: libc, or kernel32. */
  readonly system: readonly string[];
  /** Where OpenSSL 3 may be, by absolute paths (`libcrypto.ts`); none: it is not looked for. */
  readonly crypto: readonly string[];
}

/** Debian and its kin; Fedora and its; Arch, Alpine. One of another processor does not open, and the next is tried. */
const libcrypto = [
  "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
  "/usr/lib/aarch64-linux-gnu/libcrypto.so.3",
  "/usr/lib64/libcrypto.so.3",
  "/usr/lib/libcrypto.so.3",
  "/lib/libcrypto.so.3",
];
const glibc = ["libc.so.6"];
const musl = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libc.so"];
const macos = ["libSystem.B.dylib", "/usr/lib/libSystem.B.dylib"];
const freebsd = ["libc.so.7", "libc.so"];

/** Decided names of every platform; Linux tries both kinds of its C library. */
export const librariesOf: Readonly<Record<PlatformName, LibraryNames>> = {
  "linux-glibc": { memory: glibc, system: glibc, crypto: libcrypto },
  "linux-musl": { memory: musl, system: musl, crypto: libcrypto },
  macos: { memory: macos, system: macos, crypto: [] },
  freebsd: { memory: freebsd, system: freebsd, crypto: [] },
  windows: { memory: ["ntdll.dll", "msvcrt.dll", "ucrtbase.dll"], system: ["kernel32.dll"], crypto: [] },
};

/** The libraries of the platform this process runs on; on Linux the musl list, which begins with glibc's. */
export function libraryNames(): LibraryNames {
  return librariesOf[hostPlatform()];
}

/**
 * The platform this process runs on. Linux says "linux-musl", whose names include glibc's.
 * @throws {EmdbError} EMDB_UNSUPPORTED on any other operating system or on a 32-bit one.
 */
export function hostPlatform(): PlatformName {
  const { platform, arch } = process as { platform: string; arch: string };
  if (arch === "x64" || arch === "arm64") {
    if (platform === "linux") return "linux-musl";
    if (platform === "darwin") return "macos";
    if (platform === "freebsd") return "freebsd";
    if (platform === "win32") return "windows";
  }
  throw new EmdbError(
    "EMDB_UNSUPPORTED",
    `emdb runs on 64-bit Linux, macOS, FreeBSD and Windows, not on ${platform} ${arch}`,
  );
}
