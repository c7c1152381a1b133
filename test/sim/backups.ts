/**
 * What may be at the target of a script's backups.
 *
 * A backup holds the records of one moment between its beginning and its end, so it may show the state after any step
 * of that span. Once one has ended well the target is there, and durable; one that failed, or is under way, may have
 * replaced it or not.
 */

import type { Machine } from "./machine.ts";

export const BACKUP_PATH = "/db/copy";

interface Span {
  readonly from: number;
  readonly to: number;
}

export interface BackupBounds {
  readonly isThere: boolean;
  /** Steps that the target may show. */
  readonly spans: readonly Span[];
}

export class Backups {
  #isThere = false;
  #spans: readonly Span[] = [];
  /** The step that the one under way began at. */
  #begunAt: number | undefined;

  begin(step: number): void {
    this.#begunAt ??= step;
  }

  /** The one under way is over. */
  end(step: number, isDone: boolean): void {
    if (this.#begunAt === undefined) return;
    const span = { from: this.#begunAt, to: step };
    this.#begunAt = undefined;
    this.#spans = isDone ? [span] : [...this.#spans, span];
    this.#isThere ||= isDone;
  }

  /** As of a moment; undefined while there never was a backup. */
  bounds(step: number): BackupBounds | undefined {
    if (this.#begunAt === undefined) {
      return this.#spans.length === 0 ? undefined : { isThere: this.#isThere, spans: this.#spans };
    }
    return { isThere: this.#isThere, spans: [...this.#spans, { from: this.#begunAt, to: step }] };
  }
}

/** Files of a backup that is not under way any more. */
export function strayFiles({ names }: Machine): string[] {
  return [...names.current.keys()].filter((path) => path.startsWith(`${BACKUP_PATH}.emdb-`));
}
