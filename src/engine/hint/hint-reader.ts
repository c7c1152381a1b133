/**
 * Taking an image in: its header says whether it belongs to the log, its chunks are checked and copied into the
 * index's memory, a piece of the file at a time.
 *
 * Invariants
 * 1. Nothing of an image is believed before its check; one bad chunk makes the whole image worthless, and the
 *    index is then as if there had been none.
 * 2. A sound header of this log proves one thing even if its chunks are bad: how far the log was durable.
 */

import type { FileHandle, System } from "../../ffi/system.ts";
import { EmdbError } from "../../errors.ts";
import { Errno } from "../../ffi/errno.ts";
import { PAGE_BYTES } from "../../ffi/heap.ts";
import { must } from "../../ffi/io-error.ts";
import { encodeSession } from "../../crypto/session.ts";
import { compare, copy, passingScratch, type Pinned } from "../../ffi/memory.ts";
import { Adoption } from "../../keydir/adopt.ts";
import { ExpiryAdoption } from "../../keydir/expiry-adoption.ts";
import { NAMESPACE_NAME_BYTES_MAX } from "../../limits.ts";
import {
  EXTENSION_BYTES_MAX,
  FRAME_HEADER_BYTES,
  SESSION_TWIN_BYTES,
  SHAPE_WIDE_PREV,
  extensionBytes,
  readWide,
} from "../../log/frame.ts";
import { isPosition } from "../../log/log-words.ts";
import { LeafAdoption } from "../../ordered/leaf-adoption.ts";
import { LIVE_BYTES, SPACES_NAMED, SPACE_COUNT } from "../threads/control.ts";
import type { Core, LogFile } from "../core.ts";
import { Gates } from "./gates.ts";
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
  decodeHintHeader,
  decodeShard,
  type HintHeader,
  type LogIdentity,
} from "./hint-format.ts";
import {
  SEALED_CHUNKS_AT,
  decodeSealedHeader,
  pieceBytesAt,
  type HintSeal,
  type ImageKeys,
  type SealedImage,
} from "./hint-seal.ts";
import { isWitnessed } from "./hint-witness.ts";
import { hintPath } from "../files/siblings.ts";
import type { SpaceState, Spaces } from "../spaces.ts";
import { decodeName, isName } from "../names.ts";

/** An image whose header is sound and of this log. */
export interface Hint {
  readonly header: HintHeader;
  /** Of an encrypted log. */
  readonly sealed?: SealedImage | undefined;
  readonly handle: FileHandle;
  /**
   * The log is what the image was made from, or shorter than it once was, or holds something else where the image
   * ends (it grew another way). Unless it is the same, it must not be written on beside this image, whose positions it
   * would then seem to have.
   */
  readonly kinship: "same" | "short" | "other";
  /** The same, and as long as its header says: worth reading on. */
  readonly isUsable: boolean;
}

/**
 * Looks for the image of a log that is open and `bytes` long. Where that was an empty file before, whatever image is there
 * is of a log that is cut short, to nothing. The caller closes its handle.
 */
export function openHint(
  system: System,
  log: {
    readonly file: LogFile;
    readonly identity: LogIdentity;
    readonly bytes: number;
    readonly wasEmptied: boolean;
  },
  keys: ImageKeys | undefined,
): Hint | undefined {
  const handle = system.open(hintPath(log.file.path), "read");
  if (handle < 0) return undefined;
  let hint: Hint | undefined;
  let seal: HintSeal | undefined;
  try {
    const bytes = new Uint8Array(keys === undefined ? HINT_HEADER_BYTES : SEALED_CHUNKS_AT);
    const count = system.read(handle, bytes, { position: 0, bytes: bytes.length });
    const begin = bytes.subarray(0, Math.max(0, count));
    const sealed = keys === undefined ? undefined : decodeSealedHeader(begin, keys);
    seal = sealed?.seal;
    const header = keys === undefined ? decodeHintHeader(begin) : sealed?.header;
    if (header === undefined || !(log.wasEmptied || isSameLog(header.identity, log.identity))) return undefined;
    const isShort = log.wasEmptied || log.bytes < header.end;
    // A writer in another process may just have gone on, and made this image: it is too new for what is read here.
    if (isShort && system.size(log.file.handle) >= header.end) return undefined;
    const isKnown = (): boolean =>
      isWitnessed(system, log, header) && (sealed === undefined || isContinued(system, log.file, sealed));
    const kinship = isShort ? "short" : isKnown() ? "same" : "other";
    const isUsable = kinship === "same" && system.size(handle) === header.bytes;
    hint = { header, sealed, handle, kinship, isUsable };
    return hint;
  } finally {
    if (hint === undefined) {
      seal?.wipe();
      system.close(handle);
    }
  }
}

function isSameLog(one: LogIdentity, other: LogIdentity): boolean {
  return one.generation === other.generation && one.fileId.every((byte, index) => byte === other.fileId[index]);
}

/** Whether the log holds the session that the image knows: where one of its two records has rotted, the other. */
function isContinued(system: System, log: LogFile, { newest }: SealedImage): boolean {
  const { session } = newest;
  if (session.lsn === 0) return true;
  const holds = (position: number, record: Uint8Array): boolean => {
    const bytes = new Uint8Array(FRAME_HEADER_BYTES + EXTENSION_BYTES_MAX + record.length);
    const call = { syscall: "pread", path: log.path };
    must(system.read(log.handle, bytes, { position, bytes: bytes.length }), call);
    // It names the session before it, by a short distance or a wide one.
    const ends = [0, SHAPE_WIDE_PREV].map((shape) => FRAME_HEADER_BYTES + extensionBytes(shape));
    return ends.some((from) => compare(bytes.subarray(from), record, record.length) === 0);
  };
  // The first of the two has the same salt, and a MAC that nobody knows any more.
  const isFirstThere = (): boolean => SESSION_TWIN_BYTES.some((back) => holds(session.lsn - back, session.salt));
  return holds(session.lsn, encodeSession(session)) || isFirstThere();
}

/** Removes an image that must not be met by what is written next. A folder of that name is none, and stays. */
export function removeHint(system: System, logPath: string, folder: string): void {
  const path = hintPath(logPath);
  const result = system.unlink(path);
  // What no file can be called there is none of.
  if (result === -Errno.ENOENT || result === -Errno.ENAMETOOLONG) return;
  const status = result < 0 ? system.status(path) : undefined;
  if (typeof status === "object" && status.kind === "folder") return;
  must(result, { syscall: "unlink", path });
  const state = "the checkpoint, of no use any more, is removed; nothing else has changed, so open again";
  must(system.syncFolder(folder), { syscall: "fsync", path: folder, state });
}

/** Fills an empty index from an image; undefined, and the index empty as before, when it is not sound. */
export function loadHint(core: Core, spaces: Spaces, hint: Hint): Gates | undefined {
  try {
    // To make room for it may be too much as well.
    const loader = new HintLoader(core, spaces, hint);
    if (loader.run()) return loader.gates;
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
  }
  core.heap.reset(hint.header.spaces);
  core.keydir.allChanged();
  core.control.numbers[SPACE_COUNT] = 1;
  core.control.numbers[SPACES_NAMED] = 1;
  core.control.numbers[LIVE_BYTES] = 0;
  return undefined;
}

/** Bytes of the image that are in memory at a time; what fits the processor's cache is copied on from there. */
const PIECE_BYTES = 256 * 1024;
const passingPiece = passingScratch(PIECE_BYTES);
const passingChunk = passingScratch(CHUNK_BYTES_MAX);

class HintLoader {
  readonly gates: Gates;
  readonly #core: Core;
  readonly #spaces: Spaces;
  readonly #hint: Hint;
  readonly #adoption: Adoption;
  /** Takes the ordered index, if it is wanted; otherwise its leaves are checked and passed over. */
  readonly #leaves: LeafAdoption | undefined;
  /** Takes the queues of deadlines, unless nothing will be swept; otherwise they are passed over. */
  readonly #deadlines: ExpiryAdoption | undefined;
  #areDeadlinesUnknown = false;
  readonly #piece = passingPiece();
  /** Where the chunk at hand is: in the piece of the file, or opened. */
  readonly #memory: Pinned;
  readonly #firstPage: number;
  #pages = 0;
  /** Bytes of the frames of all records that the namespaces so far say they have: no two are one frame. */
  #liveBytes = 0;
  #space: SpaceState | undefined;
  /** Namespaces come in the order of their ids. */
  #lastId = -1;

  constructor(core: Core, spaces: Spaces, hint: Hint) {
    const { header } = hint;
    this.#core = core;
    this.#spaces = spaces;
    this.#hint = hint;
    this.#memory = hint.sealed === undefined ? this.#piece : passingChunk();
    this.gates = new Gates(header.spaces, header.end);
    this.#adoption = new Adoption(core.heap);
    this.#leaves = core.ordering === undefined ? undefined : new LeafAdoption(core.heap);
    this.#deadlines = core.isReadOnly ? undefined : new ExpiryAdoption(core.heap);
    core.heap.ensureSpace(header.spaces - 1);
    core.control.numbers[SPACE_COUNT] = header.spaces;
    core.control.numbers[SPACES_NAMED] = header.spaces;
    this.#firstPage = header.pages === 0 ? 0 : core.heap.takePages(header.pages);
  }

  run(): boolean {
    const { header } = this.#hint;
    const { seal } = this.#hint.sealed ?? {};
    let position = seal === undefined ? HINT_HEADER_BYTES : SEALED_CHUNKS_AT;
    let chunks = 0;
    while (position < header.bytes) {
      const have = this.#read(position);
      let at = 0;
      for (;;) {
        const bytes = have - at < CHUNK_HEAD_BYTES ? 0 : this.#bytesAt(at);
        if (bytes === 0 || at + bytes > have) break;
        chunks += 1;
        const isSound =
          seal === undefined ? this.#takeChecked(at, bytes, position + at) : this.#takeSealed(seal, chunks, at);
        if (!isSound) return false;
        at += bytes;
      }
      if (at === 0) return false;
      position += at;
    }
    return this.#endSpace() && chunks === header.chunks && this.#pages === header.pages;
  }

  /** Bytes of the chunk, or of the sealed piece, that begins at `at`; 0 when it cannot be one. */
  #bytesAt(at: number): number {
    if (this.#hint.sealed !== undefined) return pieceBytesAt(this.#piece.u8, at);
    return chunkBytes(this.#word(at, CHUNK_BODY_BYTES_AT));
  }

  #takeChecked(at: number, bytes: number, place: number): boolean {
    const check = chunkCheck(this.#memory, { at, bytes, salt: this.#hint.header.salt, place });
    return bytes <= CHUNK_BYTES_MAX && check === this.#memory.i32[at >> 2] && this.#take(at);
  }

  #takeSealed(seal: HintSeal, number: number, at: number): boolean {
    const opened = seal.openInto(this.#piece.u8, number, at, this.#memory.u8);
    return opened >= CHUNK_HEAD_BYTES && opened === chunkBytes(this.#word(0, CHUNK_BODY_BYTES_AT)) && this.#take(0);
  }

  #word(at: number, offset: number): number {
    return this.#memory.u32[(at + offset) >> 2]!;
  }

  #read(position: number): number {
    const { system, file } = this.#core;
    const bytes = Math.min(PIECE_BYTES, this.#hint.header.bytes - position);
    const call = { syscall: "pread", path: file === undefined ? undefined : hintPath(file.path) };
    return must(system.read(this.#hint.handle, this.#piece.u8, { position, bytes }), call);
  }

  #take(at: number): boolean {
    const { header } = this.#hint;
    const position = readWide(this.#memory, at + CHUNK_POSITION_AT);
    if (position === undefined || !isPosition(position)) return false;
    if (position < header.start || position > header.end) return false;
    const id = this.#word(at, CHUNK_SPACE_AT);
    switch (this.#word(at, CHUNK_KIND_AT)) {
      case CHUNK_SPACE:
        return this.#endSpace() && this.#takeSpace(at, id, position);
      case CHUNK_SHARD:
        return id === this.#space?.id && this.#takeShard(at, position);
      case CHUNK_LEAVES:
        return header.isOrdered && id === this.#space?.id && this.#takeLeaves(at);
      case CHUNK_DEADLINES:
        return id === this.#space?.id && this.#takeDeadlines(at, id);
      case CHUNK_CLEARED:
        return id === this.#space?.id && this.#takeCleared(this.#space);
      default:
        return false;
    }
  }

  #takeSpace(at: number, id: number, position: number): boolean {
    const memory = this.#memory;
    const facts = at + CHUNK_FACTS_AT;
    const createdAt = readWide(memory, facts);
    const records = readWide(memory, facts + 8);
    const bytes = readWide(memory, facts + 16);
    const deadlines = readWide(memory, facts + 24);
    const nameBytes = this.#word(at, CHUNK_BODY_BYTES_AT);
    if (createdAt === undefined || records === undefined || bytes === undefined || deadlines === undefined)
      return false;
    this.#liveBytes += bytes;
    if (deadlines > records || records * FRAME_HEADER_BYTES > bytes) return false;
    if (this.#liveBytes > this.#hint.header.end) return false;
    if (id <= this.#lastId || id >= this.#hint.header.spaces || nameBytes > NAMESPACE_NAME_BYTES_MAX) return false;
    if ((id === 0) !== (nameBytes === 0) || createdAt >= this.#hint.header.end) return false;
    this.#lastId = id;
    const from = at + CHUNK_HEAD_BYTES;
    const nameInBytes = memory.u8.slice(from, from + nameBytes);
    if (id !== 0 && !isName(nameInBytes)) return false;
    const name = id === 0 ? "" : decodeName(nameInBytes);
    this.#space = id === 0 ? this.#spaces.default : this.#spaces.create({ id, name }, createdAt);
    this.#spaces.count(this.#space, records, bytes);
    this.#areDeadlinesUnknown = false;
    this.#deadlines?.begin(deadlines);
    this.gates.set(id, position);
    return true;
  }

  #takeShard(at: number, standsFor: number): boolean {
    const shard = decodeShard(this.#memory, at);
    if (shard === undefined || this.#pages + shard.pages > this.#hint.header.pages) return false;
    const { heap } = this.#core;
    const firstPage = this.#firstPage + this.#pages;
    copy(heap.pageAddress(firstPage), this.#memory.address + at + CHUNK_HEAD_BYTES, shard.pages * PAGE_BYTES);
    this.#pages += shard.pages;
    return this.#adoption.add({ ...shard, firstPage, standsFor });
  }

  #takeLeaves(at: number): boolean {
    if (this.#leaves === undefined) return true;
    const body = { at: at + CHUNK_HEAD_BYTES, bytes: this.#word(at, CHUNK_BODY_BYTES_AT) };
    return this.#leaves.add(this.#memory, body);
  }

  #takeDeadlines(at: number, id: number): boolean {
    if (this.#deadlines === undefined) return true;
    if (this.#word(at, CHUNK_FACTS_AT) !== 0) {
      this.#areDeadlinesUnknown = true;
      return true;
    }
    const body = { at: at + CHUNK_HEAD_BYTES, bytes: this.#word(at, CHUNK_BODY_BYTES_AT) };
    return this.#deadlines.add(this.#memory, body, this.gates.of(id));
  }

  #takeCleared(space: SpaceState): boolean {
    this.#adoption.abandon();
    this.#deadlines?.abandon();
    this.#leaves?.abandon();
    const { records, bytes } = this.#spaces.counts(space);
    this.#spaces.count(space, -records, -bytes);
    this.gates.close(space.id);
    this.#space = undefined;
    return true;
  }

  /** Names the shards of the namespace that has come to its end. */
  #endSpace(): boolean {
    const space = this.#space;
    if (space === undefined) return true;
    this.#space = undefined;
    const root = this.#adoption.finish();
    if (root === undefined) return false;
    this.#core.keydir.setRoot(space.address, root);
    if (this.#areDeadlinesUnknown) this.#deadlines?.abandon();
    if (this.#areDeadlinesUnknown) this.#core.expiry.forget(space.address);
    else if (this.#deadlines !== undefined) this.#core.expiry.adopt(space.address, this.#deadlines.finish());
    if (this.#leaves === undefined) return true;
    const tree = this.#leaves.finish();
    this.#spaces.setTree(space, tree);
    // Who goes over the index goes by its shards: a tree without any would be passed over.
    return tree === 0 || root !== 0;
  }
}
