/** `node:fs`, loaded when it is first needed: that takes 1.5 to 2.5 ms, and Linux hardly needs it (linux-names.ts). */

import type NodeFs from "node:fs";

let loaded: typeof NodeFs | undefined;

export function nodeFs(): typeof NodeFs {
  return (loaded ??= process.getBuiltinModule("node:fs"));
}
