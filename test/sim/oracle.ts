/**
 * What a store may show after a crash.
 *
 * The log is a total order, so the oracle keeps the state after each step and how many steps a flush has
 * acknowledged. What is recovered has to be
 *   1. the state after some step: a prefix of the order,
 *   2. at or after the last step that was acknowledged,
 *   3. not after the last step that was begun,
 *   4. on a border: a batch is one step, so part of one is no state at all.
 *
 * An operation that threw may or may not have happened. Until the live store is looked at, both are possible
 * (`states` of a step has both); once it was, the other one may still come out of a crash as long as
 * nothing later is acknowledged (`leftovers`).
 */

import { ALL_TIME, applyChange, canonical, difference, EMPTY_STATE, stateOf } from "./model.ts";
import { Backups, type BackupBounds } from "./backups.ts";
import type { ModelChange, ModelState } from "./model.ts";
import type { StoreRecord } from "./store.ts";

/** A broken property by its number in the list of proofs; 0 is an error that is not a typed one. */
export interface Problem {
  readonly property: 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;
  readonly detail: string;
}

/** How far the order was at one moment. */
export interface Progress {
  readonly acknowledged: number;
  readonly issued: number;
  readonly backups?: BackupBounds | undefined;
}

interface Step {
  readonly change: ModelChange | undefined;
  states: readonly ModelState[];
  leftovers: readonly ModelState[];
}

interface Look {
  readonly text: string;
  readonly nowMs: number;
  readonly hasLeftovers: boolean;
}

/** More alternatives than this mean that the live store cannot be looked at: no check would be left. */
const STATE_COUNT_MAX = 64;

export class Oracle {
  readonly #steps: Step[] = [{ change: undefined, states: [EMPTY_STATE], leftovers: [] }];
  #acknowledged = 0;
  readonly backups = new Backups();

  /** The number of the step that was begun last. */
  get issued(): number {
    return this.#steps.length - 1;
  }

  get progress(): Progress {
    return { acknowledged: this.#acknowledged, issued: this.issued, backups: this.backups.bounds(this.issued) };
  }

  /** A step is about to be done; from here on a crash may show it. */
  begin(change: ModelChange): void {
    const states = this.#last().states.map((state) => applyChange(state, change));
    this.#steps.push({ change, states, leftovers: [] });
  }

  /** The step that was begun threw. Refused: it has certainly not happened. */
  fail({ isRefused }: { readonly isRefused: boolean }): void {
    const step = this.#last();
    const before = this.#steps[this.#steps.length - 2]?.states ?? [];
    step.states = isRefused ? before : distinct([...before, ...step.states]);
    if (step.states.length > STATE_COUNT_MAX) throw new Error("too many operations failed with the store out of sight");
  }

  /** Everything that had been begun at a moment is durable. */
  acknowledge(issued = this.issued): void {
    this.#acknowledged = Math.max(this.#acknowledged, issued);
  }

  /**
   * The step that was begun last has returned from a store that writes through, so it is durable. One that changes nothing and
   * has written nothing says nothing: what was refused before it may be in the file as before.
   */
  acknowledgeStep({ hasWritten }: { readonly hasWritten: boolean }): void {
    const before = this.#steps[this.#steps.length - 2]?.states ?? [];
    const hasChanged = this.#last().states.some((state, index) => {
      return canonical(state, ALL_TIME) !== canonical(before[index] ?? EMPTY_STATE, ALL_TIME);
    });
    if (hasChanged || hasWritten) this.acknowledge();
  }

  /** What the running store shows has to be the newest state. */
  observe(records: readonly StoreRecord[], nowMs: number): Problem | undefined {
    const shown = readState(records);
    if ("property" in shown) return shown;
    const text = canonical(shown.state, ALL_TIME);
    const step = this.#last();
    const matching = step.states.filter((state) => canonical(state, nowMs) === text);
    if (matching.length === 0) {
      const from = step.states[0] ?? EMPTY_STATE;
      return { property: 7, detail: `the running store differs: ${difference(shown.state, { from, nowMs })}` };
    }
    step.leftovers = [...step.leftovers, ...step.states.filter((state) => !matching.includes(state))];
    step.states = matching;
    return undefined;
  }

  /**
   * The store was opened again after a close that failed: it may show what a crash may, has made that
   * durable, and goes on from there. Where the disk has lost what it had said to hold, that may be any moment.
   */
  recover(
    records: readonly StoreRecord[],
    { nowMs, isVoid }: { readonly nowMs: number; readonly isVoid: boolean },
  ): Problem | undefined {
    const progress = isVoid ? { ...this.progress, acknowledged: 0 } : this.progress;
    const problem = this.checkRecovered(records, { progress, nowMs });
    if (problem !== undefined) return problem;
    this.#steps.push({ change: undefined, states: [stateOf(records)], leftovers: [] });
    this.acknowledge();
    return undefined;
  }

  /** The verdict on what a recovered store shows, given how far the order was at the crash. */
  checkRecovered(
    records: readonly StoreRecord[],
    { progress, nowMs }: { readonly progress: Progress; readonly nowMs: number },
  ): Problem | undefined {
    const shown = readState(records);
    if ("property" in shown) return shown;
    const text = canonical(shown.state, ALL_TIME);
    for (let index = progress.issued; index >= progress.acknowledged; index -= 1) {
      if (this.#matches(index, { text, nowMs, hasLeftovers: index > progress.acknowledged })) return undefined;
    }
    return this.#explain(shown.state, { progress, nowMs });
  }

  /** The verdict on what is at the target of backups; undefined for `records`: nothing. */
  checkBackup(
    records: readonly StoreRecord[] | undefined,
    { bounds, nowMs }: { readonly bounds: BackupBounds; readonly nowMs: number },
  ): Problem | undefined {
    if (records === undefined)
      return bounds.isThere ? { property: 2, detail: "a backup that had ended well is gone" } : undefined;
    const shown = readState(records);
    if ("property" in shown) return shown;
    const text = canonical(shown.state, ALL_TIME);
    for (const { from, to } of bounds.spans) {
      for (let index = from; index <= to; index += 1)
        if (this.#matches(index, { text, nowMs, hasLeftovers: true })) return undefined;
    }
    const last = bounds.spans.at(-1)?.to ?? 0;
    const from = this.#steps[last]?.states[0] ?? EMPTY_STATE;
    const how = difference(shown.state, { from, nowMs });
    return { property: 1, detail: `a backup shows no moment of its time; against step ${last}: ${how}` };
  }

  /**
   * The step that follows the one which `records` show, or undefined when that was the last that was begun: what
   * an application would do again after the crash.
   */
  lostStep(
    records: readonly StoreRecord[],
    { progress, nowMs }: { readonly progress: Progress; readonly nowMs: number },
  ): ModelChange | undefined {
    const text = canonical(stateOf(records), ALL_TIME);
    for (let index = progress.issued; index >= progress.acknowledged; index -= 1) {
      if (this.#matches(index, { text, nowMs, hasLeftovers: true })) return this.#steps[index + 1]?.change;
    }
    return undefined;
  }

  #last(): Step {
    const step = this.#steps.at(-1);
    if (step === undefined) throw new Error("the first step is always there");
    return step;
  }

  #matches(index: number, { text, nowMs, hasLeftovers }: Look): boolean {
    const step = this.#steps[index];
    if (step === undefined) return false;
    const states = hasLeftovers ? [...step.states, ...step.leftovers] : step.states;
    return states.some((state) => canonical(state, nowMs) === text);
  }

  #explain(shown: ModelState, { progress, nowMs }: { readonly progress: Progress; readonly nowMs: number }): Problem {
    const text = canonical(shown, ALL_TIME);
    const { acknowledged, issued } = progress;
    const isUndone = this.#steps[acknowledged]?.leftovers.some((state) => canonical(state, nowMs) === text) === true;
    if (isUndone)
      return { property: 2, detail: `shows step ${acknowledged}, which threw, and its absence was acknowledged` };
    for (let index = acknowledged - 1; index >= 0; index -= 1) {
      if (this.#matches(index, { text, nowMs, hasLeftovers: true })) {
        return { property: 2, detail: `shows step ${index}, but step ${acknowledged} was acknowledged` };
      }
    }
    for (let index = issued + 1; index < this.#steps.length; index += 1) {
      if (this.#matches(index, { text, nowMs, hasLeftovers: true })) {
        return { property: 3, detail: `shows step ${index}, but only ${issued} were begun` };
      }
    }
    for (let index = 1; index <= issued; index += 1) {
      if (this.#isPartOf(index, { text, nowMs }))
        return { property: 4, detail: `shows a part of the batch that is step ${index}` };
    }
    const from = this.#steps[issued]?.states[0] ?? EMPTY_STATE;
    return { property: 1, detail: `is no prefix; against step ${issued}: ${difference(shown, { from, nowMs })}` };
  }

  #isPartOf(index: number, { text, nowMs }: { readonly text: string; readonly nowMs: number }): boolean {
    const change = this.#steps[index]?.change;
    const before = this.#steps[index - 1]?.states ?? [];
    if (change?.kind !== "write") return false;
    for (let count = 1; count < change.writes.length; count += 1) {
      for (const state of before) {
        for (const writes of [change.writes.slice(0, count), change.writes.slice(count)]) {
          if (canonical(applyChange(state, { kind: "write", writes }), nowMs) === text) return true;
        }
      }
    }
    return false;
  }
}

function readState(records: readonly StoreRecord[]): { readonly state: ModelState } | Problem {
  try {
    return { state: stateOf(records) };
  } catch (error) {
    return { property: 7, detail: error instanceof Error ? error.message : String(error) };
  }
}

function distinct(states: readonly ModelState[]): ModelState[] {
  const seen = new Map<string, ModelState>();
  for (const state of states) {
    // Also what has expired: the clock may go back.
    const text = canonical(state, ALL_TIME);
    if (!seen.has(text)) seen.set(text, state);
  }
  return [...seen.values()];
}
