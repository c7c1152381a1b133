/** Work for the moment when the process, or the Worker, ends in good order. Never relied upon. */
export function onProcessExit(work: () => void): void {
  process.on("exit", work);
}
