/**
 * Windows: which thread it is, and whether it runs. A living one that passed for dead would lose its lock while it writes; a
 * dead one that passed for living would keep it, and its place in every database, for as long as another has its number.
 *
 * Windows gives the number of a thread that has ended to one of the next that begin. So a thread's name here has, besides its
 * number, something of the moment when it was made; two that have one number after each other hardly ever share that.
 *
 *     name (31 bits)    | moment (7) | number / 4 (24) |
 *
 * Numbers are multiples of 4, and those of all threads and processes fit in one table of 2^24 handles.
 */

import { assert } from "../errors.ts";
import { pinned } from "./memory.ts";
import type { WindowsCalls } from "./symbols-win32.ts";

const THREAD_ACCESS = 0x00100000 | 0x0800; // SYNCHRONIZE, THREAD_QUERY_LIMITED_INFORMATION
const WAIT_OBJECT_0 = 0;
const ERROR_ACCESS_DENIED = 5;
const ERROR_INVALID_PARAMETER = 87;

const NUMBER_STEP = 4;
const NUMBERS = 2 ** 24;
/** A prime, since clocks go by tens of thousands of the unit. */
const MOMENTS = 113;
/** In place of a moment that the system did not tell; the name and 1 still have 31 bits. */
const UNKNOWN = 126;

/** Four FILETIMEs, of 100 ns since 1601, low word first: made, ended, in the kernel, outside of it. */
const scratch = pinned(32);

/** What there is in a name of the moment when a thread was made. */
function momentOf(calls: WindowsCalls, handle: number): number {
  const { address, u32 } = scratch;
  if (calls.GetThreadTimes(handle, address, address + 8, address + 16, address + 24) === 0) return UNKNOWN;
  return ((u32[1]! % MOMENTS) * (2 ** 32 % MOMENTS) + u32[0]!) % MOMENTS;
}

/** The name of a living thread of this process with a number of the system's. */
export function threadName(calls: WindowsCalls, number: number): number {
  assert(number % NUMBER_STEP === 0 && number < NUMBER_STEP * NUMBERS, "a thread's number fits in its name");
  const handle = calls.OpenThread(THREAD_ACCESS, 0, number);
  const moment = handle === 0 ? UNKNOWN : momentOf(calls, handle);
  if (handle !== 0) calls.CloseHandle(handle);
  return moment * NUMBERS + number / NUMBER_STEP;
}

/** Whether the thread of this process with a name still runs. Where the system has no memory to tell, it does. */
export function isThreadRunning(calls: WindowsCalls, name: number): boolean {
  const handle = calls.OpenThread(THREAD_ACCESS, 0, (name % NUMBERS) * NUMBER_STEP);
  if (handle === 0) {
    const code = calls.GetLastError();
    // No thread has the number, or by now one of another process that is none of our business.
    return code !== ERROR_INVALID_PARAMETER && code !== ERROR_ACCESS_DENIED;
  }
  const owner = calls.GetProcessIdOfThread(handle);
  const moments = [Math.floor(name / NUMBERS), momentOf(calls, handle)];
  const hasEnded = calls.WaitForSingleObject(handle, 0) === WAIT_OBJECT_0;
  calls.CloseHandle(handle);
  // 0: the system does not tell.
  const isOurs = owner === process.pid || owner === 0;
  const isThat = moments.includes(UNKNOWN) || moments[0] === moments[1];
  return isOurs && isThat && !hasEnded;
}
