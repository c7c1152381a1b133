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

/** How often the numbers are read anew, when another Worker wrote meanwhile, before its lock is waited for. */
const ATTEMPTS = 10;

export function statsOf(engine: Engine, base: SharedBase): EmdbStats {
  const { core } = engine;
  core.enter();
  if (!core.isShared || core.isReadOnly) return read(engine, base);
  const words = core.control.log.numbers;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [tail, visible, at] = [words[LOG_TAIL]!, words[LOG_VISIBLE]!, core.base];
    core.log.barrier();
    const stats = read(engine, base);
    core.log.barrier();
    if (tail === visible && words[LOG_TAIL] === tail && core.base === at) return stats;
  }
  core.mutex.lock();
  try {
    return read(engine, base);
  } finally {
    core.mutex.unlock();
  }
}

function read({ core, spaces }: Engine, base: SharedBase): EmdbStats {
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
