/** The moment when the process, or the Worker, ends in good order. */

let isWatched = false;
let isEnding = false;

/** From then on `isProcessEnding` tells. To be called before anything depends on it, also when that moment has come. */
export function watchProcessEnd(): void {
  if (isWatched) return;
  isWatched = true;
  // While the listeners run, one that is added is not called any more.
  isEnding = hasEndBegun();
  process.on("exit", () => {
    isEnding = true;
  });
}

/** What the runtime says itself, as Node does. */
function hasEndBegun(): boolean {
  return (process as { readonly _exiting?: boolean })._exiting === true;
}

/** Work for that moment. Never relied upon: where it has come already, this does nothing. */
export function onProcessExit(work: () => void): void {
  process.on("exit", work);
}

/** Whether that moment has come: what runs now, listeners of it, is the last, and no event loop turns behind it. */
export function isProcessEnding(): boolean {
  return isEnding;
}
