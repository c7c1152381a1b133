/** Opening and closing for `MemoryStore`: the twin of what the engine's door gives. */

import { Database } from "../../src/api/database.ts";
import type { Lifecycle } from "../../src/engine/life.ts";
import type { EmdbStats, RecoveryReport } from "../../src/api/types.ts";
import { EmdbError } from "../../src/errors.ts";
import type { MemoryStore } from "../support/memory-store.ts";

const RECOVERY: RecoveryReport = {
  usedCheckpoint: false,
  replayedRecords: 0,
  tornBytes: 0,
  missingBytes: 0,
  durationMs: 0,
};

const handleCounts = new WeakMap<MemoryStore, number>();

/** One more handle on `store`, which closes with its last one. */
export function memoryLife(store: MemoryStore, options: { readonly defaultTtlMs?: number } = {}): Lifecycle {
  let isReleased = false;
  handleCounts.set(store, (handleCounts.get(store) ?? 0) + 1);
  const release = (): void => {
    if (isReleased) return;
    isReleased = true;
    const left = (handleCounts.get(store) ?? 0) - 1;
    handleCounts.set(store, left);
    if (left === 0) store.isOpen = false;
  };
  return {
    store,
    defaultTtlMs: options.defaultTtlMs ?? 0,
    path: undefined,
    recovery: RECOVERY,
    findSpace: (name) => store.findSpace(name),
    share: () => ({ kind: "emdb-share" }),
    stats: () => statsOf(store),
    flush: () => Promise.resolve(),
    flushSync: () => undefined,
    checkpoint: () => Promise.resolve(),
    compact: () => Promise.resolve(),
    backupTo: () => Promise.reject(new EmdbError("EMDB_UNSUPPORTED", "the twin has no file")),
    verify: () => Promise.resolve({ records: store.liveCount(), bytes: 0, problems: [] }),
    close: () => Promise.resolve(release()),
    closeSync: release,
  };
}

/** A database over the twin. */
export function memoryDatabase(store: MemoryStore, options: { readonly defaultTtlMs?: number } = {}): Database {
  return new Database(memoryLife(store, options));
}

function statsOf(store: MemoryStore): EmdbStats {
  return {
    liveRecords: store.liveCount(),
    namespaceCount: store.spaceNames().length,
    logicalSizeBytes: 0,
    fileSizeBytes: 0,
    preallocatedBytes: 0,
    deadBytes: 0,
    indexBytes: 0,
    rangeScansEnabled: store.hasRangeScans,
    encrypted: false,
  };
}
