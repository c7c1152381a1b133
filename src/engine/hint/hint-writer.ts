/**
 * Writing an image: pieces of the index, copied one at a time under the writer's lock, into a sibling that gets
 * the image's name once it is whole and durable.
 *
 * Invariants
 * 1. The lock is held for one piece: an entry of 64 bytes, the at most 28 KiB of a shard, or 24 KiB of deadlines or
 *    of leaves (one leaf, if its separator is long).
 * 2. Nothing is written to the disk under the lock.
 * 3. The sibling is gone after `discard`, and after a failed `publish`.
 */

import { dirname } from "node:path";
import { assert } from "../../errors.ts";
import { PAGE_BYTES } from "../../ffi/heap.ts";
import { must } from "../../ffi/io-error.ts";
import { copy, fill, pinned, type Pinned } from "../../ffi/memory.ts";
import { withStored } from "../../ffi/positions.ts";
import type { FileHandle, System } from "../../ffi/system.ts";
import { ExpiryCopy } from "../../keydir/expiry-copy.ts";
import { ENTRY_BYTES, QUEUE_UNKNOWN } from "../../keydir/expiry-pages.ts";
import { HASHES, HASH_BITS } from "../../keydir/hash.ts";
import { writeWide } from "../../log/frame.ts";
import { freeName } from "../../log/free-name.ts";
import { withRoom, type MakeRoom } from "../../log/reservation.ts";
import { closeFile, nameFile } from "../../log/shared-file.ts";
import { writeBack } from "../../log/write-back.ts";
import { imageFileOf, type Control } from "../threads/control.ts";
import type { Core, LogFile } from "../core.ts";
import {
  CHUNK_BODY_BYTES_AT,
  CHUNK_BYTES_MAX,
  CHUNK_CLEARED,
  CHUNK_DEADLINES,
  CHUNK_FACTS_AT,
  CHUNK_HEAD_BYTES,
  CHUNK_KIND_AT,
  CHUNK_LEAVES,
  CHUNK_POSITION_AT,
  CHUNK_SHARD,
  CHUNK_SPACE,
  CHUNK_SPACE_AT,
  HINT_HEADER_BYTES,
  chunkBytes,
  chunkCheck,
  encodeHintHeader,
  encodeShard,
  witnessBefore,
  type HintHeader,
} from "./hint-format.ts";
import {
  HintSeal,
  NO_SESSION,
  PIECE_OVERHEAD_BYTES,
  SEALED_CHUNKS_AT,
  encodeSealedHeader,
  type ImageSession,
} from "./hint-seal.ts";
import { witnessChecks } from "./hint-witness.ts";
import { rebaseLeaves, type LeafCopy } from "../../ordered/leaf-copy.ts";
import { holdFolder } from "../files/open-folder.ts";
import { hintPath, newHintPath } from "../files/siblings.ts";
import type { SpaceState, Spaces } from "../spaces.ts";

/** Bytes that are written to the file at a time, and synced at a time by who may not wait for more. */
const WRITE_BYTES = 1024 * 1024;
/** Ids without a live namespace that are passed over in one step. */
const IDS_PER_STEP = 16_384;

/** The buffer of a writer that is done: each close makes an image, and a megabyte costs more than a small one does. */
let spareBuffer: WeakRef<Pinned> | undefined;

function takeBuffer(): Pinned {
  const buffer = spareBuffer?.deref() ?? pinned(WRITE_BYTES + CHUNK_BYTES_MAX + PIECE_OVERHEAD_BYTES);
  spareBuffer = undefined;
  return buffer;
}

export class HintWriter {
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #system: System;
  readonly #log: LogFile;
  readonly #makeRoom: MakeRoom;
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #salt: number;
  readonly #buffer = takeBuffer();
  /** Bytes in the buffer, and where in the image they go. */
  #filled = 0;
  #position: number;
  /** Up to where it is on its way to the disk. */
  #backTo = 0;
  #isOpen = true;
  /** Bytes of the chunk that is being copied behind them. */
  #openBytes = 0;

  // How far the copy has come.
  #id = 0;
  /** The namespace being copied; undefined between two. */
  #space: SpaceState | undefined;
  #clears = 0;
  /** What of it is copied next. */
  #phase: "shards" | "deadlines" | "leaves" = "shards";
  #hash = 0;
  /** The position that its chunk stands for, and how its deadlines stood there. */
  #gate = 0;
  #deadlines: "none" | "known" | "unknown" = "none";
  readonly #deadlineCopy: ExpiryCopy;
  /** Copies the leaves of the ordered index, if it is to be in the image, and where it goes on. */
  readonly #leaves: LeafCopy | undefined;
  #nextLeaf: Uint8Array | undefined;

  readonly #base: number;
  /** Of an encrypted database: what seals the image, and the log's newest session where replay will begin. */
  readonly #seal: HintSeal | undefined;
  readonly #newest: ImageSession | undefined;

  /** Every piece stands for a position at or behind this one. */
  readonly start: number;
  #end = 0;
  #namedEnd = 0;
  #pages = 0;
  #chunks = 0;

  /** Makes the sibling, in place of one that a dead process left. */
  constructor(core: Core, spaces: Spaces, log: LogFile, makeRoom: MakeRoom = () => false) {
    this.#makeRoom = makeRoom;
    this.#core = core;
    this.#spaces = spaces;
    this.#system = core.system;
    this.#log = log;
    this.#path = newHintPath({ path: log.path, fileId: core.identity.fileId });
    this.#base = core.base;
    this.#leaves = core.ordering?.leafCopy();
    this.#deadlineCopy = new ExpiryCopy(core.heap);
    this.start = core.visible;
    const { vault } = core;
    this.#seal = vault === undefined ? undefined : HintSeal.fresh(vault, core.identity, core.system);
    this.#newest = vault?.newestBefore(this.start - this.#base);
    this.#position = this.#seal === undefined ? HINT_HEADER_BYTES : SEALED_CHUNKS_AT;
    const chance = new Uint8Array(4);
    core.system.random(chance);
    this.#salt = chance[0]! | (chance[1]! << 8) | (chance[2]! << 16) | (chance[3]! << 24);
    closeImageFile(core.system, core.control);
    must(freeName(core.system, this.#path), { syscall: "unlink", path: this.#path });
    this.#file = must(core.system.open(this.#path, "create"), { syscall: "open", path: this.#path });
    nameFile(core.system, imageFileOf(core.control), this.#file);
  }

  /** Every piece stands for a position at or before this one. Known once `copyPiece` has returned false. */
  get end(): number {
    return this.#end;
  }

  /** Whether a whole write is waiting. */
  get isFull(): boolean {
    return this.#filled >= WRITE_BYTES;
  }

  /** Copies the next piece; false when there is none left. Under the writer's lock, with nothing half-written. */
  copyPiece(): boolean {
    if (this.#space === undefined) return this.#beginSpace();
    const space = this.#space;
    if (this.#spaces.clears(space) !== this.#clears) {
      this.#openChunk(CHUNK_CLEARED, space.id, 0);
      this.#endSpace();
      return true;
    }
    if (this.#phase === "shards") this.#copyShard(space);
    else if (this.#phase === "deadlines") this.#copyDeadlines(space);
    else this.#copyLeaves(space);
    return true;
  }

  #beginSpace(): boolean {
    const spaces = this.#spaces;
    const count = spaces.nextId;
    for (let step = 0; step < IDS_PER_STEP && this.#id < count; step++, this.#id++) {
      const space = spaces.byId(this.#id);
      if (space === undefined || !spaces.isLive(space)) continue;
      this.#copySpace(space);
      if (spaces.root(space) === 0) {
        this.#id += 1;
        return true;
      }
      this.#space = space;
      this.#clears = spaces.clears(space);
      this.#phase = "shards";
      this.#hash = 0;
      return true;
    }
    this.#end = this.#core.visible;
    this.#namedEnd = spaces.namedEnd;
    return this.#id < count;
  }

  #endSpace(): void {
    this.#space = undefined;
    this.#id += 1;
  }

  #copySpace(space: SpaceState): void {
    const name = new TextEncoder().encode(space.name);
    const at = this.#openChunk(CHUNK_SPACE, space.id, name.length);
    const { records, bytes } = this.#spaces.counts(space);
    const facts = at + CHUNK_FACTS_AT;
    const createdAt = this.#spaces.createdAt(space);
    writeWide(this.#buffer, facts, createdAt === 0 ? 0 : createdAt - this.#base);
    writeWide(this.#buffer, facts + 8, records);
    writeWide(this.#buffer, facts + 16, bytes);
    const { isUnknown, live } = this.#core.expiry.facts(space.address);
    // What could not be read when the queue was made is counted as one with a deadline, and may have gone as one without.
    const deadlines = Math.min(live, records);
    writeWide(this.#buffer, facts + 24, deadlines);
    this.#deadlines = isUnknown ? "unknown" : deadlines > 0 ? "known" : "none";
    this.#gate = this.#core.visible - this.#base;
    this.#buffer.u8.set(name, at + CHUNK_HEAD_BYTES);
  }

  #copyShard(space: SpaceState): void {
    const { keydir, heap } = this.#core;
    const shard = keydir.shardOf(this.#spaces.root(space), this.#hash);
    const width = 1 << (HASH_BITS - shard.depth);
    const firstHash = this.#hash - (this.#hash % width);
    const bodyBytes = shard.pages.length * PAGE_BYTES;
    const at = this.#openChunk(CHUNK_SHARD, space.id, bodyBytes);
    const { depth, live, used } = shard;
    encodeShard(this.#buffer, at, { firstHash, depth, pages: shard.pages.length, live, used });
    let to = this.#buffer.address + at + CHUNK_HEAD_BYTES;
    for (const page of shard.pages) {
      copy(to, heap.pageAddress(page), PAGE_BYTES);
      to += PAGE_BYTES;
    }
    this.#pages += shard.pages.length;
    this.#hash = firstHash + width;
    if (this.#hash < HASHES) return;
    this.#phase = "deadlines";
    if (this.#deadlines === "none") this.#beginLeaves();
  }

  #copyDeadlines(space: SpaceState): void {
    const bodyAt = this.#buffer.address + this.#filled + CHUNK_HEAD_BYTES;
    const copied = this.#deadlineCopy;
    const queue = this.#deadlines === "unknown" ? QUEUE_UNKNOWN : this.#core.expiry.queueOf(space.address);
    const state = copied.next(queue, bodyAt);
    const at = this.#openChunk(CHUNK_DEADLINES, space.id, copied.entries * ENTRY_BYTES);
    if (state === "unknown") this.#buffer.u32[(at + CHUNK_FACTS_AT) >> 2] = 1;
    if (state !== "more") this.#beginLeaves();
  }

  #beginLeaves(): void {
    this.#phase = "leaves";
    this.#nextLeaf = undefined;
    if (this.#leaves === undefined) this.#endSpace();
  }

  #copyLeaves(space: SpaceState): void {
    const leaves = this.#leaves!;
    const tree = this.#spaces.tree(space);
    const to = { memory: this.#buffer, at: this.#filled + CHUNK_HEAD_BYTES };
    this.#nextLeaf = tree === 0 ? undefined : leaves.next(tree, this.#nextLeaf, to);
    if (tree !== 0 && leaves.bytes > 0) this.#openChunk(CHUNK_LEAVES, space.id, leaves.bytes);
    if (this.#nextLeaf === undefined) this.#endSpace();
  }

  /** Begins a chunk behind what is in the buffer; returns where. `sealPiece` ends it. */
  #openChunk(kind: number, space: number, bodyBytes: number): number {
    const at = this.#filled;
    const memory = this.#buffer;
    fill(memory.address + at, 0, CHUNK_HEAD_BYTES);
    const bytes = chunkBytes(bodyBytes);
    const padding = bytes - CHUNK_HEAD_BYTES - bodyBytes;
    if (padding > 0) fill(memory.address + at + bytes - padding, 0, padding);
    memory.u32[(at + CHUNK_KIND_AT) >> 2] = kind;
    memory.u32[(at + CHUNK_SPACE_AT) >> 2] = space;
    memory.u32[(at + CHUNK_BODY_BYTES_AT) >> 2] = bodyBytes;
    writeWide(memory, at + CHUNK_POSITION_AT, this.#core.visible - this.#base);
    this.#openBytes = bytes;
    return at;
  }

  /** Checks the piece that was copied last, outside the lock. */
  sealPiece(): void {
    let bytes = this.#openBytes;
    if (bytes === 0) return;
    this.#openBytes = 0;
    const at = this.#filled;
    const memory = this.#buffer;
    const kind = memory.u32[(at + CHUNK_KIND_AT) >> 2];
    if (kind === CHUNK_LEAVES && this.#base !== 0) {
      const body = { at: at + CHUNK_HEAD_BYTES, bytes: bytes - CHUNK_HEAD_BYTES };
      const from = { positions: this.#core.heap.positions, base: this.#base / 8 };
      const least = rebaseLeaves(memory, body, from);
      assert(least > 0, "the ordered index names only what is in the current file");
    }
    if (kind === CHUNK_DEADLINES) bytes = this.#siftDeadlines(at);
    if (kind === CHUNK_SHARD && this.#base !== 0) this.#rebase(at + CHUNK_HEAD_BYTES, at + bytes);
    this.#chunks += 1;
    this.#filled += this.#seal === undefined ? this.#checkChunk(at, bytes) : this.#sealChunk(this.#seal, at, bytes);
  }

  #checkChunk(at: number, bytes: number): number {
    const place = this.#position + at;
    this.#buffer.i32[at >> 2] = chunkCheck(this.#buffer, { at, bytes, salt: this.#salt, place });
    return bytes;
  }

  #sealChunk(seal: HintSeal, at: number, bytes: number): number {
    const piece = seal.seal(this.#buffer.u8.subarray(at, at + bytes), this.#chunks);
    this.#buffer.u8.set(piece, at);
    return piece.length;
  }

  /** The image knows places in the file. A removal that names nothing keeps doing so. */
  #rebase(from: number, to: number): void {
    const words = this.#buffer.u32;
    const { positions } = this.#core.heap;
    for (let word = from >> 2; word < to >> 2; word += 2) {
      const high = words[word + 1]!;
      const units = positions.units(words[word]!, high);
      if (units === 0) continue;
      const inFile = units - this.#base / 8;
      assert(inFile > 0, "the index names only what is in the current file");
      words[word] = inFile >>> 0;
      words[word + 1] = withStored(high, inFile);
    }
  }

  /** Leaves only entries of the file and from before the namespace's gate; returns the bytes of the chunk then. */
  #siftDeadlines(at: number): number {
    const words = this.#buffer.u32;
    const { positions } = this.#core.heap;
    const bodyWord = (at + CHUNK_BODY_BYTES_AT) >> 2;
    const first = (at + CHUNK_HEAD_BYTES) >> 2;
    const end = first + words[bodyWord]! / 4;
    let to = first;
    for (let word = first; word < end; word += ENTRY_BYTES / 4) {
      const inFile = positions.units(words[word + 2]!, words[word + 3]!) - this.#base / 8;
      // What compactions before have left behind is stale, and has no place here.
      if (inFile <= 0 || inFile * 8 >= this.#gate) continue;
      words[to] = words[word]!;
      words[to + 1] = words[word + 1]!;
      words[to + 3] = withStored(words[word + 3]!, inFile);
      words[to + 2] = inFile >>> 0;
      to += ENTRY_BYTES / 4;
    }
    words[bodyWord] = (to - first) * 4;
    return CHUNK_HEAD_BYTES + words[bodyWord];
  }

  /** Writes what is in the buffer to the sibling. */
  spill(): void {
    this.#write(this.#buffer.address, this.#position, this.#filled);
    this.#position += this.#filled;
    this.#filled = 0;
  }

  #write(from: number | Uint8Array, position: number, bytes: number): void {
    if (bytes === 0) return;
    const written = withRoom(this.#makeRoom, () => this.#system.write(this.#file, from, { position, bytes }));
    must(written, { syscall: "pwrite", path: this.#path });
  }

  /** Begins to bring what was spilled to the disk. */
  writeBack(): void {
    const file = { handle: this.#file, path: this.#path };
    this.#backTo = writeBack(this.#system, file, { from: this.#backTo, end: this.#position });
  }

  /** Makes what was spilled durable. */
  sync(): void {
    must(this.#system.sync(this.#file), { syscall: "fdatasync", path: this.#path });
  }

  /** Ends the image. All pieces have been copied, and the log is durable up to `end`. */
  writeHeader(): void {
    this.spill();
    const end = this.#end - this.#base;
    const header: HintHeader = {
      identity: this.#core.identity,
      seed: this.#core.hash.seed,
      start: this.start - this.#base,
      end,
      bytes: this.#position,
      pages: this.#pages,
      spaces: this.#namedEnd,
      chunks: this.#chunks,
      salt: this.#salt,
      isOrdered: this.#leaves !== undefined,
      witness: witnessBefore(end),
      witnessChecks: witnessChecks(this.#system, this.#log, end),
    };
    const seal = this.#seal;
    const bytes =
      seal === undefined ? encodeHintHeader(header) : encodeSealedHeader(seal, header, this.#newest ?? NO_SESSION);
    this.#write(bytes, 0, bytes.length);
  }

  /** Gives the durable sibling the name of the image. */
  publish(): void {
    this.#close();
    const path = hintPath(this.#log.path);
    let isNamed = false;
    try {
      using folder = holdFolder(this.#core, dirname(path));
      must(this.#system.rename(this.#path, path), { syscall: "rename", path });
      isNamed = true;
      folder.mustSync("the checkpoint is whole and in its place; a loss of power may bring back the one before");
    } finally {
      if (!isNamed) this.#system.unlink(this.#path);
    }
  }

  #close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    spareBuffer = new WeakRef(this.#buffer);
    this.#seal?.wipe();
    closeImageFile(this.#system, this.#core.control);
  }

  /** Gives the image up. */
  discard(): void {
    if (!this.#isOpen) return;
    this.#close();
    this.#system.unlink(this.#path);
  }
}

/** Closes the file of an image whose writer has died, or is done. */
export function closeImageFile(system: System, control: Control): void {
  closeFile(system, imageFileOf(control));
}
