/**
 * Workers whose program is text: that works from source, bundled, compiled into an executable, and inside another Worker,
 * where a file would not.
 */

import { shortage } from "../../ffi/descriptors.ts";
import type { System } from "../../ffi/system.ts";

/** Bun makes a Worker with a few descriptors of its own, and ends the process where it cannot have them. */
const WORKER_DESCRIPTORS = 16;

/** Whether so many can be started without harm. */
export function hasRoomForWorkers(system: Pick<System, "open" | "close">, count: number): boolean {
  return shortage(system, WORKER_DESCRIPTORS * count) === undefined;
}

/** Starts one that keeps no process alive, and sends it its first message. It is lost when it could not start, or died. */
export function startFromText(
  text: string,
  { message, onLost }: { readonly message: object; readonly onLost: () => void },
): Worker {
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const worker = new Worker(url);
  const revoke = (): void => URL.revokeObjectURL(url);
  // One that is told to end before it has begun says nothing.
  for (const name of ["message", "error", "close"]) worker.addEventListener(name, revoke, { once: true });
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    onLost();
  });
  (worker as { unref?: () => void }).unref?.();
  worker.postMessage(message);
  return worker;
}
