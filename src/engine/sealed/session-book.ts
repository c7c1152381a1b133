/**
 * The sessions of one file, found in the log: each record names the one before it, so whoever knows the newest can go
 * back as far as it needs. All positions are positions in the file.
 *
 * Invariants
 * 1. What the table holds is a stretch of the file's sessions without a gap.
 * 2. A record that is met on the way back is believed by its checksums, without its MAC: a wrong salt opens no frame.
 *    Replay and verify, which go forwards, prove every one (`scan-opener.ts`).
 * 3. A session has two records side by side, with one salt, both of which name the session before. Sessions are
 *    known by the second one; where that is damaged, the first is read.
 */

import { assert } from "../../errors.ts";
import { copy, sharedScratch, type Pinned } from "../../ffi/memory.ts";
import type { FrameSealer } from "../../crypto/frame-sealer.ts";
import { SessionTable, type PlacedSession, type SessionTableOptions } from "../../crypto/session-table.ts";
import { parseSession, SESSION_RECORD_BYTES } from "../../crypto/session.ts";
import {
  EXTENSION_BYTES_MAX,
  FRAME_HEADER_BYTES,
  KIND_SESSION,
  SESSION_BYTES,
  SESSION_TWIN_BYTES,
  WORD_BODY_CHECK,
  WORD_HEADER_CHECK,
  WORD_SHAPE,
  decodeInto,
  emptyFacts,
  extensionBytes,
  headerCheck,
  isPlausible,
  type Salts,
} from "../../log/frame.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";
import { placeSeed, xxh32 } from "../../log/checksum.ts";
import { saltsOf } from "../../log/header.ts";
import { unitHigh, unitLow, type LogReader } from "../../log/log-words.ts";

assert(SESSION_BYTES === SESSION_RECORD_BYTES, "a session fits its frame");

const sharedPeek = sharedScratch(FRAME_HEADER_BYTES + EXTENSION_BYTES_MAX + SESSION_BYTES);

/** A session record as it stands in the log. */
export interface FoundSession {
  readonly session: PlacedSession;
  /** Position of the session before it; 0: none. */
  readonly prev: number;
}

export class SessionBook {
  /** The position that the file's first byte has in the log. */
  readonly base: number;
  readonly #log: LogReader;
  readonly #table: SessionTable;
  readonly #salts: Salts;
  /** The session before the oldest one in the table; 0: none. */
  #before = 0;

  constructor(log: LogReader, base: number, options: SessionTableOptions) {
    this.#log = log;
    this.base = base;
    this.#table = new SessionTable(options);
    this.#salts = saltsOf(options);
  }

  /** Where the newest session that is known stands; negative when none is. */
  get newestPosition(): number {
    return this.#table.newest?.lsn ?? -1;
  }

  /** What opens frames at a position, when the file's newest session stands at `last`; undefined when none is found. */
  sealerAt(position: number, last: number): FrameSealer | undefined {
    const table = this.#table;
    if (last !== table.newest?.lsn) this.#learn(last);
    while (position < (table.oldest?.lsn ?? 0) && this.#goBack());
    return table.sealerAt(position);
  }

  /** The newest session, which stands at `last`. */
  newest(last: number): PlacedSession | undefined {
    if (last !== this.#table.newest?.lsn) this.#learn(last);
    return this.#table.newest;
  }

  /** The newest session before a position, when the file's newest stands at `last`. */
  newestBefore(position: number, last: number): FoundSession | undefined {
    let found = last === 0 ? undefined : this.#read(last);
    while (found !== undefined && found.session.lsn >= position) {
      found = found.prev === 0 ? undefined : this.#read(found.prev);
    }
    return found;
  }

  /** Takes up a session behind all that are known; `prev` is where the one before it stands. */
  add(session: PlacedSession, prev: number): void {
    const { newest } = this.#table;
    if (newest !== undefined && session.lsn <= newest.lsn) return;
    if (newest === undefined) this.#before = prev;
    this.#table.add(session);
  }

  wipe(): void {
    this.#table.wipe();
    this.#before = 0;
  }

  /** Takes up the sessions between the newest one that is known and the one at `last`. */
  #learn(last: number): void {
    const known = this.#table.newest?.lsn ?? 0;
    const found: FoundSession[] = [];
    for (let position = last; position > known;) {
      const read = this.#read(position);
      if (read === undefined) break;
      found.push(read);
      position = read.prev;
    }
    for (const { session, prev } of found.reverse()) this.add(session, prev);
  }

  /** Takes up the session before the oldest one that is known; false when there is none. */
  #goBack(): boolean {
    const read = this.#before === 0 ? undefined : this.#read(this.#before);
    this.#before = read?.prev ?? 0;
    if (read === undefined) return false;
    this.#table.addOlder(read.session);
    return true;
  }

  /** The session whose second record stands at a position, or whose only one does; undefined when neither is to be read. */
  #read(position: number): FoundSession | undefined {
    for (const back of [0, ...SESSION_TWIN_BYTES]) {
      const found = this.#readAt(position - back);
      // By the place where it is looked for: what is sealed under it stands behind both.
      if (found !== undefined) return { session: { ...found.session, lsn: position }, prev: found.prev };
    }
    return undefined;
  }

  #readAt(position: number): FoundSession | undefined {
    if (position < HEADER_PAGE_BYTES) return undefined;
    const log = this.#log;
    const memory = sharedPeek();
    const lsn = this.base + position;
    for (;;) {
      const address = log.at(lsn);
      const bytes = Math.min(log.limit, FRAME_HEADER_BYTES + EXTENSION_BYTES_MAX + SESSION_BYTES);
      if (address === 0 || bytes < FRAME_HEADER_BYTES + SESSION_BYTES) return undefined;
      copy(memory.address, address, bytes);
      if (log.isInRing && !log.isStillWhole(lsn)) continue;
      const facts = emptyFacts();
      const place = { at: 0, lsn: position };
      if (!isPlausible(memory, 0, position) || !decodeInto(facts, memory, place)) return undefined;
      const from = FRAME_HEADER_BYTES + extensionBytes(memory.u32[WORD_SHAPE]!);
      if (facts.kind !== KIND_SESSION || from + SESSION_BYTES > bytes) return undefined;
      if (!this.#isSound(memory, position, from + SESSION_BYTES)) return undefined;
      const session = parseSession(memory.u8.subarray(from, from + SESSION_BYTES));
      return { session: { lsn: position, ...session }, prev: facts.prev };
    }
  }

  /** Whether a frame of so many bytes, read from a position, has its checks right. */
  #isSound(memory: Pinned, position: number, bytes: number): boolean {
    const place = { unitLow: unitLow(position), unitHigh: unitHigh(position) };
    if (headerCheck(memory, 0, { salt: this.#salts.header, ...place }) !== memory.i32[WORD_HEADER_CHECK]) return false;
    const seed = placeSeed(this.#salts.body, place.unitLow, place.unitHigh);
    return xxh32(memory, FRAME_HEADER_BYTES, bytes - FRAME_HEADER_BYTES, seed) === memory.i32[WORD_BODY_CHECK];
  }
}
