import { Emdb, type EmdbShare } from "../../src/index.ts";

const REGISTRY = Symbol.for("emdb.open-engines.1");

/** Attaches as another thread would: past this thread's list of what is open, which would give the owner's engine. */
export function attachApart(share: EmdbShare): Emdb {
  const holder = globalThis as { [REGISTRY]?: unknown };
  const own = holder[REGISTRY];
  delete holder[REGISTRY];
  try {
    return Emdb.attach(share);
  } finally {
    holder[REGISTRY] = own;
  }
}
