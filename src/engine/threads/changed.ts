/** Waiting for a shared word while the event loop turns. */

import { NEVER_MS } from "../../limits.ts";

/**
 * Resolves when somebody notifies the word, when it does not have the value any more, or after a while. The process goes on
 * meanwhile: by itself such waiting holds none.
 */
export async function changed(
  words: Int32Array,
  { word, value, waitMs }: { readonly word: number; readonly value: number; readonly waitMs: number },
): Promise<void> {
  const outcome = Atomics.waitAsync(words, word, value, waitMs);
  if (!outcome.async) return;
  const keepAlive = setInterval(() => undefined, NEVER_MS);
  try {
    await outcome.value;
  } finally {
    clearInterval(keepAlive);
  }
}
