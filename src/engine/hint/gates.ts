/**
 * How much of the log each namespace of an image holds already: replay passes over a frame that stands before
 * its namespace's gate. The shards of a namespace have gates of their own, at or behind it (`Keydir.standsFor`).
 */

/** A namespace that was cleared while it was being copied: nothing of it counts before its next clear. */
const CLOSED = Infinity;

export class Gates {
  readonly #positions: Float64Array;
  readonly #cleared = new Map<number, number>();

  /** Of `count` namespaces none was there at `end`, until told otherwise. */
  constructor(count: number, end: number) {
    this.#positions = new Float64Array(count).fill(end);
  }

  /** A namespace's counts, and at least them, stand for a position. */
  set(space: number, position: number): void {
    this.#positions[space] = position;
  }

  /** The namespace is cleared at or behind its gate, and holds nothing before that. */
  close(space: number): void {
    this.#cleared.set(space, this.of(space));
    this.#positions[space] = CLOSED;
  }

  /** Everything of a namespace before this position is to be passed over. */
  of(space: number): number {
    return this.#positions[space] ?? 0;
  }

  /** A clear or drop was met: opens a gate that waited for it. */
  meetClear(space: number, lsn: number): void {
    const from = this.#cleared.get(space);
    if (from === undefined || lsn < from) return;
    this.#cleared.delete(space);
    this.#positions[space] = lsn;
  }
}
