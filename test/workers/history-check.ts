/**
 * Judges a recorded history by the log's order.
 *
 * Writes: each that was acknowledged is in the log, once, and behind all that was acknowledged before it began; a batch is
 * one commit. Removals: each in the log was made by exactly one operation, which found the value right before it, and
 * each that found a value is in the log. Reads: there is a moment, no earlier than anything that was acknowledged or seen
 * before the read began, at which what it saw was the newest, values read together all at once; no write of it began after
 * the read ended. A swap found the value right before its own; one that was refused met a moment with another value.
 */

import { COLUMNS, KIND, LISTS } from "./history-facts.ts";
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
  readonly #least: number;

  constructor(events: { readonly to: number; readonly index: number }[], least = 0) {
    let newest = (this.#least = least);
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
    return low === 0 ? this.#least : this.#newest[low - 1]!;
  }
}

type Moments = readonly (readonly [from: number, until: number])[];

export class HistoryCheck {
  readonly #versions: readonly (readonly Version[])[];
  readonly #rows: readonly Row[][];
  readonly #places = new Map<number, Place>();
  /** Who removed a value, by its mark. */
  readonly #removals = new Map<number, Row>();
  readonly #knowledge: Knowledge[];
  /** The newest commit that was acknowledged or seen, of any key. */
  readonly #commits: Knowledge;
  /** The same from the other end: the oldest commit that was not begun by then, all by its negative. */
  readonly #begins: Knowledge;
  readonly faults: string[] = [];
  /** Rows of each kind that were judged. */
  readonly counts = new Map<number, number>();

  constructor(versions: readonly (readonly Version[])[], records: readonly Float64Array[]) {
    this.#versions = versions;
    this.#rows = records.map((record) => rowsOf(record));
    this.#placeWrites();
    this.#placeRemovals();
    this.#knowledge = this.#gatherKnowledge();
    this.#commits = new Knowledge(this.#commitsOf(({ to }) => to));
    const isWrite = ({ kind }: Row): boolean =>
      kind === KIND.write || kind === KIND.writeTogether || kind === KIND.remove;
    const begun = this.#commitsOf(({ from }) => from, isWrite);
    this.#begins = new Knowledge(
      begun.map(({ to, index }) => ({ to: -to, index: -index })),
      -Infinity,
    );
    for (const rows of this.#rows) this.#judge(rows);
  }

  /** Operations on keys that were judged. */
  get count(): number {
    let count = 0;
    for (const [kind, judged] of this.counts) if (kind !== KIND.end) count += judged;
    return count;
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

  /** Each removal in the log is one that somebody made, and each that somebody made is there. */
  #placeRemovals(): void {
    for (const row of this.#rows.flat()) {
      if (row.kind !== KIND.remove) continue;
      if (this.#removals.has(row.mark)) this.#fault(`${row.mark} of key ${row.key} was removed twice`);
      this.#removals.set(row.mark, row);
    }
    for (const [key, versions] of this.#versions.entries()) {
      for (const [index, { mark }] of versions.entries()) {
        if (index > 0 && mark === 0 && !this.#removals.has(versions[index - 1]!.mark))
          this.#fault(`the log holds a removal of version ${index - 1} of key ${key}, which nobody made`);
      }
    }
  }

  /** Which version of its key a row wrote, left or saw; undefined for one that does not say. */
  #indexOf({ kind, mark }: Row): number | undefined {
    const index = this.#places.get(mark)?.index;
    if (kind === KIND.end || kind === KIND.refused || index === undefined) return undefined;
    // What was removed is known to be behind the value that the removal found.
    return kind === KIND.remove ? index + 1 : index;
  }

  #gatherKnowledge(): Knowledge[] {
    const events: { to: number; index: number }[][] = Array.from({ length: LISTS }, () => []);
    for (const row of this.#rows.flat()) {
      const index = this.#indexOf(row);
      if (index !== undefined) events[row.key]!.push({ to: row.to, index });
    }
    return events.map((list) => new Knowledge(list));
  }

  /** The commits of what rows wrote, left or saw, each with a time of the row. */
  #commitsOf(timeOf: (row: Row) => number, isMeant: (row: Row) => boolean = () => true) {
    return this.#rows.flat().flatMap((row) => {
      const index = isMeant(row) ? this.#indexOf(row) : undefined;
      const commit = index === undefined ? undefined : this.#versions[row.key]![index]?.commit;
      return commit === undefined ? [] : [{ to: timeOf(row), index: commit }];
    });
  }

  #judge(rows: readonly Row[]): void {
    for (const [at, row] of rows.entries()) {
      this.counts.set(row.kind, (this.counts.get(row.kind) ?? 0) + 1);
      switch (row.kind) {
        case KIND.read:
          if (this.#isPlausible(row)) this.#judgeMoment([row]);
          break;
        case KIND.readTogether:
          this.#isPlausible(row);
          break;
        case KIND.write:
        case KIND.writeTogether:
          this.#judgeOrder(row);
          break;
        case KIND.remove:
          this.#isPlausible(row);
          this.#judgePair(row, 0);
          this.#judgeOrder(row);
          break;
        case KIND.swappedFrom:
          this.#isPlausible(row);
          this.#judgePair(row, rows[at + 1]!.mark);
          break;
        case KIND.refused:
          this.#judgeRefused(row);
          break;
        case KIND.end:
          this.#judgeGroup(rows.slice(row.key, at));
          break;
        default:
          throw new Error(`a row of kind ${row.kind}`);
      }
    }
  }

  /** Whether what a row saw was neither gone by then nor still to come. */
  #isPlausible(row: Row): boolean {
    const before = this.faults.length;
    const known = this.#knowledge[row.key]!.before(row.from);
    const place = this.#places.get(row.mark);
    if (row.mark === 0) {
      const isAbsence = ({ mark }: Version, index: number): boolean =>
        mark === 0 && index >= known && this.#hasBegun(row, index);
      if (!this.#versions[row.key]!.some(isAbsence))
        this.#fault(`key ${row.key} was not found at ${row.from}-${row.to}; version ${known} was known`);
    } else if (place === undefined) {
      this.#fault(`${row.mark} was read of key ${row.key}, and is not in the log`);
    } else {
      if (place.index < known)
        this.#fault(`version ${place.index} of key ${row.key} was read after version ${known} was known`);
      if (place.span.from > row.to)
        this.#fault(`version ${place.index} of key ${row.key} was read before its write began`);
    }
    return this.faults.length === before;
  }

  /** What a row wrote is behind all that was acknowledged or seen before it began. */
  #judgeOrder(row: Row): void {
    const index = this.#indexOf(row);
    const commit = index === undefined ? undefined : this.#versions[row.key]![index]?.commit;
    // What the log lacks has been told.
    if (commit === undefined) return;
    const known = this.#commits.before(row.from);
    if (commit <= known)
      this.#fault(`version ${index} of key ${row.key} is commit ${commit}, and ${known} was known before it began`);
  }

  /** A swap that was refused: the key had, or came to have, another value than the one expected. */
  #judgeRefused(row: Row): void {
    const known = this.#knowledge[row.key]!.before(row.from);
    const commit = this.#commits.before(row.from);
    const versions = this.#versions[row.key]!;
    const isOther = versions.some(({ mark }, index) => {
      const isOver = (versions[index + 1]?.commit ?? Infinity) <= commit;
      return mark !== row.mark && index >= known && !isOver && this.#hasBegun(row, index);
    });
    if (!isOther)
      this.#fault(`a swap of key ${row.key} was refused at ${row.from}-${row.to}, which had what it expected`);
  }

  /** Whether the version at an index can have been there before an operation ended: no write up to it began later. */
  #hasBegun(row: Row, index: number): boolean {
    const versions = this.#versions[row.key]!;
    const version = versions[index]!;
    const before = versions[index - 1];
    if (before === undefined) return true;
    const made = version.mark === 0 ? this.#removals.get(before.mark) : this.#places.get(version.mark)?.span;
    return (made?.from ?? 0) <= row.to && (this.#places.get(before.mark)?.span.from ?? 0) <= row.to;
  }

  /** The version right behind the row's mark must be the one with the mark `next`. */
  #judgePair(row: Row, next: number): void {
    const versions = this.#versions[row.key]!;
    const place = this.#places.get(next === 0 ? row.mark : next);
    const ahead = (place?.index ?? -1) + (next === 0 ? 1 : 0);
    if (versions[ahead]?.mark !== next || versions[ahead - 1]?.mark !== row.mark) {
      this.#fault(`key ${row.key}: ${next} did not come right after ${row.mark}`);
    }
  }

  #judgeGroup(group: readonly Row[]): void {
    if (group[0]?.kind === KIND.writeTogether) {
      const indexes = group.map((row) => [row.key, this.#indexOf(row) ?? 0] as const);
      const commits = new Set(indexes.map(([key, index]) => this.#versions[key]![index]!.commit));
      if (commits.size !== 1) this.#fault(`one batch is ${commits.size} commits`);
      return;
    }
    this.#judgeMoment(group);
  }

  /** There is one moment at which all of them were the newest: not before what was known, nor after what began later. */
  #judgeMoment(group: readonly Row[]): void {
    const first = group[0]!;
    let left: Moments = [[this.#commits.before(first.from), -this.#begins.before(-first.to)]];
    for (const row of group) left = common(left, this.#momentsOf(row));
    if (left.length > 0) return;
    const what = group.length === 1 ? `what was read of key ${first.key}` : `${group.length} values read together`;
    this.#fault(`${what} at ${first.from} was never there ${group.length === 1 ? "then" : "together"}`);
  }

  /** The commits between which a key had what a row saw. */
  #momentsOf({ key, mark }: Row): Moments {
    const versions = this.#versions[key]!;
    const span = (index: number) => [versions[index]!.commit, versions[index + 1]?.commit ?? Infinity] as const;
    if (mark !== 0) return [span(this.#places.get(mark)?.index ?? 0)];
    return versions.flatMap((version, index) => (version.mark === 0 ? [span(index)] : []));
  }
}

/** What is in both, each in order. */
function common(one: Moments, other: Moments): Moments {
  const found: (readonly [number, number])[] = [];
  for (let [a, b] = [0, 0]; a < one.length && b < other.length;) {
    const from = Math.max(one[a]![0], other[b]![0]);
    const until = Math.min(one[a]![1], other[b]![1]);
    if (from < until) found.push([from, until]);
    if (one[a]![1] < other[b]![1]) a += 1;
    else b += 1;
  }
  return found;
}

function rowsOf(record: Float64Array): Row[] {
  return Array.from({ length: record.length / COLUMNS }, (_, index) => {
    const [kind = 0, key = 0, mark = 0, from = 0, to = 0] = record.subarray(index * COLUMNS, (index + 1) * COLUMNS);
    return { kind, key, mark, from, to };
  });
}
