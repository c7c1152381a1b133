/**
 * The code that runs now, from where this thread's event loop or a promise has given it its turn: what was found out once need
 * not be found out again before it ends, and what it may make needless waits until it has.
 *
 * One microtask serves all databases of a thread. It holds none of them: a program that opens and closes thousands of
 * them in one piece would keep them all in memory until then.
 */

/** Who has something to do when this code has had its turn. */
export interface Waiting {
  afterRun(): void;
}

let run = 0;
let isCounted = false;
const waiting = new Set<Waiting>();

function end(): void {
  isCounted = false;
  run += 1;
  const all = [...waiting];
  waiting.clear();
  for (const one of all) one.afterRun();
}

/** A number that the code that runs now has for itself. */
export function thisRun(): number {
  if (!isCounted) {
    isCounted = true;
    queueMicrotask(end);
  }
  return run;
}

/** Calls `afterRun` once, when the code that runs now has had its turn. */
export function afterThisRun(one: Waiting): void {
  thisRun();
  waiting.add(one);
}

/** Takes that back; false when there was nothing to take back. */
export function neverMind(one: Waiting): boolean {
  return waiting.delete(one);
}
