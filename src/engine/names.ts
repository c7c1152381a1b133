/** The names of namespaces, as their frames hold them. */

import { assert } from "../errors.ts";

/** A byte-order mark at the beginning belongs to the name: without it two names would be one. */
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A name from its UTF-8 bytes. */
export function decodeName(bytes: Uint8Array): string {
  const name = decoder.decode(bytes);
  assert(name.length > 0, "a namespace has a name");
  return name;
}
