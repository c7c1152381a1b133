/**
 * kernel32's calls: how each is declared, and its type as TypeScript sees it.
 *
 * A HANDLE is a number of pointer size. It comes back as "i64_fast", since INVALID_HANDLE_VALUE is -1; so does
 * an address, since 0 must stay 0. BOOL is "i32", DWORD is "u32" (a `long` has 32 bits on Windows).
 */

import type { Signature } from "./library.ts";
import type { Place } from "./memory.ts";
import type { Address, FileHandle } from "./system.ts";

export interface WindowsCalls {
  CreateFileW(
    path: Uint8Array,
    access: number,
    share: number,
    security: Address,
    disposition: number,
    flags: number,
    template: number,
  ): FileHandle;
  ReOpenFile(file: FileHandle, access: number, share: number, flags: number): FileHandle;
  CloseHandle(handle: number): number;
  ReadFile(file: FileHandle, into: Place, bytes: number, moved: Address, overlapped: Address): number;
  WriteFile(file: FileHandle, from: Place, bytes: number, moved: Address, overlapped: Address): number;
  FlushFileBuffers(file: FileHandle): number;
  GetFileSizeEx(file: FileHandle, into: Address): number;
  GetFileInformationByHandle(file: FileHandle, into: Address): number;
  GetFileInformationByHandleEx(file: FileHandle, kind: number, into: Address, bytes: number): number;
  SetFileInformationByHandle(file: FileHandle, kind: number, from: Place, bytes: number): number;
  MoveFileExW(from: Uint8Array, to: Uint8Array, flags: number): number;
  LockFileEx(file: FileHandle, flags: number, zero: number, bytes: number, bytesHigh: number, at: Address): number;
  UnlockFileEx(file: FileHandle, zero: number, bytes: number, bytesHigh: number, at: Address): number;
  CreateFileMappingW(
    file: FileHandle,
    security: Address,
    protection: number,
    bytesHigh: number,
    bytesLow: number,
    name: Address,
  ): number;
  MapViewOfFile(mapping: number, access: number, positionHigh: number, positionLow: number, bytes: number): Address;
  UnmapViewOfFile(at: Address): number;
  VirtualAlloc(at: Address, bytes: number, kind: number, protection: number): Address;
  VirtualFree(at: Address, bytes: number, kind: number): number;
  GetCurrentThreadId(): number;
  OpenThread(access: number, inherit: number, thread: number): number;
  GetProcessIdOfThread(thread: number): number;
  GetThreadTimes(thread: number, created: Address, ended: Address, inKernel: Address, inProgram: Address): number;
  WaitForSingleObject(handle: number, timeoutMs: number): number;
  GetSystemInfo(into: Address): void;
  QueryPerformanceCounter(into: Address): number;
  QueryPerformanceFrequency(into: Address): number;
  GetLastError(): number;
}

/** bcryptprimitives: where the runtime itself takes its random bytes from, so it is always there. */
export interface WindowsRandomCalls {
  /** BOOL ProcessPrng(PBYTE data, SIZE_T bytes); never fails. */
  ProcessPrng(into: Place, bytes: number): number;
}

export const windowsRandomLibraries = ["bcryptprimitives.dll"] as const;

export const windowsRandomCalls = {
  ProcessPrng: { args: ["ptr", "ptr"], returns: "i32" },
} as const satisfies Record<keyof WindowsRandomCalls, Signature>;

export const windowsCalls = {
  CreateFileW: { args: ["ptr", "u32", "u32", "ptr", "u32", "u32", "ptr"], returns: "i64_fast" },
  ReOpenFile: { args: ["ptr", "u32", "u32", "u32"], returns: "i64_fast" },
  CloseHandle: { args: ["ptr"], returns: "i32" },
  ReadFile: { args: ["ptr", "ptr", "u32", "ptr", "ptr"], returns: "i32" },
  WriteFile: { args: ["ptr", "ptr", "u32", "ptr", "ptr"], returns: "i32" },
  FlushFileBuffers: { args: ["ptr"], returns: "i32" },
  GetFileSizeEx: { args: ["ptr", "ptr"], returns: "i32" },
  GetFileInformationByHandle: { args: ["ptr", "ptr"], returns: "i32" },
  GetFileInformationByHandleEx: { args: ["ptr", "i32", "ptr", "u32"], returns: "i32" },
  SetFileInformationByHandle: { args: ["ptr", "i32", "ptr", "u32"], returns: "i32" },
  MoveFileExW: { args: ["ptr", "ptr", "u32"], returns: "i32" },
  LockFileEx: { args: ["ptr", "u32", "u32", "u32", "u32", "ptr"], returns: "i32" },
  UnlockFileEx: { args: ["ptr", "u32", "u32", "u32", "ptr"], returns: "i32" },
  CreateFileMappingW: { args: ["ptr", "ptr", "u32", "u32", "u32", "ptr"], returns: "i64_fast" },
  MapViewOfFile: { args: ["ptr", "u32", "u32", "u32", "ptr"], returns: "i64_fast" },
  UnmapViewOfFile: { args: ["ptr"], returns: "i32" },
  VirtualAlloc: { args: ["ptr", "ptr", "u32", "u32"], returns: "i64_fast" },
  VirtualFree: { args: ["ptr", "ptr", "u32"], returns: "i32" },
  GetCurrentThreadId: { args: [], returns: "u32" },
  OpenThread: { args: ["u32", "i32", "u32"], returns: "i64_fast" },
  GetProcessIdOfThread: { args: ["ptr"], returns: "u32" },
  GetThreadTimes: { args: ["ptr", "ptr", "ptr", "ptr", "ptr"], returns: "i32" },
  WaitForSingleObject: { args: ["ptr", "u32"], returns: "u32" },
  GetSystemInfo: { args: ["ptr"], returns: "void" },
  QueryPerformanceCounter: { args: ["ptr"], returns: "i32" },
  QueryPerformanceFrequency: { args: ["ptr"], returns: "i32" },
  GetLastError: { args: [], returns: "u32" },
} as const satisfies Record<keyof WindowsCalls, Signature>;
