/**
 * The durable bytes of a file: an immutable value, cheap to keep and to share between machines.
 *
 * Invariants
 * 1. A chunk that is not in the map is zeros, so space that was only allocated costs nothing.
 * 2. A finished content is never changed; a builder copies a chunk before its first write to it.
 * 3. No byte at or behind `bytes` is other than zero in a finished content.
 */

export const CHUNK_BYTES = 4096;

export interface FileContent {
  readonly bytes: number;
  readonly chunks: ReadonlyMap<number, Uint8Array>;
}

export const EMPTY_CONTENT: FileContent = { bytes: 0, chunks: new Map() };

export function contentOf(bytes: Uint8Array): FileContent {
  const builder = new ContentBuilder(EMPTY_CONTENT);
  builder.write(0, bytes);
  return builder.finish(bytes.length);
}

/** All of it, as one array of the caller's own. */
export function bytesOf(content: FileContent): Uint8Array {
  const all = new Uint8Array(content.bytes);
  for (const [index, chunk] of content.chunks) {
    const start = index * CHUNK_BYTES;
    all.set(chunk.subarray(0, Math.min(CHUNK_BYTES, content.bytes - start)), start);
  }
  return all;
}

export class ContentBuilder {
  readonly #chunks: Map<number, Uint8Array>;
  readonly #owned = new Set<number>();

  constructor(base: FileContent) {
    this.#chunks = new Map(base.chunks);
  }

  /** May lie beyond any size: what counts is the size at the end. */
  write(position: number, bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) {
      const at = position + done;
      const offset = at % CHUNK_BYTES;
      const count = Math.min(CHUNK_BYTES - offset, bytes.length - done);
      this.#own(Math.floor(at / CHUNK_BYTES)).set(bytes.subarray(done, done + count), offset);
      done += count;
    }
  }

  /** Zeros from a position on. */
  cut(position: number): void {
    for (const index of this.#chunks.keys()) {
      const start = index * CHUNK_BYTES;
      if (start >= position) this.#chunks.delete(index);
      else if (start + CHUNK_BYTES > position) this.#own(index).fill(0, position - start);
    }
  }

  finish(bytes: number): FileContent {
    this.cut(bytes);
    return { bytes, chunks: this.#chunks };
  }

  #own(index: number): Uint8Array {
    const chunk = this.#chunks.get(index);
    if (chunk !== undefined && this.#owned.has(index)) return chunk;
    const copy = chunk === undefined ? new Uint8Array(CHUNK_BYTES) : chunk.slice();
    this.#chunks.set(index, copy);
    this.#owned.add(index);
    return copy;
  }
}
