/**
 * What one thread knows of an encrypted database: the data key, the sessions of its log, and the counters of the
 * session that is being written.
 *
 *     shared words    SESSION_LAST    position of the newest session record; 0: the log has none
 *                     SESSION_ACTIVE  not 0: it was begun by this open, and what is written now is sealed in it
 *                     SESSION_BLOCKS  blocks of counters claimed in it (`crypto/nonce-counter.ts`)
 *                     KEY_PAGE        where the data key is, in memory of its own that no view shows
 *
 * Invariants
 * 1. The words change under the writer's lock. A session's record is in the log before `SESSION_LAST` names it, and
 *    visible before anything is sealed in it.
 * 2. Whoever puts another file in the place of the log (a compaction) enters the old one as a segment, sets
 *    `SESSION_LAST` to the newest session of the new one and `SESSION_ACTIVE` to 0, and then moves the base: the next
 *    write begins a session of its own there. A reader that sees the word and the base of two files asks the segment.
 * 3. The data key in shared memory is zeroed by the last one out, the copies of each thread when it leaves. What a thread
 *    has derived for a file that a compaction has replaced is zeroed with the first file that it meets once the segment is gone.
 */

import { assert } from "../../errors.ts";
import { copy, fill } from "../../ffi/memory.ts";
import type { Address, System } from "../../ffi/system.ts";
import { must } from "../../ffi/io-error.ts";
import type { Cipher } from "../../crypto/cipher.ts";
import type { FrameSealer } from "../../crypto/frame-sealer.ts";
import { BLOCKS_MAX, NonceCounter, sharedClaim } from "../../crypto/nonce-counter.ts";
import { KEY_BYTES, secretBuffer, secretCopy, SecretKey } from "../../crypto/secret.ts";
import type { PlacedSession } from "../../crypto/session-table.ts";
import { encodeSession, makeSession, NO_SESSION_MAC, SESSION_SALT_BYTES } from "../../crypto/session.ts";
import { LOG_BASE, LOG_GENERATION, type LogReader } from "../../log/log-words.ts";
import { KEY_PAGE, SESSION_ACTIVE, SESSION_BLOCKS, SESSION_LAST, type Control } from "../threads/control.ts";
import { CLEAR_BYTES, type SealSource } from "./sealed-encoder.ts";
import { SessionBook, type FoundSession } from "./session-book.ts";

/** A session is left when half of its counters are spent: the other half is more than the longest batch needs. */
const BLOCKS_PER_SESSION = BLOCKS_MAX / 2;

/** Puts the data key where every thread of the process finds it. Memory of its own: nothing else is on its page. */
export function storeDataKey(system: System, control: Control, dataKey: SecretKey): void {
  const address = must(system.reserve(system.pageBytes), { syscall: "mmap", path: undefined });
  const committed = system.commit(address, system.pageBytes);
  if (committed < 0) system.release(address, system.pageBytes);
  must(committed, { syscall: "mprotect", path: undefined });
  copy(address, dataKey.bytes, KEY_BYTES);
  control.numbers[KEY_PAGE] = address;
}

/** Zeroes the data key in shared memory and gives the memory back. */
export function dropDataKey(system: System, control: Control): void {
  const address: Address = control.numbers[KEY_PAGE]!;
  if (address === 0) return;
  control.numbers[KEY_PAGE] = 0;
  fill(address, 0, system.pageBytes);
  system.release(address, system.pageBytes);
}

export interface VaultParts {
  readonly system: System;
  readonly control: Control;
  readonly log: LogReader;
  readonly cipher: Cipher;
  readonly fileId: Uint8Array;
}

export class Vault implements SealSource {
  readonly cipher: Cipher;
  readonly fileId: Uint8Array;
  readonly dataKey: SecretKey;
  readonly #parts: VaultParts;
  readonly #numbers: Float64Array;
  readonly #logNumbers: Float64Array;
  /** The sessions of the current file, and of those that compactions have replaced. */
  #book: SessionBook;
  readonly #former = new Map<number, SessionBook>();
  /** The session that `#counter` counts in. */
  #counted = -1;
  #counter: NonceCounter | undefined;
  /** What opens the frames of the newest session, if some were opened. */
  #newest: { readonly base: number; readonly from: number; readonly sealer: FrameSealer } | undefined;
  /** Made by `newSession` and `twinSession`, and not yet in the log. */
  #pending: readonly PlacedSession[] = [];
  /** Where in its file the frame is that `sealerAt` was asked about last. */
  position = 0;

  /** Takes a copy of the data key from shared memory. */
  constructor(parts: VaultParts) {
    const { control, cipher, fileId } = parts;
    this.#parts = parts;
    this.cipher = cipher;
    this.fileId = fileId;
    this.#numbers = control.numbers;
    this.#logNumbers = control.log.numbers;
    const key = secretBuffer(KEY_BYTES);
    copy(key, control.numbers[KEY_PAGE]!, KEY_BYTES);
    this.dataKey = new SecretKey(key);
    this.#book = this.#bookNow();
  }

  /** Of the current file, whose generation the words may not tell any more: a dead thread may have left a swap between the two. */
  #bookNow(): SessionBook {
    const { base, generation } = this.#parts.log.fileOf(this.#logNumbers[LOG_BASE]!);
    return this.#bookOf(base, generation);
  }

  #bookOf(base: number, generation: number): SessionBook {
    const { dataKey, cipher, fileId } = this;
    return new SessionBook(this.#parts.log, base, { dataKey, cipher, fileId, generation, clearBytes: CLEAR_BYTES });
  }

  /** Zeroes every key that this thread holds. */
  wipe(): void {
    this.#newest = undefined;
    this.#book.wipe();
    for (const book of this.#former.values()) book.wipe();
    this.dataKey.wipe();
  }

  /** The data key, for somebody who may outlive this. The caller wipes it. */
  keyCopy(): SecretKey {
    return new SecretKey(secretCopy(this.dataKey.bytes));
  }

  /** The sessions of the current file. */
  get #current(): SessionBook {
    const base = this.#logNumbers[LOG_BASE]!;
    if (this.#book.base !== base) {
      // What is read behind this is at least as new as the base.
      this.#parts.log.barrier();
      this.#former.set(this.#book.base, this.#book);
      this.#forgetGone();
      this.#book = this.#bookNow();
    }
    return this.#book;
  }

  // -- reading -----------------------------------------------------------------

  /** What opens the frame at a position; undefined when no session is to be found for it. */
  sealerAt(lsn: number): FrameSealer | undefined {
    // Nearly all frames that are read stand in the newest session.
    const newest = this.#newest;
    const base = this.#logNumbers[LOG_BASE]!;
    if (
      newest !== undefined &&
      lsn >= newest.from &&
      newest.base === base &&
      newest.from === this.#numbers[SESSION_LAST]
    ) {
      this.position = lsn - base;
      return newest.sealer;
    }
    const book = this.#current;
    if (lsn < book.base) return this.#formerSealer(lsn);
    this.position = lsn - book.base;
    const last = this.#lastOf(book);
    const sealer = book.sealerAt(this.position, last);
    if (this.position >= last && sealer !== undefined)
      this.#newest = { base: book.base, from: book.base + last, sealer };
    return sealer;
  }

  /** Where the newest session of a file stands that is, or was just now, the current one. */
  #lastOf(book: SessionBook): number {
    const last = this.#numbers[SESSION_LAST]! - book.base;
    if (last === book.newestPosition) return last;
    const { segments } = this.#parts.log;
    const at = segments.ofBase(book.base);
    return at === 0 ? Math.max(0, last) : segments.session(at);
  }

  /** The same in a file that a compaction has replaced. */
  #formerSealer(lsn: number): FrameSealer | undefined {
    const { segments } = this.#parts.log;
    const at = segments.holding(lsn);
    if (at === 0) return undefined;
    const base = segments.base(at);
    let book = this.#former.get(base);
    if (book === undefined) {
      this.#forgetGone();
      book = this.#bookOf(base, segments.generation(at));
      this.#former.set(base, book);
    }
    this.position = lsn - base;
    return book.sealerAt(this.position, segments.session(at));
  }

  /** Zeroes the keys of replaced files that nobody reads any more: their segments are gone, and no base is used again. */
  #forgetGone(): void {
    const { segments } = this.#parts.log;
    for (const [base, book] of this.#former) {
      if (segments.ofBase(base) !== 0) continue;
      book.wipe();
      this.#former.delete(base);
    }
  }

  /** The newest session of the file, for who continues it. */
  get last(): PlacedSession | undefined {
    const book = this.#current;
    return book.newest(this.#lastOf(book));
  }

  /** The newest session before a position of the current file. */
  newestBefore(position: number): FoundSession | undefined {
    const book = this.#current;
    return book.newestBefore(position, this.#lastOf(book));
  }

  // -- recovery ----------------------------------------------------------------

  /** Takes up a session that was read from the file and proven, or that is all there is left to try. */
  meet(session: PlacedSession, prev: number): void {
    const book = this.#current;
    book.add(session, prev);
    this.#numbers[SESSION_LAST] = Math.max(this.#numbers[SESSION_LAST]!, book.base + session.lsn);
  }

  /** Forgets what was met: the file is read from its beginning. */
  forget(): void {
    this.#newest = undefined;
    this.#current.wipe();
    this.#numbers[SESSION_LAST] = 0;
  }

  // -- writing, under the writer's lock ----------------------------------------

  /** Whether something can be sealed: a session of this open is in the file. */
  get isActive(): boolean {
    return this.#numbers[SESSION_ACTIVE] !== 0;
  }

  /** Whether the session that is being written is to be left when a batch begins. */
  get isSpent(): boolean {
    return this.#parts.control.flags[SESSION_BLOCKS]! >= BLOCKS_PER_SESSION;
  }

  /** The record of a fresh session for a position in the file. `enter` follows once it is in the log. */
  newSession(position: number): Uint8Array {
    const previousMac = this.last?.mac ?? NO_SESSION_MAC;
    const session = this.freshSession({ generation: this.#logNumbers[LOG_GENERATION]!, position, previousMac });
    this.#pending = [session];
    return encodeSession(session);
  }

  /** The same session's second record, which stands right behind the first: one damaged place then takes no key away. */
  twinSession(position: number): Uint8Array {
    const [first] = this.#pending;
    assert(first !== undefined, "a twin follows its first");
    const twin = this.twinOf(first, { generation: this.#logNumbers[LOG_GENERATION]!, position });
    this.#pending = [first, twin];
    return encodeSession(twin);
  }

  /** A record of the same key for a place behind the first one's. */
  twinOf(first: PlacedSession, place: { readonly generation: number; readonly position: number }): PlacedSession {
    const { generation, position: lsn } = place;
    const { salt, mac: previousMac } = first;
    return { lsn, ...makeSession(this.dataKey, { fileId: this.fileId, generation, lsn, previousMac, salt }) };
  }

  /** A session that nobody has sealed in, for a place in some file with this data key. */
  freshSession(place: {
    readonly generation: number;
    readonly position: number;
    readonly previousMac: Uint8Array;
  }): PlacedSession {
    const { generation, position: lsn, previousMac } = place;
    const salt = new Uint8Array(SESSION_SALT_BYTES);
    this.#parts.system.random(salt);
    return { lsn, ...makeSession(this.dataKey, { fileId: this.fileId, generation, lsn, previousMac, salt }) };
  }

  /** The session whose record stands at a position, and in which nothing has been sealed, is the one to write in. */
  enter(position: number): void {
    const book = this.#current;
    const pending = this.#pending.find(({ lsn }) => lsn === position);
    if (pending !== undefined) book.add(pending, this.#lastOf(book));
    this.#pending = [];
    this.#counted = -1;
    Atomics.store(this.#parts.control.flags, SESSION_BLOCKS, 0);
    this.#numbers[SESSION_LAST] = book.base + position;
    this.#numbers[SESSION_ACTIVE] = 1;
  }

  /** The same of one that a dead writer had begun. What this thread made for that place, and never wrote, has another salt. */
  adopt(position: number): void {
    this.#pending = [];
    this.enter(position);
  }

  /** What seals frames now. */
  get sealer(): FrameSealer {
    const sealer = this.isActive ? this.sealerAt(this.#numbers[SESSION_LAST]!) : undefined;
    assert(sealer !== undefined, "a session has begun before anything is sealed");
    return sealer;
  }

  /** A counter that nothing else in the session is sealed with. */
  nextCounter(): number {
    const last = this.#numbers[SESSION_LAST]!;
    if (this.#counter === undefined || this.#counted !== last) {
      this.#counter = new NonceCounter(sharedClaim(this.#parts.control.flags, { index: SESSION_BLOCKS }));
      this.#counted = last;
    }
    const counter = this.#counter.next();
    assert(counter !== undefined, "a session is left long before its counters are spent");
    return counter;
  }
}
