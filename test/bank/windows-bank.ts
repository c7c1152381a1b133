/** The part of the bug bank that is about kernel32's calls, which a test answers by a script; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

const CALLS = "test/ffi/windows-calls.test.ts";
const SYSTEM = "test/ffi/windows-system.test.ts";

/** What is asked of kernel32, what is made of its answers, and the handles that it gives. */
export const WINDOWS: readonly PlantedFault[] = [
  fault("a read on Windows that was short goes on where the memory begins", SYSTEM, "ffi/win32.ts", [
    "done === 0 ? into : addressOf(into) + done;",
    "into;",
  ]),
  fault("a write on Windows that was short goes on where the memory begins", SYSTEM, "ffi/win32.ts", [
    'done === 0 ? from : (typeof from === "number" ? from : addressOf(from)) + done;',
    "from;",
  ]),
  fault("a sync on Windows is told by how its handle was closed", SYSTEM, "ffi/win32.ts", [
    "    const result = this.#result(this.#calls.FlushFileBuffers(second));\n    this.#calls.CloseHandle(second);\n    return result;\n",
    "    this.#calls.FlushFileBuffers(second);\n    return this.#result(this.#calls.CloseHandle(second));\n",
  ]),
  fault("where Windows opens a file no second time nothing is synced", SYSTEM, "ffi/win32.ts", [
    "if (second === -1) return this.#result(this.#calls.FlushFileBuffers(file));",
    "if (second === -1) return 0;",
  ]),
  fault("an allocation on Windows cuts a longer file", SYSTEM, "ffi/win32.ts", [
    "if (size < 0 || bytes <= size) return Math.min(size, 0);",
    "if (size < 0) return size;",
  ]),
  fault("who asks whether a lock is held on Windows keeps it", SYSTEM, "ffi/win32.ts", [
    "    if (result >= 0) this.unlock(file);\n",
    "",
  ]),
  fault("each map on Windows leaves a handle", SYSTEM, "ffi/win32.ts", [
    "    this.#calls.CloseHandle(mapping);\n    return result;\n",
    "    return result;\n",
  ]),
  fault("a file on Windows is as long as the lower half of its length", CALLS, "ffi/win32-files.ts", [
    "bytes: u32[3]! * 2 ** 32 + u32[2]!, identity };",
    "bytes: u32[2]!, identity };",
  ]),
  fault("files on two volumes of Windows pass for one", CALLS, "ffi/win32-files.ts", [
    "identity: `${u32[7]!}:${u32[11]!}:${u32[12]!}` };",
    "identity: `${u32[11]!}:${u32[12]!}` };",
  ]),
  fault("a link on Windows is followed to what is made", CALLS, "ffi/win32-files.ts", [
    "if (file >= 0 && flags === FILE_FLAG_OPEN_REPARSE_POINT && isLink(calls, file)) {",
    "if (file >= 0 && flags < 0 && isLink(calls, file)) {",
  ]),
  fault("each look at a name on Windows leaves a handle", CALLS, "ffi/win32-files.ts", [
    "  const status = statusOfHandle(calls, file);\n  calls.CloseHandle(file);\n  return status;\n",
    "  return statusOfHandle(calls, file);\n",
  ]),
  fault("each look at a thread on Windows leaves a handle", CALLS, "ffi/win32-threads.ts", [
    "  calls.CloseHandle(handle);\n  // 0",
    "  // 0",
  ]),
];
