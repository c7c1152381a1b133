/**
 * Databases that this thread has left while other threads still had them open. When those die without closing,
 * nobody would let go of the memory, the file and its lock: this thread does, at its next open or attach, or when it
 * looks after them.
 */

import { EmdbError } from "../errors.ts";
import type { Environment } from "./assemble.ts";
import type { SharedBase } from "./threads/base.ts";
import { CLOSING, CLOSING_DONE, Control } from "./threads/control.ts";
import { attachTo } from "./open/open.ts";
import { hasLivingRow } from "./threads/rows.ts";

/** How often, and for how long each time, an open waits for a thread that is dying. */
const TURNS = 25;
const TURN_MS = 10;
/** How soon after leaving, and then how seldom at last, the others are looked after. */
const LOOK_MS_MIN = 4;
const LOOK_MS_MAX = 2000;

/** By token id; outlives the module as the registry of open engines does. Never rename. */
const LEFT = Symbol.for("emdb.left-databases.1");

function left(): Map<string, SharedBase> {
  const holder = globalThis as { [LEFT]?: Map<string, SharedBase> };
  return (holder[LEFT] ??= new Map());
}

/** To be told of every database that this thread has left; looks after it from time to time until it is over. */
export function noteLeft(environment: Environment, base: SharedBase): void {
  if (isOver(base)) return;
  left().set(base.id, base);
  const look = (delayMs: number): void => {
    if (!left().has(base.id)) return;
    endAbandoned(environment, undefined);
    if (left().has(base.id)) environment.later?.(() => look(Math.min(2 * delayMs, LOOK_MS_MAX)), delayMs);
  };
  look(LOOK_MS_MIN);
}

function isOver(base: SharedBase): boolean {
  return Atomics.load(new Control(base.buffer).flags, CLOSING) === CLOSING_DONE;
}

/**
 * Ends every database that this thread has left and that only dead threads have open, in good order. Of one at
 * `path` it waits a moment for the last thread to be dead: a Worker says that it is closed a little before.
 */
export function endAbandoned(environment: Environment, path: string | undefined): void {
  for (const base of left().values()) {
    if (isOver(base)) left().delete(base.id);
    else if (isAbandoned(environment, base, path !== undefined && base.path === path ? TURNS : 1)) {
      left().delete(base.id);
      end(environment, base);
    }
  }
}

function isAbandoned(environment: Environment, base: SharedBase, turns: number): boolean {
  const control = new Control(base.buffer);
  for (let turn = 1; hasLivingRow(control, environment.system); turn += 1) {
    if (turn >= turns || isOver(base)) return false;
    Atomics.wait(control.flags, CLOSING, Atomics.load(control.flags, CLOSING), TURN_MS);
  }
  return true;
}

/** One in, one out: the last one out ends the log and lets go of everything. */
function end(environment: Environment, base: SharedBase): void {
  try {
    attachTo(environment, base).leave();
  } catch (error) {
    // A log that cannot be ended has been let go of all the same; the next open recovers it.
    if (!(error instanceof EmdbError)) throw error;
  }
}
