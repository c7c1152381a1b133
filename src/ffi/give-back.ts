/** Giving memory back, behind work that is done. */

import { EmdbError } from "../errors.ts";

/**
 * For the `catch` around what gives memory back. That may ask for memory itself; where there is none it is done another
 * time, and the work counts as done all the same. What is a bug of ours is thrown on.
 */
export function leaveForLater(error: unknown): void {
  if (!(error instanceof EmdbError)) throw error;
}
