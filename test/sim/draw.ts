/**
 * What a power loss takes and what it leaves.
 *
 * A draw names one outcome; from one seed it is always the same. `Fate` answers the questions that come up
 * while the disk after the crash is put together.
 */

import { mixSeed, Random } from "./random.ts";

export type Draw =
  /** Everything that was pending reached the disk. */
  | { readonly kind: "all" }
  /** Only what was synced is there. */
  | { readonly kind: "none" }
  /** Sizes and names persisted, no data: zeros where it should be. */
  | { readonly kind: "metadata" }
  /** Data persisted in place, sizes and names did not. */
  | { readonly kind: "data" }
  /** Sector by sector, from a seed. */
  | { readonly kind: "random"; readonly seed: number }
  /** Only the process ended: the page cache is whole and still pending. */
  | { readonly kind: "kill" };

/** Ordered: names and truncations persist as a prefix, as ext4's journal does. Strict: any subset that the folder syncs allow. */
export type JournalMode = "ordered" | "strict";

/** What became of one sector of a pending write. Zeros and garbage happen to blocks that were never durable. */
export type SectorFate = "kept" | "lost" | "torn" | "zeros" | "garbage";

/** The draws that every crash point deserves: the extremes, the process's death, and some from a seed. */
export function standardDraws({ seed, randomCount }: { readonly seed: number; readonly randomCount: number }): Draw[] {
  const draws: Draw[] = [{ kind: "all" }, { kind: "none" }, { kind: "metadata" }, { kind: "kill" }];
  for (let index = 0; index < randomCount; index += 1) draws.push({ kind: "random", seed: mixSeed(seed, index) });
  return draws;
}

type Leaning = "kept" | "lost" | "drawn";

const LEANINGS: Record<
  "all" | "none" | "metadata" | "data" | "random",
  { readonly data: Leaning; readonly names: Leaning }
> = {
  all: { data: "kept", names: "kept" },
  none: { data: "lost", names: "lost" },
  metadata: { data: "lost", names: "kept" },
  data: { data: "kept", names: "lost" },
  random: { data: "drawn", names: "drawn" },
};

export class Fate {
  readonly data: Leaning;
  readonly names: Leaning;
  readonly random: Random;
  readonly #mode: JournalMode;
  readonly #keep: number;
  readonly #tear: number;
  readonly #garbage: number;
  /** In ordered mode: the first sequence number that did not persist. */
  #journalCut = 0;

  constructor(draw: Exclude<Draw, { readonly kind: "kill" }>, mode: JournalMode) {
    ({ data: this.data, names: this.names } = LEANINGS[draw.kind]);
    this.random = new Random(draw.kind === "random" ? draw.seed : 1);
    this.#mode = mode;
    // One temper per crash: disks that lost nearly all, nearly nothing or half, and disks that do not tear.
    this.#keep = this.random.pick([0.05, 0.5, 0.5, 0.95]);
    this.#tear = this.random.pick([0, 0.1, 0.4]);
    this.#garbage = this.random.pick([0, 0, 0.3]);
  }

  /** Ordered mode: decides how much of the journal persisted; sequences are ascending. */
  cutJournal(sequences: readonly number[]): void {
    const index = this.random.below(sequences.length + 1);
    this.#journalCut = sequences[index] ?? Number.POSITIVE_INFINITY;
  }

  /** Whether a change of names or an explicit size persisted. */
  keepsChange(sequence: number): boolean {
    if (this.names !== "drawn") return this.names === "kept";
    return this.#mode === "ordered" ? sequence < this.#journalCut : this.random.chance(0.5);
  }

  /** The size that persisted when a write made the file longer. */
  grownSize({ from, to }: { readonly from: number; readonly to: number }): number {
    if (this.names !== "drawn") return this.names === "kept" ? to : from;
    const chosen = this.random.below(4);
    if (chosen === 0) return from;
    if (chosen === 1) return from + this.random.below(to - from + 1);
    return to;
  }

  sector({ isFresh }: { readonly isFresh: boolean }): SectorFate {
    if (this.data !== "drawn") return this.data;
    if (this.random.chance(this.#tear)) return "torn";
    if (this.random.chance(this.#keep)) return "kept";
    if (!isFresh) return "lost";
    return this.random.chance(this.#garbage) ? "garbage" : "zeros";
  }
}
