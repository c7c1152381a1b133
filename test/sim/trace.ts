/** The list of calls that a process made: what a person reads when a crash point fails. */

import type { Call } from "./calls.ts";

interface TracedCall {
  readonly index: number;
  readonly call: Call;
  /** What came back; 0 for what is not a number. */
  readonly result: number;
}

/** A long run keeps its first calls: a crash point is named by its number from the start. */
const CALL_COUNT_MAX = 100_000;

export class Trace {
  readonly calls: TracedCall[] = [];

  add(call: TracedCall): void {
    if (this.calls.length < CALL_COUNT_MAX) this.calls.push(call);
  }

  /** One line per call, as `12 write 3 4096+190 = 190`. */
  lines(): string[] {
    return this.calls.map(({ index, call: { name, subject, span }, result }) => {
      const where = span === undefined ? "" : ` ${span.position}+${span.bytes}`;
      // Addresses differ from run to run; a trace does not.
      const shown = result > 0xffff_ffff ? "address" : String(result);
      return `${index} ${name}${subject === undefined ? "" : ` ${subject}`}${where} = ${shown}`;
    });
  }
}
