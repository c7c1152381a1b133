import { STREAM_RECORDS_PER_TURN } from "../limits.ts";

/**
 * A walk as a stream. It takes one record for each that is asked for and none ahead, so an idle one costs its snapshot
 * and nothing else: no thread, no timer. Cancelling lets the snapshot go.
 */
export function recordStream<T>(records: IteratorObject<T, undefined>): ReadableStream<T> {
  let inTurnCount = 0;
  let isCancelled = false;
  const source = {
    async pull(controller: ReadableStreamDefaultController<T>): Promise<void> {
      inTurnCount += 1;
      if (inTurnCount >= STREAM_RECORDS_PER_TURN) {
        inTurnCount = 0;
        // A reader's loop runs on promises alone, which would keep timers and sockets waiting to the end.
        await new Promise<void>((resolve) => {
          setImmediate(resolve);
        });
        if (isCancelled) return;
      }
      const step = records.next();
      if (step.done === true) controller.close();
      else controller.enqueue(step.value);
    },
    cancel(): void {
      isCancelled = true;
      records.return?.();
    },
  };
  return new ReadableStream(source, { highWaterMark: 0 });
}
