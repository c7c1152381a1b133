/**
 * The sessions of a log in order, and for each position the sealer of the session that it was written in.
 *
 * Invariants
 * 1. A frame belongs to the last session record at or before it.
 * 2. A session's key is derived when the first of its frames is read, once; all are wiped together.
 *
 * Each thread keeps a table of its own: sealers have buffers. Entries are plain data (lsn, salt, MAC), so the
 * engine can find them again in the log, where each session record names the one before it.
 */

import { assert } from "../errors.ts";
import type { Cipher } from "./cipher.ts";
import { FrameSealer } from "./frame-sealer.ts";
import type { SecretKey } from "./secret.ts";
import { deriveSessionKey, NO_SESSION_MAC, type Session, type SessionHome } from "./session.ts";

export interface SessionTableOptions extends SessionHome {
  /** Stays the caller's. */
  readonly dataKey: SecretKey;
  readonly cipher: Cipher;
  /** See `SealerOptions`. */
  readonly clearBytes: number;
}

/** A session and where its record stands. */
export interface PlacedSession extends Session {
  readonly lsn: number;
}

interface Entry extends PlacedSession {
  sealer: FrameSealer | undefined;
}

export class SessionTable implements Disposable {
  readonly #options: SessionTableOptions;
  readonly #entries: Entry[] = [];

  constructor(options: SessionTableOptions) {
    this.#options = options;
  }

  /** In the order of the log. */
  get sessions(): readonly PlacedSession[] {
    return this.#entries.map(({ lsn, salt, mac }) => ({ lsn, salt, mac }));
  }

  /** What the next session record chains to. */
  get lastMac(): Uint8Array {
    return this.#entries.at(-1)?.mac ?? NO_SESSION_MAC;
  }

  /** The session that begins first of those that are known. */
  get oldest(): PlacedSession | undefined {
    return this.#entries[0];
  }

  /** The one that begins last. */
  get newest(): PlacedSession | undefined {
    return this.#entries.at(-1);
  }

  /** Puts a session before all that are known. */
  addOlder(session: PlacedSession): void {
    const first = this.oldest;
    assert(first === undefined || session.lsn < first.lsn, "an older session stands before the others");
    this.#entries.unshift({ lsn: session.lsn, salt: session.salt, mac: session.mac, sealer: undefined });
  }

  /** Appends a session that was made, or whose record was proven by `decodeSession`. */
  add(session: PlacedSession): void {
    const last = this.#entries.at(-1);
    assert(last === undefined || last.lsn < session.lsn, "sessions come in the order of the log");
    this.#entries.push({ lsn: session.lsn, salt: session.salt, mac: session.mac, sealer: undefined });
  }

  /** The sealer for frames at a position; undefined when no session stands before it (such a frame is damage). */
  sealerAt(lsn: number): FrameSealer | undefined {
    const entry = this.#entryAt(lsn);
    if (entry === undefined) return undefined;
    entry.sealer ??= this.#derive(entry);
    return entry.sealer;
  }

  /** Zeroes all session keys that were derived and forgets the sessions. Idempotent. */
  wipe(): void {
    for (const entry of this.#entries) entry.sealer?.wipe();
    this.#entries.length = 0;
  }

  [Symbol.dispose](): void {
    this.wipe();
  }

  #derive(entry: Entry): FrameSealer {
    const { dataKey, cipher, fileId, generation, clearBytes } = this.#options;
    const key = deriveSessionKey(dataKey, { cipher, fileId, generation, salt: entry.salt });
    return new FrameSealer({ cipher, key, fileId, generation, clearBytes });
  }

  #entryAt(lsn: number): Entry | undefined {
    const last = this.#entries.at(-1);
    // Most logs have few sessions, and most reads ask for the newest.
    if (last === undefined || last.lsn <= lsn) return last;
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#entries[middle]!.lsn <= lsn) low = middle + 1;
      else high = middle;
    }
    return this.#entries[low - 1];
  }
}
