/**
 * From a duration or a deadline to what a record stores: one absolute deadline, a whole number of Unix
 * milliseconds; 0 is never. A record is expired when its deadline is at or before the clock's now.
 *
 * Fractions are rounded up. On a clock of whole milliseconds that changes nothing that can be seen: a deadline of
 * 1001.5 and one of 1002 both pass between the readings 1001 and 1002. A duration is rounded before it is added: a sum
 * with the time of day has no place for a part of a microsecond.
 */

import { EmdbError } from "../errors.ts";
import { EXPIRES_AT_MS_MAX } from "../limits.ts";
import { describe, refuseUnknownNames, isOptions } from "./describe.ts";
import type { InsertOptions } from "./types.ts";

const NEVER = 0;

/** What a duration is counted from, and what a record without one gets. */
export interface DeadlineSource {
  /** 0 for none. */
  readonly defaultTtlMs: number;
  readonly store: { now(): number; clockMs(): number };
}

/** What insert options say, undefined if nothing: read and checked, once, since reading them may run code of the caller's. */
export type Lifetime = { readonly ttlMs: number } | { readonly expiresAtMs: number } | undefined;

/**
 * What `options` say of how long a record lives.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT
 */
export function lifetimeOf(options: InsertOptions | undefined): Lifetime {
  return options === undefined ? undefined : lifetimeAsked(options);
}

/** The deadline of a record inserted now; 0 is never. A duration begins here: behind whatever code of the caller's the call runs. */
export function deadlineOf(lifetime: Lifetime, source: DeadlineSource): number {
  const { defaultTtlMs, store } = source;
  if (lifetime === undefined) return defaultTtlMs === 0 ? NEVER : rounded(store.clockMs() + Math.ceil(defaultTtlMs));
  if ("expiresAtMs" in lifetime) return lifetime.expiresAtMs === NEVER ? NEVER : rounded(lifetime.expiresAtMs);
  const { ttlMs } = lifetime;
  // What has no time to live is expired at once, also for whoever goes by an earlier moment.
  return rounded(ttlMs === 0 ? store.now() : store.clockMs() + Math.ceil(ttlMs));
}

/** Whether a deadline that `deadlineOf` gave has passed. */
export function isPast(expiresAtMs: number, clock: { now(): number }): boolean {
  return expiresAtMs !== NEVER && expiresAtMs <= clock.now();
}

function lifetimeAsked(options: InsertOptions): Lifetime {
  if (!isOptions(options)) {
    throw new EmdbError("EMDB_INVALID_ARGUMENT", `the insert options must be an object, got ${describe(options)}`);
  }
  refuseUnknownNames(options, INSERT_RULE);
  const { ttlMs, expiresAtMs } = options;
  if (ttlMs !== undefined && expiresAtMs !== undefined) {
    throw new EmdbError("EMDB_INVALID_ARGUMENT", "ttlMs and expiresAtMs exclude each other; give one");
  }
  if (ttlMs !== undefined) {
    if (typeof ttlMs !== "number" || !(ttlMs >= 0)) {
      throw new EmdbError(
        "EMDB_INVALID_ARGUMENT",
        `ttlMs must be a number of milliseconds >= 0, got ${describe(ttlMs)}`,
      );
    }
    return { ttlMs };
  }
  if (expiresAtMs === undefined) return undefined;
  if (typeof expiresAtMs !== "number" || Number.isNaN(expiresAtMs)) {
    throw new EmdbError("EMDB_INVALID_ARGUMENT", `expiresAtMs must be Unix milliseconds, got ${describe(expiresAtMs)}`);
  }
  return { expiresAtMs };
}

const INSERT_RULE = {
  what: "InsertOptions",
  known: ["ttlMs", "expiresAtMs"],
  code: "EMDB_INVALID_ARGUMENT",
} as const;

/** Never 0 for a deadline that is one: a moment before 1970 has passed just as well at 1. */
function rounded(deadlineMs: number): number {
  if (deadlineMs > EXPIRES_AT_MS_MAX) return NEVER;
  return Math.max(1, Math.ceil(deadlineMs));
}
