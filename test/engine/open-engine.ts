/** Opens an engine on a system of the test's own, past the registry of open engines. */

import type { Opened } from "../../src/engine/assemble.ts";
import { openFile as open } from "../../src/engine/open/open.ts";
import type { System } from "../../src/ffi/system.ts";

export type OpenedEngine = Opened;

export type Config = Parameters<typeof open>[1]["config"];

/** What engines are opened with unless a test says otherwise. */
export const CONFIG: Config = {
  defaultTtlMs: 0,
  rangeScans: false,
  flushPlan: { kind: "on-each-flush" },
  encryption: undefined,
  cipher: undefined,
  verifyReads: false,
  createIfMissing: true,
  lockTimeoutMs: 0,
  readOnly: false,
};

export function openFile(system: System, path: string, changes: Partial<Config> = {}): Opened {
  const defer = (work: () => void): void => void setImmediate(work);
  return open({ system, defer, hasWorkers: false }, { path, createFolders: false, config: { ...CONFIG, ...changes } });
}
