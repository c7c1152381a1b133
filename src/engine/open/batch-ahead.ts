/**
 * A look ahead for the end of a batch, before anything of it is believed.
 *
 * Who only reads a file may do so beside a process that opens it for writing. That one cuts off a batch without an end
 * and writes others in its place, so nothing of such a batch may be in the index, nor be read through the map.
 *
 * Whether a batch is whole its checks tell, so of sealed frames only the last is opened, which may take the batch back:
 * to open each of them here takes as long as the replay itself. Where the batch is not whole, or was taken back and will
 * be passed over, each is opened after all: a forged length leads to a place that nobody wrote, or over what was.
 * A batch that is whole by its checks, and whose frames then do not open, was forged: replay gives up when it meets one,
 * and begins anew with a look that opens each.
 */

import { KIND_ABORT, PLACE_FIRST, PLACE_LAST, PLACE_MIDDLE } from "../../log/frame.ts";
import { Scanner, type Finding, type ScanSource } from "../../log/scanner.ts";

/** Where the batch ends, and whether that takes it back; or what stands where it should have gone on. */
export type Outcome =
  { readonly end: number; readonly isAborted: boolean } | { readonly finding: Finding; readonly stop: number };

export const NO_BATCH: Finding = { kind: "bad", reason: "a batch has no beginning, or no end" };

export class BatchAhead {
  /** Whether it opens each frame. */
  readonly opensEach: boolean;
  readonly #scanner: Scanner;

  /** The opener of the source, if it has one, is for this look alone. */
  constructor(source: ScanSource, opensEach: boolean) {
    this.#scanner = new Scanner(source, 0);
    this.opensEach = opensEach;
  }

  /** Follows the batch whose first frame stands at a position. */
  look(lsn: number): Outcome {
    const scanner = this.#scanner;
    const { facts } = scanner;
    let finding = this.opensEach ? NO_BATCH : this.#follow(lsn, (at) => scanner.judgeClosed(at));
    if (finding.kind === "frame") finding = scanner.judge(scanner.lsn);
    if (finding.kind !== "frame" || facts.kind === KIND_ABORT) finding = this.#follow(lsn, (at) => scanner.judge(at));
    if (finding.kind !== "frame") return { finding, stop: scanner.lsn };
    return { end: scanner.lsn + facts.frameBytes, isAborted: facts.kind === KIND_ABORT };
  }

  /** Goes to the last frame of the batch, or to what stands where it should have gone on. */
  #follow(lsn: number, judge: (at: number) => Finding): Finding {
    const scanner = this.#scanner;
    const { facts } = scanner;
    let finding = judge(lsn);
    for (let place = PLACE_FIRST; finding.kind === "frame"; place = PLACE_MIDDLE) {
      if (place === PLACE_MIDDLE && facts.place === PLACE_LAST) break;
      if (facts.place !== place) return NO_BATCH;
      finding = judge(scanner.lsn + facts.frameBytes);
    }
    return finding;
  }

  release(): void {
    this.#scanner.release();
  }
}
