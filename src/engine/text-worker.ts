/**
 * Workers whose program is text: that works from source, bundled, compiled into an executable, and inside another Worker,
 * where a file would not.
 */

/** Starts one that keeps no process alive, and sends it its first message. It is lost when it could not start, or died. */
export function startFromText(
  text: string,
  { message, onLost }: { readonly message: object; readonly onLost: () => void },
): Worker {
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const worker = new Worker(url);
  worker.addEventListener("message", () => URL.revokeObjectURL(url), { once: true });
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    onLost();
  });
  (worker as { unref?: () => void }).unref?.();
  worker.postMessage(message);
  return worker;
}
