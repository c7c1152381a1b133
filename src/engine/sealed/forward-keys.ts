/** The sessions of a log that is read forwards by somebody who is not its engine: verify, salvage, a change of encryption. */

import { SessionTable, type PlacedSession } from "../../crypto/session-table.ts";
import type { SecretKey } from "../../crypto/secret.ts";
import type { FrameSealer } from "../../crypto/frame-sealer.ts";
import type { Cipher } from "../../crypto/cipher.ts";
import type { LogIdentity } from "../hint/hint-format.ts";
import type { SessionKeeper } from "./scan-opener.ts";
import { CLEAR_BYTES } from "./sealed-encoder.ts";

export class ForwardKeys implements SessionKeeper, Disposable {
  readonly cipher: Cipher;
  readonly generation: number;
  readonly fileId: Uint8Array;
  readonly dataKey: SecretKey;
  readonly #table: SessionTable;

  /** Takes the data key over: `wipe` zeroes it. */
  constructor(log: LogIdentity & { readonly cipher: Cipher; readonly dataKey: SecretKey }) {
    const { fileId, generation, cipher, dataKey } = log;
    this.cipher = cipher;
    this.generation = generation;
    this.fileId = fileId;
    this.dataKey = dataKey;
    this.#table = new SessionTable({ fileId, generation, cipher, dataKey, clearBytes: CLEAR_BYTES });
  }

  sealerAt(position: number): FrameSealer | undefined {
    return this.#table.sealerAt(position);
  }

  meet(session: PlacedSession): void {
    const { newest } = this.#table;
    if (newest === undefined || session.lsn > newest.lsn) this.#table.add(session);
  }

  wipe(): void {
    this.#table.wipe();
    this.dataKey.wipe();
  }

  [Symbol.dispose](): void {
    this.wipe();
  }
}
