/** Loops that time an operation, synchronous ones without a promise per step. */

export type MaybePromise<T> = T | Promise<T>;

/** Nanoseconds per call over `count` calls. `operation` may answer with a promise from the first call on; then each is awaited. */
export async function perCall(count: number, operation: (index: number) => unknown): Promise<number> {
  if (count <= 0) return Number.NaN;
  const start = Bun.nanoseconds();
  const first = operation(0);
  if (first instanceof Promise) {
    await first;
    for (let index = 1; index < count; index++) await operation(index);
  } else plainLoop(count, operation);
  return (Bun.nanoseconds() - start) / count;
}

/** A function of its own: an async function's loop is compiled less well, and its locals live in a frame on the heap. */
function plainLoop(count: number, operation: (index: number) => unknown): void {
  for (let index = 1; index < count; index++) operation(index);
}

/** Nanoseconds for one piece of work. */
export async function once(work: () => unknown): Promise<number> {
  const start = Bun.nanoseconds();
  await work();
  return Bun.nanoseconds() - start;
}

/** The nanoseconds of every single call, for percentiles; each sample carries the clock's own 20 to 40 ns. */
export async function eachCall(count: number, operation: (index: number) => unknown): Promise<Float64Array> {
  const samples = new Float64Array(count);
  const isAsync = count > 0 && operation(0) instanceof Promise;
  for (let index = 0; index < count; index++) {
    const start = Bun.nanoseconds();
    if (isAsync) await operation(index);
    else operation(index);
    samples[index] = Bun.nanoseconds() - start;
  }
  return samples;
}
