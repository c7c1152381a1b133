/**
 * Judges a recorded history by the log's order.
 *
 * What is checked: every acknowledged write is in the log, once; a batch is one commit; a read's value is at or behind
 * the newest write that was acknowledged, and the newest version that was read, before the read began, and no write
 * that began after the read ended; values read together were the newest ones at one moment; a swap and a removal
 * found what stands right before them.
 */

import { COLUMNS, KEYS, KIND } from "./history-facts.ts";
import type { Version } from "./history-log.ts";

/** One row of one thread's record. */
interface Row {
  readonly kind: number;
  readonly key: number;
  readonly mark: number;
  readonly from: number;
  readonly to: number;
}

interface Span {
  readonly from: number;
  readonly to: number;
}

/** A version's place in its key's list, and when the write that made it began and ended. */
interface Place {
  readonly index: number;
  readonly span: Span;
}

/** What was known of a key when: the newest version's index that an operation which ended by then had written or read. */
class Knowledge {
  readonly #ends: number[] = [];
  readonly #newest: number[] = [];

  constructor(events: { readonly to: number; readonly index: number }[]) {
    let newest = 0;
    for (const { to, index } of events.sort((one, other) => one.to - other.to)) {
      newest = Math.max(newest, index);
      this.#ends.push(to);
      this.#newest.push(newest);
    }
  }

  /** The newest index known before a time. */
  before(time: number): number {
    let [low, high] = [0, this.#ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle]! < time) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? 0 : this.#newest[low - 1]!;
  }
}

export class HistoryCheck {
  readonly #versions: readonly (readonly Version[])[];
  readonly #rows: readonly Row[][];
  readonly #places = new Map<number, Place>();
  readonly #knowledge: Knowledge[];
  readonly faults: string[] = [];
  /** Operations on keys that were judged. */
  count = 0;

  constructor(versions: readonly (readonly Version[])[], records: readonly Float64Array[]) {
    this.#versions = versions;
    this.#rows = records.map((record) => rowsOf(record));
    this.#placeWrites();
    this.#knowledge = this.#gatherKnowledge();
    for (const rows of this.#rows) this.#judge(rows);
  }

  #fault(text: string): void {
    if (this.faults.length < 20) this.faults.push(text);
  }

  #placeWrites(): void {
    const spans = new Map<number, Row>();
    for (const rows of this.#rows) {
      for (const row of rows) if (row.kind === KIND.write || row.kind === KIND.writeTogether) spans.set(row.mark, row);
    }
    for (const [key, versions] of this.#versions.entries()) {
      for (const [index, { mark }] of versions.entries()) {
        const row = spans.get(mark);
        if (mark === 0) continue;
        if (row === undefined || row.key !== key)
          this.#fault(`the log holds ${mark} for key ${key}, which nobody wrote`);
        else if (this.#places.has(mark)) this.#fault(`the log holds ${mark} twice`);
        else this.#places.set(mark, { index, span: row });
      }
    }
    for (const mark of spans.keys())
      if (!this.#places.has(mark)) this.#fault(`the log lacks ${mark}, which was acknowledged`);
  }

  #gatherKnowledge(): Knowledge[] {
    const events: { to: number; index: number }[][] = Array.from({ length: KEYS }, () => []);
    for (const rows of this.#rows) {
      for (const { kind, key, mark, to } of rows) {
        if (kind === KIND.end) continue;
        const index = this.#places.get(mark)?.index;
        // What was removed is known to be behind the value that the removal found.
        if (index !== undefined) events[key]!.push({ to, index: kind === KIND.remove ? index + 1 : index });
      }
    }
    return events.map((list) => new Knowledge(list));
  }

  #judge(rows: readonly Row[]): void {
    for (const [at, row] of rows.entries()) {
      switch (row.kind) {
        case KIND.read:
        case KIND.readTogether:
          this.#judgeRead(row);
          break;
        case KIND.remove:
          this.#judgePair(row, 0);
          break;
        case KIND.swappedFrom:
          this.#judgePair(row, rows[at + 1]!.mark);
          break;
        case KIND.end:
          this.#judgeGroup(rows.slice(row.key, at));
          continue;
      }
      this.count += 1;
    }
  }

  #judgeRead(row: Row): void {
    const known = this.#knowledge[row.key]!.before(row.from);
    const versions = this.#versions[row.key]!;
    if (row.mark === 0) {
      const hasAbsence = versions.some(({ mark }, index) => mark === 0 && index >= known && this.#hasBegun(row, index));
      if (!hasAbsence) this.#fault(`key ${row.key} was not found at ${row.from}-${row.to}; version ${known} was known`);
      return;
    }
    const place = this.#places.get(row.mark);
    if (place === undefined) return this.#fault(`${row.mark} was read of key ${row.key}, and is not in the log`);
    if (place.index < known)
      this.#fault(`version ${place.index} of key ${row.key} was read after version ${known} was known`);
    if (place.span.from > row.to)
      this.#fault(`version ${place.index} of key ${row.key} was read before its write began`);
  }

  /** Whether the version at an index can have been there before a read ended: no write up to it began later. */
  #hasBegun(row: Row, index: number): boolean {
    const before = this.#versions[row.key]![index - 1];
    const place = before === undefined ? undefined : this.#places.get(before.mark);
    return place === undefined || place.span.from <= row.to;
  }

  /** The version right behind the row's mark must be the one with the mark `next`. */
  #judgePair(row: Row, next: number): void {
    const versions = this.#versions[row.key]!;
    const ahead = next === 0 ? this.#places.get(row.mark)!.index + 1 : this.#places.get(next)!.index;
    if (versions[ahead]?.mark !== next || versions[ahead - 1]?.mark !== row.mark) {
      this.#fault(`key ${row.key}: ${next} did not come right after ${row.mark}`);
    }
  }

  #judgeGroup(group: readonly Row[]): void {
    if (group[0]?.kind === KIND.writeTogether) {
      const commits = new Set(
        group.map(({ key, mark }) => this.#versions[key]![this.#places.get(mark)!.index]!.commit),
      );
      if (commits.size !== 1) this.#fault(`one batch is ${commits.size} commits`);
      return;
    }
    const there = group.filter(({ mark }) => mark !== 0);
    let [low, high] = [0, Infinity];
    for (const { key, mark } of there) {
      const index = this.#places.get(mark)?.index ?? 0;
      low = Math.max(low, this.#versions[key]![index]!.commit);
      high = Math.min(high, this.#versions[key]![index + 1]?.commit ?? Infinity);
    }
    const absent = group.filter(({ mark }) => mark === 0).map(({ key }) => absences(this.#versions[key]!));
    const moments = [low, ...absent.flat().map(([start]) => start)].filter((moment) => moment >= low && moment < high);
    const isOneMoment = moments.some((moment) =>
      absent.every((spans) => spans.some(([start, end]) => start <= moment && moment < end)),
    );
    if (!isOneMoment)
      this.#fault(`${group.length} values read together at ${group[0]!.from} were never there together`);
  }
}

/** The commits between which a key was not there. */
function absences(versions: readonly Version[]): (readonly [number, number])[] {
  return versions.flatMap(({ mark, commit }, index) =>
    mark === 0 ? [[commit, versions[index + 1]?.commit ?? Infinity] as const] : [],
  );
}

function rowsOf(record: Float64Array): Row[] {
  return Array.from({ length: record.length / COLUMNS }, (_, index) => {
    const [kind = 0, key = 0, mark = 0, from = 0, to = 0] = record.subarray(index * COLUMNS, (index + 1) * COLUMNS);
    return { kind, key, mark, from, to };
  });
}
