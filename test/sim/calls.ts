/**
 * The counter at which every call of a simulated process passes: it numbers, traces and, where the fault
 * plan says so, fails it.
 *
 * Invariants
 * 1. A number is given to a call before anything is done, and to every call that can fail.
 * 2. After the process has ended a call has no number, does nothing and fails with EIO.
 */

import { Errno } from "../../src/ffi/errno.ts";
import { errnoOf, FaultPlan } from "./faults.ts";
import { Trace } from "./trace.ts";
import type { Result } from "../../src/ffi/system.ts";
import type { CallName, Fault } from "./faults.ts";

export interface ByteSpan {
  readonly position: number;
  readonly bytes: number;
}

export interface Call {
  readonly name: CallName;
  readonly subject?: string | number;
  readonly span?: ByteSpan;
}

/** A moment at which a crash is worth looking at. */
export interface Point {
  readonly callIndex: number;
  /** "during": inside a write that goes through, which a crash may tear. */
  readonly phase: "before" | "during";
}

export class Calls {
  readonly faults: FaultPlan;
  readonly trace = new Trace();
  isAlive = true;
  /** How many calls that can fail were made. */
  count = 0;
  onPoint: ((point: Point) => void) | undefined;

  constructor(faults: readonly Fault[]) {
    this.faults = new FaultPlan(faults);
  }

  /** Does a call, or fails it; `onFault` may do something all the same and decide what comes back. */
  make<T>(call: Call, body: () => T | Result, onFault?: (fault: Fault) => Result | undefined): T | Result {
    if (!this.isAlive) return -Errno.EIO;
    const index = this.count;
    this.count += 1;
    this.onPoint?.({ callIndex: index, phase: "before" });
    const fault = this.faults.match(call.name, index);
    let result: T | Result;
    if (fault === undefined) {
      result = body();
    } else {
      if (fault.hasEffect === true) body();
      result = onFault?.(fault) ?? errnoOf(fault);
    }
    this.trace.add({ index, call, result: typeof result === "number" ? result : 0 });
    return result;
  }

  /** The call that is being made is at a moment of its own. */
  during(): void {
    this.onPoint?.({ callIndex: this.count - 1, phase: "during" });
  }
}
