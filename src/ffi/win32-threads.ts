/** Windows: whether a thread runs. A living one that passed for dead would lose its lock while it writes. */

import type { WindowsCalls } from "./symbols-win32.ts";

const THREAD_ACCESS = 0x00100000 | 0x0800; // SYNCHRONIZE, THREAD_QUERY_LIMITED_INFORMATION
const WAIT_OBJECT_0 = 0;
const ERROR_ACCESS_DENIED = 5;
const ERROR_INVALID_PARAMETER = 87;

/** Whether a thread of this process still runs. Where the system has no memory to tell, it does. */
export function isThreadRunning(calls: WindowsCalls, thread: number): boolean {
  const handle = calls.OpenThread(THREAD_ACCESS, 0, thread);
  if (handle === 0) {
    const code = calls.GetLastError();
    // No thread has the number, or by now one of another process that is none of our business.
    return code !== ERROR_INVALID_PARAMETER && code !== ERROR_ACCESS_DENIED;
  }
  const owner = calls.GetProcessIdOfThread(handle);
  const hasEnded = calls.WaitForSingleObject(handle, 0) === WAIT_OBJECT_0;
  calls.CloseHandle(handle);
  // The number of a thread that ended may by now name one of another process. 0: the system does not tell.
  return (owner === process.pid || owner === 0) && !hasEnded;
}
