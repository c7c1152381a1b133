/**
 * Opening frames on a way forwards through an encrypted log: replay, verify, salvage.
 *
 * Every session record is proven on the way: its MAC, which chains to the session before it, and the distance to
 * that. Where something before it was lost neither can be; then it is taken as it is, and its frames tell. Of the two
 * records of a session either one does: they have one salt, and name the same session before them.
 */

import { NO_SESSION_MAC, decodeSession, parseSession, type Session } from "../../crypto/session.ts";
import type { PlacedSession } from "../../crypto/session-table.ts";
import { compare, copy, pinned, sharedScratch, type Pinned } from "../../ffi/memory.ts";
import { FRAME_HEADER_BYTES, KIND_SESSION, SESSION_BYTES, type FrameFacts } from "../../log/frame.ts";
import type { ClosedFrame, Finding, FrameOpener } from "../../log/scanner.ts";
import { FrameOpening, HEAD_BYTES } from "./frame-opening.ts";
import type { OpenAhead } from "./open-ahead.ts";
import { sealedLiveBytes } from "./sealed-encoder.ts";
import type { FrameSealer } from "../../crypto/frame-sealer.ts";
import type { SecretKey } from "../../crypto/secret.ts";

type Bad = Extract<Finding, { kind: "bad" }>;

const NOT_OPEN: Bad = {
  kind: "bad",
  reason: "the sealed frame does not open: it was changed, or does not belong here",
};
const BAD_SESSION: Bad = { kind: "bad", reason: "the session record was changed, or does not belong here" };
const NO_BYTES = new Uint8Array(0);
const PLACED_BYTES_MAX = 4096;
const sharedRaw = sharedScratch(PLACED_BYTES_MAX);

/** Who has the keys. Positions are those of the file. */
export interface SessionKeeper {
  readonly fileId: Uint8Array;
  readonly dataKey: SecretKey;
  /** What opens the frame at a position; undefined when no session stands before it. */
  sealerAt(position: number): FrameSealer | undefined;
  /** Takes up a session behind all others; `prev` is where the one before it stands, 0 for none. */
  meet(session: PlacedSession, prev: number): void;
}

/** What is known where the way begins. */
export interface ScanStart {
  readonly generation: number;
  /** The session in which the first frame stands; undefined at the beginning of the file. */
  readonly last?: PlacedSession | undefined;
  readonly isLost?: () => boolean;
  /** Helpers that open frames ahead of this. */
  readonly ahead?: OpenAhead | undefined;
}

export class ScanOpener implements FrameOpener {
  readonly head: Pinned = pinned(HEAD_BYTES);
  readonly #keys: SessionKeeper;
  readonly #generation: number;
  readonly #opening: FrameOpening;
  /** Whether something before was lost. */
  readonly #isLost: () => boolean;
  readonly #ahead: OpenAhead | undefined;
  readonly #raw: Pinned = sharedRaw();
  readonly #place = { source: this.#raw.u8, at: 0, address: 0, lsn: 0, bodyBytes: 0 };
  #last: PlacedSession | undefined;
  /** What it named as the session before it. */
  #lastPrev = 0;
  #isRecord = false;

  constructor(keys: SessionKeeper, from: ScanStart) {
    this.#keys = keys;
    this.#opening = new FrameOpening(this.head);
    this.#generation = from.generation;
    this.#last = from.last;
    this.#isLost = from.isLost ?? (() => false);
    this.#ahead = from.ahead;
  }

  value(): Uint8Array {
    return this.#isRecord ? this.#opening.value() : NO_BYTES;
  }

  open(facts: FrameFacts, frame: ClosedFrame): Bad | undefined {
    this.#isRecord = facts.kind !== KIND_SESSION;
    if (!this.#isRecord) return this.#meet(facts, frame);
    if (!this.#openRecord(frame, this.#keys.sealerAt(frame.lsn))) return NOT_OPEN;
    const { record } = this.#opening;
    facts.kind = record.kind;
    facts.space = record.space;
    facts.keyBytes = record.keyBytes;
    facts.valueBytes = record.valueBytes;
    facts.expiresAtMs = record.expiresAtMs;
    facts.liveBytes = sealedLiveBytes(record);
    facts.prev = record.previous === 0 ? 0 : frame.lsn - record.previous * 8;
    return undefined;
  }

  #openRecord(frame: ClosedFrame, sealer: FrameSealer | undefined): boolean {
    const ahead = this.#ahead;
    const span = ahead === undefined || sealer === undefined ? undefined : ahead.find(frame, sealer);
    if (span !== undefined) return this.#opening.takeOpened(frame, ahead!.memory, span);
    return this.#opening.open(this.#placed(frame), sealer);
  }

  /** A short frame copied to where the ones before were: what opens it then needs no view of its own. */
  #placed(frame: ClosedFrame): ClosedFrame {
    const whole = FRAME_HEADER_BYTES + frame.bodyBytes;
    if (frame.address === 0 || whole > PLACED_BYTES_MAX) return frame;
    const placed = this.#place;
    copy(this.#raw.address, frame.address, whole);
    placed.lsn = frame.lsn;
    placed.bodyBytes = frame.bodyBytes;
    return placed;
  }

  /** A second record names what the first does. */
  #expectedPrev(session: Session): number {
    const last = this.#last;
    if (last === undefined) return 0;
    const isTwin = compare(last.salt, session.salt, session.salt.length) === 0;
    return isTwin ? this.#lastPrev : last.lsn;
  }

  #meet(facts: FrameFacts, frame: ClosedFrame): Bad | undefined {
    const { source, at, lsn, bodyBytes } = frame;
    const end = at + FRAME_HEADER_BYTES + bodyBytes;
    const bytes = source.subarray(end - SESSION_BYTES, end);
    if (this.#last?.lsn === lsn) return undefined;
    const { fileId, dataKey } = this.#keys;
    const generation = this.#generation;
    const previousMac = this.#last?.mac ?? NO_SESSION_MAC;
    let session = decodeSession(bytes, dataKey, { fileId, generation, lsn, previousMac });
    if (session !== undefined && facts.prev !== this.#expectedPrev(session)) session = undefined;
    if (session === undefined && this.#isLost()) session = parseSession(bytes);
    if (session === undefined) return BAD_SESSION;
    this.#last = { lsn, ...session };
    this.#lastPrev = facts.prev;
    this.#keys.meet(this.#last, facts.prev);
    return undefined;
  }
}
