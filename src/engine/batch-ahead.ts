/**
 * A look ahead for the end of a batch, before anything of it is believed.
 *
 * Who only reads a file may do so beside a process that opens it for writing. That one cuts off a batch without an end
 * and writes others in its place, so nothing of such a batch may be in the index, nor be read through the map.
 */

import { KIND_ABORT, PLACE_FIRST, PLACE_LAST, PLACE_MIDDLE } from "../log/frame.ts";
import { Scanner, type Finding, type ScanSource } from "../log/scanner.ts";

/** Where the batch ends, and whether that takes it back; or what stands where it should have gone on. */
export type Outcome =
  { readonly end: number; readonly isAborted: boolean } | { readonly finding: Finding; readonly stop: number };

export const NO_BATCH: Finding = { kind: "bad", reason: "a batch has no beginning, or no end" };

export class BatchAhead {
  readonly #scanner: Scanner;

  /** The opener of the source, if it has one, is for this look alone. */
  constructor(source: ScanSource) {
    this.#scanner = new Scanner(source, 0);
  }

  /** Follows the batch whose first frame stands at a position. */
  look(lsn: number): Outcome {
    const scanner = this.#scanner;
    let finding = scanner.judge(lsn);
    for (let place = PLACE_FIRST; finding.kind === "frame"; place = PLACE_MIDDLE) {
      const { facts } = scanner;
      const isLast = place === PLACE_MIDDLE && facts.place === PLACE_LAST;
      if (isLast) return { end: scanner.lsn + facts.frameBytes, isAborted: facts.kind === KIND_ABORT };
      if (facts.place !== place) return { finding: NO_BATCH, stop: scanner.lsn };
      finding = scanner.next();
    }
    return { finding, stop: scanner.lsn };
  }

  release(): void {
    this.#scanner.release();
  }
}
