/** Paths and the options of long calls, as a caller gives them. */

import { basename, resolve } from "node:path";
import { EmdbError } from "../errors.ts";
import { processEnvironment } from "../ffi/environment.ts";
import { describe, refuseUnknownNames, isOptions } from "./describe.ts";
import type { CompactOptions, ProgressOptions } from "./types.ts";
import { faultOnWindows } from "./windows-names.ts";

const hrefOfUrl = Object.getOwnPropertyDescriptor(URL.prototype, "href")?.get;
const abortedOfSignal = Object.getOwnPropertyDescriptor(AbortSignal.prototype, "aborted")?.get;

/**
 * An absolute path. A string is a path as it stands, also when it looks like a URL.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT for anything but a usable path or a `file:` URL
 */
export function checkedPath(path: unknown, { what }: { readonly what: string } = { what: "path" }): string {
  const text = isUrl(path) ? pathOfUrl(path, what) : path;
  if (typeof text !== "string") throw wrong(`the ${what} must be a string or a file: URL, got ${describe(path)}`);
  if (text === "") throw wrong(`the ${what} must not be empty`);
  if (text.includes("\0")) throw wrong(`the ${what} must not hold a NUL`);
  if (!text.isWellFormed()) throw wrong(`the ${what} must not hold a lone surrogate`);
  if (text === ":memory:") throw wrong('":memory:" is no file; use Emdb.openInMemory()');
  if (text.endsWith("/") || (processEnvironment.platform === "win32" && text.endsWith("\\"))) {
    throw wrong(`the ${what} ends in a separator; it must name a file`);
  }
  const absolute = resolve(text);
  // "a:b" is a stream of the file "a", which copies of it lack; other programs cannot reach the others.
  const fault = processEnvironment.platform === "win32" ? faultOnWindows(basename(absolute)) : undefined;
  if (fault !== undefined) throw wrong(`the name of the file, the end of the ${what}, ${fault}`);
  return absolute;
}

/**
 * The options of a long call, without anything else that was in them.
 *
 * `extra` names further properties that belong to the caller's type, which is called `what`
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT; EMDB_ABORTED when the signal is aborted already
 */
export function checkedProgress(
  options: ProgressOptions = {},
  { what = "ProgressOptions", extra = [] }: { readonly what?: string; readonly extra?: readonly string[] } = {},
): ProgressOptions {
  if (!isOptions(options)) {
    throw wrong(`the options must be an object, got ${describe(options)}`);
  }
  const known = ["signal", "onProgress", ...extra];
  refuseUnknownNames(options, { what, known, code: "EMDB_INVALID_ARGUMENT" });
  const { signal, onProgress } = options;
  if (signal !== undefined && !isSignal(signal)) {
    throw wrong(`signal must be an AbortSignal, got ${describe(signal)}`);
  }
  if (onProgress !== undefined && typeof onProgress !== "function") {
    throw wrong(`onProgress must be a function, got ${describe(onProgress)}`);
  }
  if (signal?.aborted === true) {
    throw new EmdbError("EMDB_ABORTED", "the signal was aborted before the call began", { cause: signal.reason });
  }
  return {
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress }),
  };
}

/** The options of a compaction; throws what `checkedProgress` does. */
export function checkedCompact(options: CompactOptions = {}): CompactOptions {
  const progress = checkedProgress(options, { what: "CompactOptions", extra: ["inKeyOrder"] });
  const { inKeyOrder = false } = options;
  if (typeof inKeyOrder !== "boolean") throw wrong(`inKeyOrder must be true or false, got ${describe(inKeyOrder)}`);
  return { ...progress, inKeyOrder };
}

/** `instanceof` alone takes a proxy for one, whose every property then throws. */
export function isUrl(given: unknown): given is URL {
  return answers(given, hrefOfUrl) && given instanceof URL;
}

function isSignal(given: unknown): given is AbortSignal {
  return answers(given, abortedOfSignal) && given instanceof AbortSignal;
}

/** Whether it is an object of the class that a getter is from. */
function answers(given: unknown, getter: ((this: unknown) => unknown) | undefined): boolean {
  try {
    getter?.call(given);
    return true;
  } catch {
    return false;
  }
}

function pathOfUrl(url: URL, what: string): string {
  if (url.protocol !== "file:") throw wrong(`the ${what} is a ${url.protocol} URL; only file: URLs name a file`);
  if (/%00/.test(url.pathname)) throw wrong(`the ${what} must not hold a NUL`);
  try {
    return Bun.fileURLToPath(url);
  } catch (cause) {
    throw new EmdbError("EMDB_INVALID_ARGUMENT", `the ${what} is a file: URL that names no local file`, { cause });
  }
}

function wrong(message: string): EmdbError {
  return new EmdbError("EMDB_INVALID_ARGUMENT", message);
}
