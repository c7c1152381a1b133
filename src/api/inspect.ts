/** How handles show in `console.log`: their name and their public state; never options, which may hold a secret. */

/** The key that `console.log` and `Bun.inspect` look for. */
export const INSPECT: unique symbol = Symbol.for("nodejs.util.inspect.custom");

export type Inspect = (value: unknown, options?: object) => string;

export function inspected(
  title: string,
  shown: { readonly value: object; readonly options: object; readonly inspect: Inspect },
): string {
  return `${title} ${shown.inspect(shown.value, shown.options)}`;
}
