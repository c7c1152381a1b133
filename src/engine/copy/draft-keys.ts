/** The session that a copy of an encrypted log is sealed in: fresh, the first in its file, and of nobody else. */

import { BLOCKS_MAX, NonceCounter } from "../../crypto/nonce-counter.ts";
import type { FrameSealer } from "../../crypto/frame-sealer.ts";
import type { PlacedSession } from "../../crypto/session-table.ts";
import { NO_SESSION_MAC, encodeSession } from "../../crypto/session.ts";
import { EmdbError, assert } from "../../errors.ts";
import { ForwardKeys } from "../sealed/forward-keys.ts";
import type { SealSource } from "../sealed/sealed-encoder.ts";
import type { Vault } from "../sealed/vault.ts";

export class DraftKeys implements SealSource {
  readonly #session: PlacedSession;
  readonly #generation: number;
  readonly #keys: ForwardKeys;
  readonly #counter: NonceCounter;

  /** A session whose record is to stand at a position of the new file. */
  constructor(vault: Vault, place: { readonly generation: number; readonly position: number }) {
    const { generation } = place;
    this.#generation = generation;
    this.#session = vault.freshSession({ ...place, previousMac: NO_SESSION_MAC });
    const { fileId, cipher } = vault;
    this.#keys = new ForwardKeys({ fileId, generation, cipher, dataKey: vault.keyCopy() });
    this.#keys.meet(this.#session);
    let blocks = 0;
    this.#counter = new NonceCounter(() => (blocks < BLOCKS_MAX ? blocks++ : undefined));
  }

  /** The content of the session's record. */
  get record(): Uint8Array {
    return encodeSession(this.#session);
  }

  /** The content of its second record, at a place behind the first. */
  twin(vault: Vault, position: number): Uint8Array {
    return encodeSession(vault.twinOf(this.#session, { generation: this.#generation, position }));
  }

  get sealer(): FrameSealer {
    const sealer = this.#keys.sealerAt(this.#session.lsn);
    assert(sealer !== undefined, "the session is in its own table");
    return sealer;
  }

  /** @throws {EmdbError} EMDB_FULL after 2^32 frames */
  nextCounter(): number {
    const counter = this.#counter.next();
    if (counter === undefined) throw new EmdbError("EMDB_FULL", "a copy of an encrypted log holds 2^32 frames at most");
    return counter;
  }

  wipe(): void {
    this.#keys.wipe();
  }
}
