/** What a database says of itself. The bytes of its log are live (a compaction would write them again) or dead. */

import type { EmdbStats } from "../api/types.ts";
import { EmdbError } from "../errors.ts";
import { EXPIRED_LOOKS_MAX, HEADER_PAGE_BYTES } from "../limits.ts";
import { LOG_TAIL, LOG_VISIBLE } from "../log/log-words.ts";
import type { SharedBase } from "./threads/base.ts";
import type { Core } from "./core.ts";
import type { Engine } from "./engine.ts";
import type { SpaceState, Spaces } from "./spaces.ts";
import { AUDIT } from "./threads/control.ts";

/** Bytes of the log so far, its header included. */
function logBytes(core: Core): number {
  return core.control.log.numbers[core.isReadOnly ? LOG_VISIBLE : LOG_TAIL]! - core.base;
}

/** Bytes of the log that a compaction would give back, without those of expired records. */
export function deadBytes(core: Core, spaces: Spaces): number {
  let live = HEADER_PAGE_BYTES + core.sessionBytes + spaces.counts(spaces.default).bytes;
  for (const space of spaces.list()) live += spaces.counts(space).bytes + core.creationBytes(space);
  // A crash may have left one of a session's two records and nothing else: less than a compaction would write.
  return Math.max(0, logBytes(core) - live);
}

/** How often the numbers are read anew, when another Worker wrote meanwhile, before its lock is waited for. */
const ATTEMPTS = 10;

/**
 * What the database says of itself, all of one moment. Expired records that nobody has swept count as dead where that can be told without
 * waiting: while another thread writes, they do not.
 */
export function statsOf(engine: Engine, base: SharedBase): EmdbStats {
  const { core, spaces } = engine;
  core.enter();
  const all = [spaces.default, ...spaces.list()];
  const nowMs = core.now();
  if (core.isReadOnly || !core.mutex.tryLock()) return statsOfMoment(engine, base);
  try {
    const isWhole = core.control.flags[AUDIT] === 0 && core.tail.end === core.visible;
    const stats = statsOfMoment(engine, base);
    if (!isWhole) return stats;
    core.takeFile();
    const budget = { nowMs, looksLeft: EXPIRED_LOOKS_MAX };
    let expired = 0;
    for (const space of all) expired += expiredBytes(core, space, budget);
    return expired === 0 ? stats : { ...stats, deadBytes: stats.deadBytes + expired };
  } finally {
    core.mutex.unlock();
  }
}

/** What the records of a key space whose deadlines have passed take in a compacted log. Under the writer's lock. */
function expiredBytes(core: Core, space: SpaceState, budget: { readonly nowMs: number; looksLeft: number }): number {
  const { expiry, lookup } = core;
  // Some records have two entries.
  const seen = new Set<number>();
  let bytes = 0;
  expiry.eachDue(space.address, { nowMs: budget.nowMs, most: budget.looksLeft }, () => {
    budget.looksLeft -= 1;
    const { low, high, deadlineMs } = expiry;
    const units = core.heap.positions.units(low, high);
    if (seen.has(units) || !expiry.isHeld(space.address, low, high)) return;
    seen.add(units);
    bytes += expiredBytesAt(lookup, units * 8, deadlineMs);
  });
  return bytes;
}

/** The same of the record at a position, if it has the deadline that its entry says; one that has rotted is left to a sweep. */
function expiredBytesAt(lookup: Core["lookup"], lsn: number, deadlineMs: number): number {
  try {
    lookup.loadAt(lsn);
    return lookup.expiresAtMs() === deadlineMs ? lookup.liveBytes() : 0;
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
    return 0;
  }
}

function statsOfMoment(engine: Engine, base: SharedBase): EmdbStats {
  const { core } = engine;
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
