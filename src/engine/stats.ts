/** What a database says of itself. The bytes of its log are live (a compaction would write them again) or dead. */

import type { EmdbStats } from "../api/types.ts";
import { HEADER_PAGE_BYTES } from "../limits.ts";
import { LOG_TAIL, LOG_VISIBLE } from "../log/log-words.ts";
import type { SharedBase } from "./base.ts";
import type { Core } from "./core.ts";
import type { Engine } from "./engine.ts";
import type { Spaces } from "./spaces.ts";

/** Bytes of the log so far, its header included. */
function logBytes(core: Core): number {
  return core.control.log.numbers[core.isReadOnly ? LOG_VISIBLE : LOG_TAIL]! - core.base;
}

/** Bytes of the log that a compaction would give back. */
export function deadBytes(core: Core, spaces: Spaces): number {
  let live = HEADER_PAGE_BYTES + core.sessionBytes + spaces.counts(spaces.default).bytes;
  for (const space of spaces.list()) live += spaces.counts(space).bytes + core.creationBytes(space);
  return logBytes(core) - live;
}

export function statsOf(engine: Engine, base: SharedBase): EmdbStats {
  const { core, spaces } = engine;
  core.enter();
  const logical = logBytes(core);
  const named = spaces.list();
  let records = spaces.visibleRecords(spaces.default);
  for (const space of named) records += spaces.visibleRecords(space);
  const fileSizeBytes = core.file === undefined ? logical : Math.max(0, core.system.size(core.file.handle));
  return {
    liveRecords: records,
    namespaceCount: named.length,
    logicalSizeBytes: logical,
    fileSizeBytes,
    preallocatedBytes: Math.max(0, fileSizeBytes - logical),
    deadBytes: deadBytes(core, spaces),
    indexBytes: core.heap.bytes,
    rangeScansEnabled: base.config.rangeScans,
    encrypted: base.cipher !== undefined,
  };
}
