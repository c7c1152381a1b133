/**
 * The part of the bug bank that is about kernel32's calls, which a test answers by a script, and about what becomes of names
 * where a mapped file is not replaced; see `bank.ts`.
 */

import { fault, type PlantedFault } from "./fault.ts";

const CALLS = "test/ffi/windows-calls.test.ts";
const SYSTEM = "test/ffi/windows-system.test.ts";
const SIM_WINDOWS = "test/sim/windows.test.ts";
const LOG_NAME = "test/sim/windows-log-name.test.ts";

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
  fault("a file that a virus scanner has mapped for a moment cannot be cut on Windows", SYSTEM, "ffi/win32-files.ts", [
    'patience === "at once" ? [] : MAPPED,',
    "[],",
  ]),
  fault("a file that a virus scanner has in hand for a moment cannot be removed on Windows", SYSTEM, "ffi/win32.ts", [
    "return untilShared(() => super.unlink(path), [Errno.EBUSY]);",
    "return super.unlink(path);",
  ]),
  fault("a removal on Windows waits whatever refuses it", SYSTEM, "ffi/win32.ts", [
    "super.unlink(path), [Errno.EBUSY]);",
    "super.unlink(path), [Errno.EBUSY, Errno.EACCES]);",
  ]),
  fault("nothing is at a path on a server that Windows does not reach", SYSTEM, "ffi/errno.ts", [
    '[53, "EHOSTUNREACH"]',
    '[53, "ENOENT"]',
  ]),
  fault("a close on Windows waits for whoever reads the file", SIM_WINDOWS, "engine/sync/sync.ts", [
    'end - core.base + markBytes, "at once");',
    "end - core.base + markBytes);",
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
  fault("a file of which Windows has no memory to tell passes for another one", CALLS, "ffi/win32-files.ts", [
    "return failure === -Errno.ENOMEM ? failure : statusWithoutId(calls, file);",
    "return failure === 0 ? failure : statusWithoutId(calls, file);",
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
  fault(
    "where Windows renames no file by its handle, and says so in other words, it is not renamed",
    CALLS,
    "ffi/win32-files.ts",
    [
      "return HELD_OR_DENIED.includes(-failure) ? failure : undefined;",
      "return [1, 50, 87].includes(-failure) ? undefined : failure;",
    ],
  ),
  fault(
    "a folder that cannot be listed passes for one without a log that was moved aside",
    LOG_NAME,
    "engine/open/put-back.ts",
    ['if (typeof names === "number" && !isMissing(names)) throw', "if (names === -Errno.EIO) throw"],
  ),
  fault("a log that was moved aside and cannot be opened passes for none", LOG_NAME, "engine/open/put-back.ts", [
    "if (page.result === -Errno.ENOENT || page.result === -Errno.EISDIR) return undefined;",
    "if (page.result < 0) return undefined;",
  ]),
  fault("a log that was moved aside is any that has its name", LOG_NAME, "engine/files/siblings.ts", [
    "return id === shortId(fileId);",
    "return id.length > 0;",
  ]),
  fault(
    "of what was out of the way of drafts an open removes the first alone",
    SIM_WINDOWS,
    "engine/files/siblings.ts",
    [".some((gone) => system.unlink(gone) === -Errno.ENOENT)", ".slice(0, 1).map((gone) => system.unlink(gone))"],
  ),
  fault("a log that was moved aside is looked for in one spelling", LOG_NAME, "engine/files/siblings.ts", [
    "spelled(of) === spelled(log)",
    "of === log",
  ]),
  fault("a log that was moved aside is not there for who only reads", LOG_NAME, "engine/open/put-back.ts", [
    "if (file !== undefined && aside !== undefined) return { file, found: aside };",
    "if (file !== undefined && aside !== undefined) break;",
  ]),
  fault("who reads looks for the log's name once", LOG_NAME, "engine/open/put-back.ts", [
    "if (system.canMapPastEnd || (file === undefined && hasLooked)) break;",
    "if (system.canMapPastEnd || file === undefined) break;",
  ]),
  fault("a close removes the log in service that has lost its name", LOG_NAME, "engine/copy/relocation.ts", [
    'typeof system.status(log.path) === "number" ? [] : replacedPaths(system, log);',
    "replacedPaths(system, log);",
  ]),
  fault(
    "a compaction on Windows replaces what somebody has put where the log was",
    LOG_NAME,
    "engine/files/lock-file.ts",
    ["return system.canMapPastEnd || !isLocked(system, path);", "return system.canMapPastEnd;"],
  ),
  fault(
    "whoever has a lock that was broken on Windows passes for one without rights",
    SIM_WINDOWS,
    "engine/files/lock-file.ts",
    [
      "if (handle === -Errno.EACCES && isGoing(system, system.status(path))) throw lockedError(system, logPath);",
      "if (handle === -Errno.EPERM) throw lockedError(system, logPath);",
    ],
  ),
  fault("a lock that is removed and not closed yet is asked for once", SIM_WINDOWS, "engine/files/lock-file.ts", [
    "for (let pause = 0; isGoing(system, handle) && pause < PAUSES; pause++) {",
    "for (let pause = 0; isGoing(system, handle) && pause < 0; pause++) {",
  ]),
  fault("a table of moves on Windows is closed while it is read", SIM_WINDOWS, "engine/copy/swap.ts", [
    "if (system.canMapPastEnd) closeMovesFile(system, control);",
    "if (control !== undefined) closeMovesFile(system, control);",
  ]),
  fault("a table of moves on Windows stays open when nobody reads it", SIM_WINDOWS, "engine/copy/relocation.ts", [
    "  closeFile(system, segments.movesFile(at));\n",
    "",
  ]),
  fault("a path on Windows without a real one is where its last link stands", SYSTEM, "ffi/win32.ts", [
    "name = resolve(dirname(name), target);",
    "return name;",
  ]),
  fault("what Windows does not let be made is told as missing", CALLS, "ffi/win32-files.ts", [
    "if (disposition !== OPEN_EXISTING && file === -ERROR_FILE_NOT_FOUND) return -Errno.EPERM;",
    "",
  ]),
  fault("each look at a thread on Windows leaves a handle", CALLS, "ffi/win32-threads.ts", [
    "  calls.CloseHandle(handle);\n  // 0",
    "  // 0",
  ]),
];
