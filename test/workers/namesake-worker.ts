/** A thread that has the number of one that has died in the middle of much, before it attaches and goes on. */

import { LONG_WORK, Control, SNAPSHOTS, SNAPSHOT_ROWS, SYNC_OWNER } from "../../src/engine/control.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { RECLAIM_ATTACHED, ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import { Emdb, type EmdbShare } from "../../src/index.ts";

/** A row that nobody has. */
const ROW = 7;

self.onmessage = async ({ data: share }: MessageEvent<EmdbShare>): Promise<void> => {
  const { flags, numbers, reclaim } = new Control((share as unknown as { buffer: SharedArrayBuffer }).buffer);
  Atomics.add(reclaim, RECLAIM_ATTACHED, 1);
  Atomics.store(reclaim, ROW_THREAD_AT + ROW, hostSystem().threadId() + 1);
  Atomics.store(flags, SYNC_OWNER, ROW + 1);
  Atomics.store(flags, LONG_WORK, ROW + 1);
  Atomics.add(flags, SNAPSHOTS, 1);
  numbers[SNAPSHOT_ROWS + ROW] = 1;
  const db = Emdb.attach(share);
  const rows = [Atomics.load(reclaim, ROW_THREAD_AT + ROW), Atomics.load(reclaim, RECLAIM_ATTACHED)];
  db.insert("key", "value");
  db.flushSync();
  await db.compact();
  const { length } = [...db.keys()];
  db.closeSync();
  postMessage({ rows, snapshots: Atomics.load(flags, SNAPSHOTS), length });
};
