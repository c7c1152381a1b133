/** Waiting for what another thread, or the event loop, does. */

/** Lets the event loop turn, which writes what is pending. */
export async function turn(): Promise<void> {
  await new Promise<void>((resolve) => void setImmediate(resolve));
}

/** Turns until something holds, however busy the machine is; the test's timeout ends what never does. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}
