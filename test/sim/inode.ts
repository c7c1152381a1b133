/**
 * One simulated file: its durable content, what is pending, and the image that reads and mappings see.
 *
 * Invariants
 * 1. Unless `isDiverged`, the image equals `durable` with every pending change applied. A failed sync is what
 *    makes them differ: pages that are clean and not on the disk.
 * 2. The bytes of a change are never written again, so a crash point shares them.
 * 3. The image is made when it is first looked at: a file that recovery never opens costs nothing.
 */

import { CHUNK_BYTES, ContentBuilder, contentOf, EMPTY_CONTENT } from "./content.ts";
import { PooledImage, StrictImage } from "./image.ts";
import { applyAll } from "./pending.ts";
import { copyOut } from "./real-memory.ts";
import type { FileContent } from "./content.ts";
import type { Image } from "./image.ts";
import type { PendingChange } from "./pending.ts";
import type { Random } from "./random.ts";

export type MemoryMode = "pooled" | "strict";

/**
 * What a failing sync does besides failing.
 *
 * clean: the pages count as written and the next call says success (Linux before 4.13, ext4, XFS).
 * revert: the cache shows what the disk has (btrfs).
 * late: this call says success and the next one reports the error.
 * takes-acknowledged: as clean, and a sector that was durable before is lost with it.
 */
export type SyncFailure = "clean" | "revert" | "late" | "takes-acknowledged";

export interface InodeState {
  readonly number: number;
  readonly durable: FileContent;
  readonly changes: readonly PendingChange[];
  readonly allocatedBytes: number;
  /** What the cache shows, where that is not `durable` and `changes`. */
  readonly diverged?: FileContent;
}

export class Inode {
  readonly number: number;
  durable: FileContent;
  changes: PendingChange[];
  /** The length that the running system sees. */
  bytes: number;
  /** Up to where space is backed, so that a write there cannot find the disk full. */
  allocatedBytes: number;
  isDiverged: boolean;
  /**
   * While the cache differs from the disk: handles from this number on were opened after the failed sync.
   * Their syncs succeed and cover nothing of what was lost, and nobody behind them can know.
   */
  unaware = 0;
  /** The next sync fails because an earlier one should have. */
  owesError = false;
  handleCount = 0;
  mappingCount = 0;
  /** The name that goes when the last handle is closed. */
  leavingName: string | undefined = undefined;
  /** The open file that has the lock. */
  lockedBy: object | undefined = undefined;
  readonly #memory: MemoryMode;
  #start: FileContent | undefined;
  #image: Image | undefined;

  constructor(state: InodeState, memory: MemoryMode) {
    this.number = state.number;
    this.durable = state.durable;
    this.changes = [...state.changes];
    this.allocatedBytes = state.allocatedBytes;
    this.isDiverged = state.diverged !== undefined;
    this.#start = state.diverged;
    this.#memory = memory;
    this.bytes = (state.diverged ?? applyAll(state.durable, state.changes)).bytes;
  }

  get image(): Image {
    if (this.#image === undefined) {
      this.#image = this.#memory === "pooled" ? new PooledImage() : new StrictImage();
      this.#show(this.#start ?? applyAll(this.durable, this.changes));
    }
    return this.#image;
  }

  /** What a crash point keeps of it. */
  capture(): InodeState {
    const { number, durable, changes, allocatedBytes } = this;
    const state = { number, durable, changes: changes.slice(), allocatedBytes };
    return this.isDiverged ? { ...state, diverged: contentOf(this.visibleBytes()) } : state;
  }

  /** A copy of what reads see. */
  visibleBytes(): Uint8Array {
    const all = new Uint8Array(this.bytes);
    copyOut(all, this.image.address);
    return all;
  }

  read(into: Uint8Array, position: number): number {
    const count = Math.max(0, Math.min(into.length, this.bytes - position));
    copyOut(count === into.length ? into : into.subarray(0, count), this.image.address + position);
    return count;
  }

  /** Takes ownership of the bytes. */
  write(position: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const { image } = this;
    const end = position + bytes.length;
    this.changes.push({ kind: "write", position, bytes });
    if (end > this.bytes) {
      this.changes.push({ kind: "grow", to: end });
      this.bytes = end;
      image.resize(end);
    }
    this.allocatedBytes = Math.max(this.allocatedBytes, end);
    image.write(position, bytes);
  }

  resize(to: number, sequence: number): void {
    const { image } = this;
    this.changes.push({ kind: "resize", to, sequence });
    if (to < this.bytes) this.allocatedBytes = Math.min(this.allocatedBytes, to);
    this.bytes = to;
    image.resize(to);
  }

  /** A good sync: everything pending is durable. Returns the last journal sequence among it, or -1. */
  commit(): number {
    const last = this.lastSequence();
    this.durable = applyAll(this.durable, this.changes);
    this.changes = [];
    return last;
  }

  /**
   * A write that goes through: its bytes and every size are durable, older writes stay pending where
   * nothing newer lies over them.
   */
  commitFrom(first: number): void {
    let older: PendingWrite[] = [];
    this.changes.forEach((change, index) => {
      if (change.kind === "grow") return;
      if (change.kind === "resize") older = clipWrites(older, { from: change.to, to: Number.POSITIVE_INFINITY });
      else if (index < first) older.push(change);
      else older = clipWrites(older, { from: change.position, to: change.position + change.bytes.length });
    });
    this.durable = applyAll(
      this.durable,
      this.changes.filter((change, index) => change.kind !== "write" || index >= first),
    );
    this.changes = older;
  }

  /** The newest journaled change of the size that is pending; -1 for none. */
  lastSequence(): number {
    let last = -1;
    for (const change of this.changes) if (change.kind === "resize") last = Math.max(last, change.sequence);
    return last;
  }

  /** What a failing sync leaves; the error itself is the caller's. */
  fail(failure: SyncFailure, random: Random): void {
    switch (failure) {
      case "clean":
        this.#drop(random);
        return;
      case "late":
        this.#drop(random);
        this.owesError = true;
        return;
      case "takes-acknowledged":
        this.#drop(random);
        this.#takeSector(random);
        return;
      case "revert":
        this.#revert();
        return;
      default:
        failure satisfies never;
    }
  }

  /** What is not pending is read from the disk again, unless it is mapped. */
  forgetClean(): void {
    if (!this.isDiverged || this.mappingCount > 0) return;
    const shown = applyAll(this.durable, this.changes);
    this.bytes = shown.bytes;
    this.#start = undefined;
    if (this.#image !== undefined) {
      this.#image.resize(0);
      this.#show(shown);
    }
    this.isDiverged = false;
    this.unaware = 0;
  }

  dispose(): void {
    this.#image?.dispose();
    this.#image = undefined;
  }

  #show(content: FileContent): void {
    const { image } = this;
    image.resize(content.bytes);
    for (const [index, chunk] of content.chunks) {
      const start = index * CHUNK_BYTES;
      const count = Math.min(CHUNK_BYTES, content.bytes - start);
      if (count > 0) image.write(start, count === CHUNK_BYTES ? chunk : chunk.subarray(0, count));
    }
  }

  /** Pending data counts as written; by chance some of the writes really were, sizes always persist. */
  #drop(random: Random): void {
    this.isDiverged = true;
    const some = random.chance(0.5);
    const reached = this.changes.filter((change) => change.kind !== "write" || (some && random.chance(0.5)));
    void this.image;
    this.durable = applyAll(this.durable, reached);
    this.changes = [];
  }

  #takeSector(random: Random): void {
    if (this.durable.bytes === 0) return;
    const start = random.below(Math.ceil(this.durable.bytes / 512)) * 512;
    const builder = new ContentBuilder(this.durable);
    builder.write(start, new Uint8Array(Math.min(512, this.durable.bytes - start)));
    this.durable = builder.finish(this.durable.bytes);
  }

  #revert(): void {
    const { image } = this;
    this.changes = this.changes.filter((change) => change.kind !== "write");
    const shown = applyAll(this.durable, this.changes);
    image.resize(0);
    this.#show(shown);
    this.isDiverged = false;
  }
}

type PendingWrite = Extract<PendingChange, { readonly kind: "write" }>;

/** The writes without what lies in [from, to). */
function clipWrites(
  writes: readonly PendingWrite[],
  { from, to }: { readonly from: number; readonly to: number },
): PendingWrite[] {
  const clipped: PendingWrite[] = [];
  for (const write of writes) {
    const end = write.position + write.bytes.length;
    if (write.position < from)
      clipped.push({ ...write, bytes: write.bytes.subarray(0, Math.min(end, from) - write.position) });
    if (end > to) {
      const start = Math.max(to, write.position);
      clipped.push({ kind: "write", position: start, bytes: write.bytes.subarray(start - write.position) });
    }
  }
  return clipped;
}

/** A file that nothing was written to yet. */
export function newInode(number: number, memory: MemoryMode): Inode {
  return new Inode({ number, durable: EMPTY_CONTENT, changes: [], allocatedBytes: 0 }, memory);
}

/** A file with durable content. */
export function durableInode(
  number: number,
  { content, memory }: { readonly content: FileContent; readonly memory: MemoryMode },
): Inode {
  return new Inode({ number, durable: content, changes: [], allocatedBytes: content.bytes }, memory);
}
