/** Keeping the queue of deadlines in step with the index: what each change of a record's newest version means to it. */

import { HASH_SHIFT } from "../../keydir/shard.ts";
import { withStored } from "../../ffi/positions.ts";
import type { Core } from "../core.ts";
import type { SpaceState } from "../spaces.ts";

/** The newest version of the loaded key is another one now. */
interface Change {
  /** Of the version that it replaces: it was a record with a deadline. */
  readonly hadDeadline: boolean;
  /** Of the new version; 0 for none, or for no record. */
  readonly expiresAtMs: number;
  readonly lsn: number;
}

/** After a write of the loaded key. @throws {EmdbError} EMDB_FULL; undoing the write then sets the count right */
export function noteDeadline(core: Core, space: SpaceState, change: Change): void {
  count(core, space, change);
  const { expiresAtMs, lsn } = change;
  if (expiresAtMs === 0) return;
  const { low, high } = slotOf(core, lsn);
  core.expiry.enter(space.address, expiresAtMs, low, high);
}

/** Before the loaded key, a new one, goes into the index with a deadline. @throws {EmdbError} EMDB_FULL */
export function noteDeadlineAhead(core: Core, space: SpaceState, frame: Omit<Change, "hadDeadline">): void {
  const { expiresAtMs, lsn } = frame;
  core.expiry.count(space.address, 1, core.key.hash);
  const { low, high } = slotOf(core, lsn);
  core.expiry.enterAhead(space.address, expiresAtMs, low, high);
}

/** After an undo: the entry of the version that is the newest again may have been taken or dropped meanwhile. */
export function restoreDeadline(core: Core, space: SpaceState, change: Change): void {
  count(core, space, change);
  const { expiresAtMs, lsn } = change;
  if (expiresAtMs === 0) return;
  // Of a batch that another thread has left. An entry that is there twice would never look stale.
  if (!core.expiry.isLeftKnown) return core.expiry.forget(space.address);
  const { low, high } = slotOf(core, lsn);
  core.expiry.restore(space.address, expiresAtMs, low, high);
}

function count(core: Core, space: SpaceState, change: Change): void {
  const records = (change.expiresAtMs === 0 ? 0 : 1) - (change.hadDeadline ? 1 : 0);
  if (records !== 0) core.expiry.count(space.address, records, core.key.hash);
}

/** The slot of the loaded key for a version of it that is a record. */
function slotOf(core: Core, lsn: number): { readonly low: number; readonly high: number } {
  const stored = core.heap.positions.stored(lsn / 8);
  return { low: stored >>> 0, high: withStored(core.key.hash << HASH_SHIFT, stored) };
}
