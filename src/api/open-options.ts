/** Options of opening: checked, defaults filled in, one shape for each choice. Everything wrong is EMDB_INVALID_CONFIG. */

import { EmdbError } from "../errors.ts";
import {
  AUTO_COMPACT_BYTES_MIN,
  AUTO_COMPACT_RATIO,
  GROUP_BATCH_MAX,
  GROUP_WAIT_MS_MAX,
  SWEEP_INTERVAL_MS_MAX,
} from "../limits.ts";
import { describe, refuseUnknownNames, shortened, isOptions } from "./describe.ts";
import type { AutoCompactPlan, EngineConfig, FlushPlan, OpenConfig } from "../engine/life.ts";
import { checkedCipher, checkedSecret } from "./secrets.ts";
import type { EngineOptions, OpenOptions } from "./types.ts";

const ENGINE_NAMES: readonly (keyof EngineOptions)[] = [
  "defaultTtlMs",
  "sweepIntervalMs",
  "autoCompact",
  "rangeScans",
  "flushPolicy",
  "encryption",
  "cipher",
  "verifyReads",
];
const OPEN_NAMES: readonly (keyof OpenOptions)[] = [...ENGINE_NAMES, "createIfMissing", "readOnly", "lockTimeoutMs"];

/** The names of `LocationOptions`, which only the form of `open` without a path takes. */
const LOCATION_NAMES: readonly string[] = ["appName", "databaseName", "dataRoot"];

/** @throws {EmdbError} EMDB_INVALID_CONFIG */
export function checkedEngineOptions(options: EngineOptions = {}): EngineConfig {
  requireObject(options);
  refuseUnknownNames(options, { what: "EngineOptions", known: ENGINE_NAMES, code: "EMDB_INVALID_CONFIG" });
  return engineConfigOf(options);
}

/**
 * @param form whether the location options may stand among them
 * @throws {EmdbError} EMDB_INVALID_CONFIG
 */
export function checkedOpenOptions(options: OpenOptions = {}, form: { readonly hasLocation: boolean }): OpenConfig {
  requireObject(options);
  const known = form.hasLocation ? [...OPEN_NAMES, ...LOCATION_NAMES] : OPEN_NAMES;
  if (!form.hasLocation) refuseLocation(options);
  refuseUnknownNames(options, { what: "OpenOptions", known, code: "EMDB_INVALID_CONFIG" });
  const isReadOnly = checkedFlag("readOnly", options.readOnly, { otherwise: false });
  const isCreated = checkedFlag("createIfMissing", options.createIfMissing, { otherwise: true });
  const lockTimeoutMs = checkedLockTimeout(options.lockTimeoutMs);
  return { ...engineConfigOf(options), readOnly: isReadOnly, createIfMissing: isCreated && !isReadOnly, lockTimeoutMs };
}

/**
 * Options of `resolvePath`. Those of `open` may stand among them, so that one object serves both.
 *
 * @throws {EmdbError} EMDB_INVALID_CONFIG
 */
export function requireLocation(options: unknown): void {
  requireObject(options);
  const known = [...LOCATION_NAMES, ...OPEN_NAMES];
  refuseUnknownNames(options, { what: "LocationOptions", known, code: "EMDB_INVALID_CONFIG" });
}

function engineConfigOf(options: EngineOptions): EngineConfig {
  const cipher = checkedCipher(options.cipher);
  const { encryption } = options;
  if (cipher !== undefined && encryption === undefined)
    throw wrong("cipher needs encryption: { key } or { passphrase }");
  return {
    defaultTtlMs: checkedDefaultTtl(options.defaultTtlMs),
    sweepIntervalMs: checkedSweepInterval(options.sweepIntervalMs),
    autoCompact: checkedAutoCompact(options.autoCompact),
    rangeScans: checkedFlag("rangeScans", options.rangeScans, { otherwise: false }),
    flushPlan: checkedFlushPolicy(options.flushPolicy),
    verifyReads: checkedFlag("verifyReads", options.verifyReads, { otherwise: false }),
    cipher,
    // Last: it is copied, and nobody wipes the copy of options that are refused.
    encryption: encryption === undefined ? undefined : checkedSecret(encryption),
  };
}

function checkedLockTimeout(timeoutMs: unknown): number {
  if (timeoutMs === undefined) return 0;
  if (typeof timeoutMs === "number" && timeoutMs >= 0) return timeoutMs;
  throw wrong(`lockTimeoutMs must be a number of milliseconds >= 0, got ${describe(timeoutMs)}`);
}

/** `Infinity` is no TTL at all, as in `InsertOptions`. */
function checkedDefaultTtl(ttlMs: unknown): number {
  if (ttlMs === undefined || ttlMs === Number.POSITIVE_INFINITY) return 0;
  if (typeof ttlMs === "number" && ttlMs > 0) return ttlMs;
  throw wrong(`defaultTtlMs must be a number of milliseconds > 0, got ${describe(ttlMs)}`);
}

/** 0 is no background sweep. */
function checkedSweepInterval(intervalMs: unknown): number {
  if (intervalMs === undefined || intervalMs === Number.POSITIVE_INFINITY) return 0;
  const isWhole = typeof intervalMs === "number" && Number.isInteger(intervalMs);
  if (isWhole && intervalMs >= 1 && intervalMs <= SWEEP_INTERVAL_MS_MAX) return intervalMs;
  throw wrong(
    `sweepIntervalMs must be a whole number of milliseconds from 1 to ${SWEEP_INTERVAL_MS_MAX}, got ${describe(intervalMs)}`,
  );
}

/** Undefined: never. */
function checkedAutoCompact(asked: unknown): AutoCompactPlan | undefined {
  if (asked === undefined || asked === false) return undefined;
  if (asked === true) return { ratio: AUTO_COMPACT_RATIO, bytesMin: AUTO_COMPACT_BYTES_MIN };
  if (!isOptions(asked)) throw wrong(`autoCompact must be true, false or { ratio, minBytes }, got ${describe(asked)}`);
  const known = ["ratio", "minBytes"];
  refuseUnknownNames(asked, { what: "autoCompact", known, code: "EMDB_INVALID_CONFIG" });
  const given = asked as { readonly ratio?: unknown; readonly minBytes?: unknown };
  const { ratio = AUTO_COMPACT_RATIO, minBytes = AUTO_COMPACT_BYTES_MIN } = given;
  if (typeof ratio !== "number" || !(ratio > 0 && ratio < 1))
    throw wrong(`autoCompact.ratio must be between 0 and 1, got ${describe(ratio)}`);
  if (typeof minBytes !== "number" || !Number.isSafeInteger(minBytes) || minBytes < 1)
    throw wrong(`autoCompact.minBytes must be a whole number of bytes from 1 on, got ${describe(minBytes)}`);
  return { ratio, bytesMin: minBytes };
}

function checkedFlushPolicy(policy: unknown): FlushPlan {
  if (policy === undefined || policy === "group") return { kind: "group", waitMsMax: 0, batchMax: GROUP_BATCH_MAX };
  if (policy === "on-each-flush" || policy === "write-through") return { kind: policy };
  const group = isOptions(policy) ? (policy as { readonly group?: unknown }).group : undefined;
  if (!isOptions(policy) || !isOptions(group)) {
    const got = typeof policy === "string" ? `"${shortened(policy)}"` : describe(policy);
    throw wrong(
      `flushPolicy must be "group", "on-each-flush", "write-through" or { group: { maxWaitMs, maxBatch } }, got ${got}`,
    );
  }
  refuseUnknownNames(policy, { what: "flushPolicy", known: ["group"], code: "EMDB_INVALID_CONFIG" });
  const known = ["maxWaitMs", "maxBatch"];
  refuseUnknownNames(group, { what: "flushPolicy.group", known, code: "EMDB_INVALID_CONFIG" });
  const { maxWaitMs, maxBatch } = group as { readonly maxWaitMs?: unknown; readonly maxBatch?: unknown };
  if (typeof maxWaitMs !== "number" || !(maxWaitMs >= 0 && maxWaitMs <= GROUP_WAIT_MS_MAX)) {
    throw wrong(`maxWaitMs must be from 0 to ${GROUP_WAIT_MS_MAX} milliseconds, got ${describe(maxWaitMs)}`);
  }
  if (!Number.isInteger(maxBatch) || !(Number(maxBatch) >= 1 && Number(maxBatch) <= GROUP_BATCH_MAX)) {
    throw wrong(`maxBatch must be a whole number from 1 to ${GROUP_BATCH_MAX}, got ${describe(maxBatch)}`);
  }
  return { kind: "group", waitMsMax: maxWaitMs, batchMax: Number(maxBatch) };
}

function checkedFlag(name: string, flag: unknown, rule: { readonly otherwise: boolean }): boolean {
  if (flag === undefined) return rule.otherwise;
  if (typeof flag === "boolean") return flag;
  throw wrong(`${name} must be true or false, got ${describe(flag)}`);
}

function refuseLocation(options: object): void {
  const name = LOCATION_NAMES.find((known) => known in options);
  if (name !== undefined) throw wrong(`${name} goes with Emdb.open(options), not beside a path`);
}

function requireObject(options: unknown): asserts options is object {
  if (!isOptions(options)) {
    throw wrong(`the options must be an object, got ${describe(options)}`);
  }
}

function wrong(message: string): EmdbError {
  return new EmdbError("EMDB_INVALID_CONFIG", message);
}
