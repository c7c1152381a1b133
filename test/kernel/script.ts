/**
 * What the children of this folder run: a script of the simulation's alphabet on a real file, with two shared words
 * that say how far it is.
 *
 * The words lie in a mapped file outside of the database's folder. Storing to them is no system call, and they are
 * there after the process was killed or its file system died.
 *
 *     i32   0 changes begun   1 changes acknowledged   2 how it ended, see ENDED
 */

import { writeFileSync } from "node:fs";
import { Oracle } from "../sim/oracle.ts";
import { changeOf, randomScript, type Operation, type Script } from "../sim/script.ts";
import type { Progress } from "../sim/oracle.ts";

const BEGUN = 0;
const ACKNOWLEDGED = 1;
const ENDED_AT = 2;
const WORDS = 3;

/** How a child ended: it still ran, it was through, an operation threw a typed error, or something else. */
export const ENDED = { running: 0, through: 1, typed: 2, untyped: 3 } as const;

/** Real files have a real clock, so nothing expires here. */
const KINDS: ReadonlySet<Operation["kind"]> = new Set([
  "insert",
  "remove",
  "batch",
  "clear",
  "drop",
  "flush",
  "turn",
  "reopen",
  "checkpoint",
  "compact",
]);

/** A random script of operations that a real file can show. */
export function kernelScript(seed: number, length: number): Script {
  const script: Operation[] = [];
  for (const operation of randomScript({ seed, length: 3 * length, isWide: true })) {
    if (!KINDS.has(operation.kind)) continue;
    script.push(operation.kind === "insert" ? { ...operation, ttlMs: 0 } : operation);
  }
  return script.slice(0, length);
}

/** An oracle that has heard of every change of a script. */
export function oracleOf(script: Script): Oracle {
  const oracle = new Oracle();
  for (const [index, operation] of script.entries()) {
    const change = changeOf(operation, { step: index + 1, nowMs: 0 });
    if (change !== undefined) oracle.begin(change);
  }
  return oracle;
}

export class ProgressWords {
  readonly #words: Int32Array;

  private constructor(path: string) {
    const bytes = Bun.mmap(path, { shared: true });
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, WORDS);
  }

  static create(path: string): ProgressWords {
    writeFileSync(path, new Uint8Array(4096));
    return new ProgressWords(path);
  }

  static open(path: string): ProgressWords {
    return new ProgressWords(path);
  }

  get begun(): number {
    return Atomics.load(this.#words, BEGUN);
  }

  get acknowledged(): number {
    return Atomics.load(this.#words, ACKNOWLEDGED);
  }

  get ended(): number {
    return Atomics.load(this.#words, ENDED_AT);
  }

  /** For the oracle, after the child is gone. */
  get progress(): Progress {
    return { acknowledged: this.acknowledged, issued: this.begun };
  }

  /** One more has begun; returns how many have. */
  begin(): number {
    return Atomics.add(this.#words, BEGUN, 1) + 1;
  }

  acknowledge(begun: number): void {
    Atomics.store(this.#words, ACKNOWLEDGED, begun);
  }

  end(how: number): void {
    Atomics.store(this.#words, ENDED_AT, how);
  }
}
