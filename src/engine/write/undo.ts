/**
 * Taking back frames that nobody has been shown: those of a batch that failed, or that a dead Worker or a
 * crash left without its end.
 *
 * For each frame from `start` on, the slot of its key goes back to the newest version before `start`, found
 * by the chain of previous versions. That is the same whichever frame of a key is met first, so it may be
 * done twice, or after it was half done.
 */

import { isTombstone } from "../../keydir/keydir.ts";
import {
  FRAME_HEADER_BYTES,
  KIND_CLEAR,
  KIND_PUT,
  KIND_REMOVE,
  KIND_SPACE_CREATE,
  KIND_SPACE_DROP,
  SHAPE_EXPIRY,
  kindOf,
} from "../../log/frame.ts";
import { assert } from "../../errors.ts";
import type { Core } from "../core.ts";
import { restoreDeadline } from "./deadlines.ts";
import type { Gates } from "../hint/gates.ts";
import { SPACE_LIVE, type SpaceState, type Spaces } from "../spaces.ts";

/**
 * Undoes every frame from `start` to the tail. Under the writer's lock. With gates, frames that stand before them
 * were never done: the index came from an image, and says already what is right behind them.
 */
export function undo(core: Core, spaces: Spaces, start: number, gates?: Gates): void {
  const lookup = core.lookup;
  for (let lsn = start; lsn < core.tail.end;) {
    lookup.loadAnyAt(lsn);
    const bytes = lookup.frameBytes();
    const kind = kindOf(lookup.shape);
    const id = lookup.space();
    const isHeld = gates !== undefined && start < gates.of(id);
    const space = isHeld ? undefined : spaces.byId(id);
    if (space !== undefined) {
      if (kind === KIND_PUT || kind === KIND_REMOVE) {
        core.ordering?.undo(spaces, space, { lsn, start });
        lookup.loadAnyAt(lsn);
        undoRecord(core, spaces, { space, start });
      } else if (kind === KIND_CLEAR) spaces.exhume(space, lsn);
      else if (kind === KIND_SPACE_DROP) {
        spaces.setState(space, SPACE_LIVE);
        spaces.exhume(space, lsn);
      }
    }
    // By its number: a creation that nobody was shown has not been learned by this thread.
    if (kind === KIND_SPACE_CREATE && !isHeld) spaces.forget(id);
    lsn += bytes;
  }
}

/** Puts the slot of the key of the frame that was found back to where it pointed before `start`. */
function undoRecord(core: Core, spaces: Spaces, batch: { readonly space: SpaceState; readonly start: number }): void {
  const { lookup, keydir } = core;
  core.key.loadFrom(lookup.frame.address + FRAME_HEADER_BYTES, lookup.shape >>> 16);
  if (keydir.seek(spaces.root(batch.space), core.key.hash) && batch.start < keydir.standsFor) {
    uncount(core, spaces, batch.space);
    return;
  }
  if (!lookup.findNewest(spaces.root(batch.space)) || lookup.lsn < batch.start) return;
  const wasLive = !lookup.isRemoved;
  const dropped = wasLive ? lookup.liveBytes() : 0;
  const hadDeadline = wasLive && (lookup.shape & SHAPE_EXPIRY) !== 0;
  let prev = lookup.lsn;
  while (prev >= batch.start) {
    lookup.loadAt(prev);
    prev = lookup.prev();
  }
  let isLive = false;
  if (prev !== 0) {
    lookup.loadAt(prev);
    isLive = kindOf(lookup.shape) === KIND_PUT;
  }
  const kept = isLive ? lookup.liveBytes() : 0;
  const expiresAtMs = isLive ? lookup.expiresAtMs() : 0;
  assert(keydir.units >= batch.start / 8, "the slot is the batch's");
  assert(isTombstone(keydir.high) === !wasLive, "the slot says what its frame says");
  keydir.replace(prev / 8, !isLive);
  spaces.count(batch.space, (isLive ? 1 : 0) - (wasLive ? 1 : 0), kept - dropped);
  restoreDeadline(core, batch.space, { hadDeadline, expiresAtMs, lsn: prev });
}

/** Takes the frame that was found out of the counts; its shard, from an image, does not know it. */
function uncount(core: Core, spaces: Spaces, space: SpaceState): void {
  const { lookup } = core;
  const isPut = kindOf(lookup.shape) === KIND_PUT;
  const bytes = isPut ? lookup.liveBytes() : 0;
  const hadDeadline = isPut && (lookup.shape & SHAPE_EXPIRY) !== 0;
  const prev = lookup.prev();
  let wasLive = false;
  if (prev !== 0) {
    lookup.loadAt(prev);
    wasLive = kindOf(lookup.shape) === KIND_PUT;
  }
  spaces.count(space, (wasLive ? 1 : 0) - (isPut ? 1 : 0), (wasLive ? lookup.liveBytes() : 0) - bytes);
  const expiresAtMs = wasLive ? lookup.expiresAtMs() : 0;
  restoreDeadline(core, space, { hadDeadline, expiresAtMs, lsn: prev });
}
