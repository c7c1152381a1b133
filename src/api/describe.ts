/**
 * Words for error messages about a caller's arguments. Never the content of a string or of bytes, which may be
 * a secret: only what kind of thing it is and how long.
 */

import { EmdbError, type EmdbErrorCode } from "../errors.ts";

/** What `value` is, as in "a string of 5 characters" or "NaN". */
export function describe(value: unknown): string {
  switch (typeof value) {
    case "undefined":
    case "number":
    case "boolean":
      return String(value);
    case "bigint":
      return "a bigint";
    case "string":
      return `a string of ${value.length} character${value.length === 1 ? "" : "s"}`;
    case "symbol":
      return "a symbol";
    case "function":
      return "a function";
    default:
      return describeObject(value);
  }
}

function describeObject(value: unknown): string {
  if (value === null) return "null";
  const tagged = taggedAs(value);
  if (tagged === undefined) return "an object";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (ArrayBuffer.isView(value)) return `a view of ${value.byteLength} bytes`;
  const tag = tagged.slice("[object ".length, -1);
  if (tag === "Promise") return "a promise (is an await missing?)";
  return tag === "Object" ? "an object" : `an object of type ${shortened(tag)}`;
}

/** What kind of object it says it is, in brackets; undefined when it does not let anybody look: a getter throws, a proxy is revoked. */
function taggedAs(value: unknown): string | undefined {
  try {
    return Object.prototype.toString.call(value);
  } catch {
    return undefined;
  }
}

/** Whether `value` can be somebody's options: not an array, a Map, a Date, a promise that nobody awaited. */
export function isOptions(value: unknown): value is object {
  return typeof value === "object" && value !== null && taggedAs(value) === "[object Object]";
}

/**
 * Refuses every enumerable property of `options` that is not in `known`, naming the nearest one that is.
 *
 * @throws {EmdbError} `code`
 */
export function refuseUnknownNames(
  options: object,
  rule: { readonly what: string; readonly known: readonly string[]; readonly code: EmdbErrorCode },
): void {
  for (const name in options) {
    if (rule.known.includes(name)) continue;
    const nearest = nearestName(name, rule.known);
    const advice = nearest === undefined ? `known are ${rule.known.join(", ")}` : `did you mean ${nearest}?`;
    throw new EmdbError(rule.code, `${rule.what} has no "${shortened(name)}"; ${advice}`);
  }
}

/** The one of `known` that a slip of the keyboard would turn into `name`; undefined when none is near. */
function nearestName(name: string, known: readonly string[]): string | undefined {
  let nearest: string | undefined;
  let leastEdits = Math.max(2, Math.floor(name.length / 3)) + 1;
  if (name.length > 100) return undefined;
  for (const candidate of known) {
    const edits = editDistance({ from: name.toLowerCase(), to: candidate.toLowerCase() });
    if (edits >= leastEdits) continue;
    leastEdits = edits;
    nearest = candidate;
  }
  return nearest;
}

/** Levenshtein distance, one row at a time. */
function editDistance(pair: { readonly from: string; readonly to: string }): number {
  let above = Array.from({ length: pair.to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= pair.from.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= pair.to.length; column += 1) {
      const isSame = pair.from[row - 1] === pair.to[column - 1];
      const replaced = (above[column - 1] ?? 0) + (isSame ? 0 : 1);
      current.push(Math.min(replaced, (above[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    above = current;
  }
  return above[pair.to.length] ?? 0;
}

/** A name fit for a message: printable, and not a page long. */
export function shortened(name: string): string {
  const printable = name.replace(/[^\x20-\x7e]/g, "?");
  return printable.length <= 60 ? printable : `${printable.slice(0, 60)}...`;
}
