/** The names of namespaces, as their frames hold them. */

import { assert } from "../errors.ts";

/** A byte-order mark at the beginning belongs to the name: without it two names would be one. */
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Whether bytes are a name as every writer makes it of a string. Of others two might be one name, or a longer one than is allowed. */
export function isName(bytes: Uint8Array): boolean {
  try {
    return strictDecoder.decode(bytes).length > 0;
  } catch {
    return false;
  }
}

/** A name from its UTF-8 bytes. */
export function decodeName(bytes: Uint8Array): string {
  const name = decoder.decode(bytes);
  assert(name.length > 0, "a namespace has a name");
  return name;
}
