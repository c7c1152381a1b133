/**
 * What was done to a file since its last good sync, and what of it a power loss leaves.
 *
 * Invariants
 * 1. Changes are applied in the order they were made; each sector of each write has a fate of its own.
 * 2. A write that makes the file longer is two changes, its bytes and `grow`, because the size may persist
 *    before, after or without the data.
 * 3. Whatever a change left behind the final size is not part of the file.
 */

import { ContentBuilder } from "./content.ts";
import type { FileContent } from "./content.ts";
import type { Fate } from "./draw.ts";

export type PendingChange =
  | { readonly kind: "write"; readonly position: number; readonly bytes: Uint8Array }
  | { readonly kind: "grow"; readonly to: number }
  /** truncate and allocate: a journaled change of the size. */
  | { readonly kind: "resize"; readonly to: number; readonly sequence: number };

export interface RenderOptions {
  readonly sectorBytes: number;
  /** Changes of the journal before this one are durable whatever the draw says. */
  readonly committedSequence: number;
  /** Old contents of other blocks, that a fresh block may show. */
  readonly stale: readonly Uint8Array[];
  /** Ordered: what is written behind a truncation that did not persist went to blocks that nothing refers to. */
  readonly isOrdered: boolean;
}

/** The content when every change reached the disk: what a good sync makes durable, and what reads see. */
export function applyAll(durable: FileContent, changes: readonly PendingChange[]): FileContent {
  if (changes.length === 0) return durable;
  const builder = new ContentBuilder(durable);
  let size = durable.bytes;
  for (const change of changes) {
    if (change.kind === "write") {
      builder.write(change.position, change.bytes);
    } else if (change.kind === "grow") {
      size = Math.max(size, change.to);
    } else {
      if (change.to < size) builder.cut(change.to);
      size = change.to;
    }
  }
  return builder.finish(size);
}

/** The content that a power loss leaves. */
export function renderCrash(
  durable: FileContent,
  {
    changes,
    fate,
    options,
  }: { readonly changes: readonly PendingChange[]; readonly fate: Fate; readonly options: RenderOptions },
): FileContent {
  if (changes.length === 0) return durable;
  const builder = new ContentBuilder(durable);
  let size = durable.bytes;
  let reach = Number.POSITIVE_INFINITY;
  for (const change of changes) {
    if (change.kind === "write") {
      const count = Math.min(change.bytes.length, reach - change.position);
      if (count > 0) {
        const bytes = count < change.bytes.length ? change.bytes.subarray(0, count) : change.bytes;
        writeSectors(builder, { position: change.position, bytes, durableBytes: durable.bytes, fate, options });
      }
    } else if (change.kind === "grow") {
      if (change.to > size) size = fate.grownSize({ from: size, to: change.to });
    } else if (change.sequence < options.committedSequence || fate.keepsChange(change.sequence)) {
      if (change.to < size) builder.cut(change.to);
      size = change.to;
    } else if (options.isOrdered && change.to < size) {
      reach = Math.min(reach, change.to);
    }
  }
  return builder.finish(size);
}

interface SectorWrite {
  readonly position: number;
  readonly bytes: Uint8Array;
  readonly durableBytes: number;
  readonly fate: Fate;
  readonly options: RenderOptions;
}

function writeSectors(builder: ContentBuilder, write: SectorWrite): void {
  const { position, bytes, durableBytes, fate, options } = write;
  if (fate.data === "lost") return;
  if (fate.data === "kept") {
    builder.write(position, bytes);
    return;
  }
  let done = 0;
  while (done < bytes.length) {
    const at = position + done;
    const room = options.sectorBytes - (at % options.sectorBytes);
    const piece = bytes.subarray(done, Math.min(bytes.length, done + room));
    const isFresh = at - (at % options.sectorBytes) >= durableBytes;
    writeSector(builder, { position: at, piece, isFresh, fate, stale: options.stale });
    done += piece.length;
  }
}

interface SectorPiece {
  readonly position: number;
  readonly piece: Uint8Array;
  readonly isFresh: boolean;
  readonly fate: Fate;
  readonly stale: readonly Uint8Array[];
}

function writeSector(builder: ContentBuilder, { position, piece, isFresh, fate, stale }: SectorPiece): void {
  const outcome = fate.sector({ isFresh });
  switch (outcome) {
    case "lost":
      return;
    case "kept":
      builder.write(position, piece);
      return;
    case "zeros":
      builder.write(position, new Uint8Array(piece.length));
      return;
    case "garbage":
      builder.write(position, garbage(piece.length, { fate, stale }));
      return;
    case "torn": {
      const at = fate.random.below(piece.length + 1);
      // Either half may be the one that made it.
      if (fate.random.chance(0.75)) builder.write(position, piece.subarray(0, at));
      else builder.write(position + at, piece.subarray(at));
      return;
    }
    default:
      outcome satisfies never;
  }
}

/** Random bytes, or what some other block once held: the more believable kind of wrong. */
function garbage(
  bytes: number,
  { fate, stale }: { readonly fate: Fate; readonly stale: readonly Uint8Array[] },
): Uint8Array {
  const filled = new Uint8Array(bytes);
  if (stale.length > 0 && fate.random.chance(0.5)) {
    const source = fate.random.pick(stale);
    const start = fate.random.below(8) * 512;
    filled.set(source.subarray(start, Math.min(source.length, start + bytes)));
  } else {
    fate.random.randomize(filled);
  }
  return filled;
}
