/**
 * What found each planted fault when it was last looked for; `find-again.ts` writes the table.
 *
 * It is a hint and saves time alone: a fault that its finder does not find is looked for by the whole probe.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Finder } from "./fault.ts";

export const finderTable = join(import.meta.dir, "finders.json");

export function readFinders(): ReadonlyMap<string, Finder> {
  return new Map(Object.entries(JSON.parse(readFileSync(finderTable, "utf8")) as Record<string, Finder>));
}
