/** Where a thread of an `Explorer` stands at a moment, and how it goes on from there. */

export type Answer = number | string | boolean;

/** Whoever is called when a word is notified, in the order in which they began to wait. */
export interface Sleeper {
  readonly thread: number;
  readonly word: number;
  /** Which of those that its event loop waits for it is; 0: its thread sleeps. */
  readonly id: number;
}

/** How a thread goes on: its next step, and what it has come to by what that answered. */
interface Ways {
  operate: (() => Answer) | undefined;
  readonly known: Map<string, Standing>;
}

export function newWays(): Ways {
  return { operate: undefined, known: new Map() };
}

/** What is known of a thread at a moment. */
export interface Standing {
  /** At its event loop it is idle. */
  readonly state: "ready" | "asleep" | "idle" | "over" | "dead" | "absent";
  /** The answers that its steps had. */
  readonly answers: readonly Answer[];
  /** What it knows of them, and what it is about to do. */
  readonly known: string;
  /** What its event loop waits for and can go on with at any time, and what has been called for and not come to yet. */
  readonly turns: readonly number[];
  readonly called: readonly number[];
  /** How long it has waited in vain ago, as far as that matters. */
  readonly sinceVainMs: number;
  /** The word it sleeps for, or its next step is about. */
  readonly word: number;
  readonly isAtClock: boolean;
  readonly leaps: number;
  readonly timeouts: number;
  readonly ways: Ways;
}

/** @throws when a thread has come to something else by the same answers */
export function expectSame(after: Standing, known: Standing): void {
  const isSame = Bun.deepEquals({ ...after, ways: 0, timeouts: 0 }, { ...known, ways: 0, timeouts: 0 });
  if (!isSame) throw new Error("what a thread comes to does not follow from its answers");
}
