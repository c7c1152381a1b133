let isEnding = false;

/** Work for the moment when the process, or the Worker, ends in good order. Never relied upon. */
export function onProcessExit(work: () => void): void {
  process.on("exit", () => {
    isEnding = true;
    work();
  });
}

/** Whether that moment has come: what runs now, other listeners of it, is the last, and no event loop turns behind it. */
export function isProcessEnding(): boolean {
  return isEnding;
}
