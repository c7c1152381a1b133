/**
 * The symbol tables of all platforms, checked wherever the test runs: against each other, and against the C
 * prototypes below, which were written down from the manual pages and headers, not from the tables.
 */

import { expect, test } from "bun:test";
import { libcryptoCalls } from "../../src/ffi/libcrypto.ts";
import { windowsRandomCalls } from "../../src/ffi/symbols-win32.ts";
import { symbolTables } from "../../src/ffi/symbols.ts";
import { hostPlatform, librariesOf, type PlatformName } from "../../src/ffi/library-names.ts";
import type { Signature, WireType } from "../../src/ffi/library.ts";

/** What both data models agree on, and what they do not: `long` has 64 bits on LP64, 32 on Windows. */
const widthOfType: Record<string, "void" | "i32" | "u32" | "word" | "pointer"> = {
  void: "void",
  int: "i32",
  BOOL: "i32",
  FILE_INFO_BY_HANDLE_CLASS: "i32",
  uint32_t: "u32",
  unsigned: "u32",
  DWORD: "u32",
  size_t: "word",
  SIZE_T: "word",
  ssize_t: "word",
  off_t: "word",
  long: "word",
  uint64_t: "word",
  HANDLE: "word",
  clockid_t: "i32",
  pthread_t: "pointer",
};

const posixPrototypes = `
  int close(int fd)
  ssize_t pread(int fd, void *buf, size_t count, off_t offset)
  ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset)
  off_t lseek(int fd, off_t offset, int whence)
  int ftruncate(int fd, off_t length)
  int fsync(int fd)
  int flock(int fd, int operation)
  void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
  int munmap(void *addr, size_t len)
  int mprotect(void *addr, size_t len, int prot)
  int getpagesize(void)
  int clock_gettime(clockid_t clock, struct timespec *into)
  int getrlimit(int resource, struct rlimit *into)`;

const linuxPrototypes = `${posixPrototypes}
  int fdatasync(int fd)
  int fallocate(int fd, int mode, off_t offset, off_t len)
  int madvise(void *addr, size_t length, int advice)
  int posix_fadvise(int fd, off_t offset, off_t len, int advice)
  ssize_t getrandom(void *buf, size_t buflen, unsigned flags)
  long syscall(long number, long, long, long, long, long)
  int *__errno_location(void)`;

const prototypes: Record<PlatformName, string> = {
  "linux-glibc": linuxPrototypes,
  "linux-musl": linuxPrototypes,
  // fcntl is variadic: two declared parameters, then one argument, padded as symbols-posix.ts says.
  macos: `${posixPrototypes}
  int fcntl(int fd, int cmd, void *, void *, void *, void *, void *, void *, void *)
  int pthread_threadid_np(pthread_t thread, uint64_t *thread_id)
  int msync(void *addr, size_t len, int flags)
  int proc_pidinfo(int pid, int flavor, uint64_t arg, void *buffer, int buffersize)
  void arc4random_buf(void *buf, size_t nbytes)
  int *__error(void)`,
  freebsd: `${posixPrototypes}
  int fcntl(int fd, int cmd, void *, void *, void *, void *, void *, void *, void *)
  int fdatasync(int fd)
  int posix_fallocate(int fd, off_t offset, off_t len)
  int msync(void *addr, size_t len, int flags)
  int thr_self(long *id)
  int thr_kill(long id, int sig)
  void arc4random_buf(void *buf, size_t nbytes)
  int *__error(void)`,
  windows: `
  HANDLE CreateFileW(WCHAR *name, DWORD access, DWORD share, void *security, DWORD how, DWORD flags, HANDLE template)
  HANDLE ReOpenFile(HANDLE file, DWORD access, DWORD share, DWORD flags)
  BOOL CloseHandle(HANDLE object)
  BOOL ReadFile(HANDLE file, void *buffer, DWORD bytes, DWORD *read, OVERLAPPED *overlapped)
  BOOL WriteFile(HANDLE file, const void *buffer, DWORD bytes, DWORD *written, OVERLAPPED *overlapped)
  BOOL FlushFileBuffers(HANDLE file)
  BOOL GetFileSizeEx(HANDLE file, LARGE_INTEGER *size)
  BOOL GetFileInformationByHandle(HANDLE file, BY_HANDLE_FILE_INFORMATION *info)
  BOOL GetFileInformationByHandleEx(HANDLE file, FILE_INFO_BY_HANDLE_CLASS kind, void *info, DWORD bytes)
  BOOL SetFileInformationByHandle(HANDLE file, FILE_INFO_BY_HANDLE_CLASS kind, void *info, DWORD bytes)
  BOOL MoveFileExW(WCHAR *from, WCHAR *to, DWORD flags)
  BOOL LockFileEx(HANDLE file, DWORD flags, DWORD reserved, DWORD low, DWORD high, OVERLAPPED *overlapped)
  BOOL UnlockFileEx(HANDLE file, DWORD reserved, DWORD low, DWORD high, OVERLAPPED *overlapped)
  HANDLE CreateFileMappingW(HANDLE file, void *security, DWORD protect, DWORD high, DWORD low, WCHAR *name)
  void *MapViewOfFile(HANDLE mapping, DWORD access, DWORD high, DWORD low, SIZE_T bytes)
  BOOL UnmapViewOfFile(const void *address)
  void *VirtualAlloc(void *address, SIZE_T size, DWORD kind, DWORD protect)
  BOOL VirtualFree(void *address, SIZE_T size, DWORD kind)
  DWORD GetCurrentThreadId(void)
  HANDLE OpenThread(DWORD access, BOOL inherit, DWORD id)
  DWORD GetProcessIdOfThread(HANDLE thread)
  BOOL GetThreadTimes(HANDLE thread, FILETIME *created, FILETIME *ended, FILETIME *kernel, FILETIME *user)
  DWORD WaitForSingleObject(HANDLE handle, DWORD milliseconds)
  void GetSystemInfo(SYSTEM_INFO *info)
  BOOL QueryPerformanceCounter(LARGE_INTEGER *count)
  BOOL QueryPerformanceFrequency(LARGE_INTEGER *frequency)
  DWORD GetLastError(void)`,
};

const platforms = Object.keys(symbolTables) as PlatformName[];

/** How a C type has to be declared; what is passed in and what comes back differ for words (library.ts). */
function wireTypes(cType: string, isResult: boolean): readonly WireType[] {
  if (cType.includes("*")) return isResult ? ["ptr", "i64_fast"] : ["ptr"];
  const width = widthOfType[cType];
  if (width === undefined) throw new Error(`the C type ${cType} is not known`);
  if (width === "word") return isResult ? ["i64_fast"] : ["ptr"];
  return width === "pointer" ? ["ptr"] : [width];
}

/** "int close(int fd)" as its name and the wire types that each place may have. */
function parse(line: string): { name: string; args: (readonly WireType[])[]; returns: readonly WireType[] } {
  const match = /^(.*?)(\w+)\((.*)\)$/.exec(line.trim());
  if (match === null) throw new Error(`not a prototype: ${line}`);
  const [, result = "", name = "", list = ""] = match;
  const args = list === "void" ? [] : list.split(",").map((argument) => wireTypes(typeOf(argument), false));
  return { name, args, returns: wireTypes(typeOf(`${result}x`), true) };
}

/** "const void *buf" is "void*", "DWORD flags" is "DWORD", "long" is "long". */
function typeOf(declaration: string): string {
  const words = declaration.replace("const ", "").trim();
  return words.includes("*") ? `${words.slice(0, words.indexOf("*")).trim()}*` : words.split(" ")[0]!;
}

function faults(calls: Readonly<Record<string, Signature>>, prototypeText: string): string[] {
  const found: string[] = [];
  const expected = new Map(
    prototypeText
      .trim()
      .split("\n")
      .map((line) => [parse(line).name, parse(line)]),
  );
  for (const name of Object.keys(calls)) if (!expected.has(name)) found.push(`${name} has no prototype`);
  for (const [name, { args, returns }] of expected) {
    const call = calls[name];
    if (call === undefined) found.push(`${name} is missing`);
    else if (call.args.length !== args.length) found.push(`${name} takes ${args.length}, not ${call.args.length}`);
    else {
      args.forEach((types, index) => {
        if (!types.includes(call.args[index]!)) found.push(`${name} argument ${index} is ${call.args[index]}`);
      });
      if (!returns.includes(call.returns)) found.push(`${name} returns ${call.returns}`);
    }
  }
  return found;
}

for (const platform of platforms) {
  const { calls, operations, libraries } = symbolTables[platform];

  test(`each call of ${platform} has the arity, the pointers and the widths of its C prototype`, () => {
    expect(faults(calls, prototypes[platform])).toEqual([]);
  });

  test(`${platform} names the same operations as the others, and each call serves one`, () => {
    expect(Object.keys(operations).toSorted()).toEqual(Object.keys(symbolTables["linux-glibc"].operations).toSorted());
    const served = new Set(Object.values(operations).flat());
    expect([...served].toSorted()).toEqual(Object.keys(calls).toSorted());
  });

  test(`${platform} has library names to try`, () => {
    expect(libraries).toBe(librariesOf[platform]);
    for (const names of [libraries.memory, libraries.system]) {
      expect(names.length).toBeGreaterThan(0);
      expect(names.every((name) => /\.(so|dll|dylib)/.test(name))).toBe(true);
    }
  });
}

test("a call that has one name on two POSIX systems is declared alike on both", () => {
  const seen = new Map<string, Signature>();
  for (const platform of platforms.filter((name) => name !== "windows")) {
    for (const [name, signature] of Object.entries(symbolTables[platform].calls)) {
      expect({ name, ...signature }).toEqual({ name, ...(seen.get(name) ?? signature) });
      seen.set(name, signature);
    }
  }
  expect(seen.size).toBeGreaterThan(15);
});

test("the source of random bytes on Windows, which is in a library of its own, is declared as its prototype says", () => {
  expect(faults(windowsRandomCalls, "BOOL ProcessPrng(BYTE *data, SIZE_T bytes)")).toEqual([]);
});

test("libcrypto is declared as OpenSSL 3 has it, and is looked for by absolute paths on Linux alone", () => {
  const openssl = `
  int OPENSSL_init_crypto(uint64_t opts, const OPENSSL_INIT_SETTINGS *settings)
  EVP_CIPHER *EVP_CIPHER_fetch(OSSL_LIB_CTX *ctx, const char *algorithm, const char *properties)
  EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void)
  int EVP_CIPHER_CTX_reset(EVP_CIPHER_CTX *ctx)
  void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *ctx)
  int EVP_CipherInit_ex(EVP_CIPHER_CTX *ctx, EVP_CIPHER *type, ENGINE *impl, unsigned char *key, unsigned char *iv, int enc)
  int EVP_CipherUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outl, unsigned char *in, int inl)
  int EVP_CipherFinal_ex(EVP_CIPHER_CTX *ctx, unsigned char *outm, int *outl)
  int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *ctx, int type, int arg, void *ptr)
  unsigned char *EVP_Q_mac(OSSL_LIB_CTX *libctx, const char *name, const char *propq, const char *subalg, const OSSL_PARAM *params, const void *key, size_t keylen, const unsigned char *data, size_t datalen, unsigned char *out, size_t outsize, size_t *outlen)`;
  expect(faults(libcryptoCalls, openssl)).toEqual([]);
  for (const [platform, { crypto }] of Object.entries(librariesOf)) {
    expect(crypto.length > 0).toBe(platform.startsWith("linux"));
    expect(crypto.every((path) => /^\/(usr\/)?lib.*\/libcrypto\.so\.3$/.test(path))).toBe(true);
  }
});

test("the check finds a wrong width, a missing argument and a missing call", () => {
  const calls = { ...symbolTables["linux-glibc"].calls } as Record<string, Signature>;
  calls["pread"] = { args: ["i32", "ptr", "i32", "ptr"], returns: "i32" };
  calls["munmap"] = { args: ["ptr"], returns: "i32" };
  delete calls["flock"];
  expect(faults(calls, prototypes["linux-glibc"])).toEqual([
    "pread argument 2 is i32",
    "pread returns i32",
    "flock is missing",
    "munmap takes 2, not 1",
  ]);
});

test("the platform of this process has a table", () => {
  expect(platforms).toContain(hostPlatform());
});
