/** Waiting for what another thread, or the event loop, does. */

/** Lets the event loop turn, which writes what is pending. */
export async function turn(): Promise<void> {
  // What a thread puts off for the first time goes to the loop once the code that runs now has had its turn.
  await Promise.resolve();
  await new Promise<void>((resolve) => void setImmediate(resolve));
}

/** Turns until something holds, however busy the machine is; the test's timeout ends what never does. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}
