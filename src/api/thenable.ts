/** Whether `await` would wait for it. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return false;
  return typeof (value as { readonly then?: unknown }).then === "function";
}

/**
 * Keeps the rejection of a promise that nobody will wait for from ending the process. Only a real promise is touched:
 * calling `then` on a lazy one (a query builder) would start its work.
 */
export function silence(value: PromiseLike<unknown>): void {
  if (value instanceof Promise) value.catch(() => undefined);
}
