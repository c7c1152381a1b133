/**
 * Names of files and folders, and the journal of what was done to them since it was last made durable.
 *
 * Invariants
 * 1. `current` is what the running system sees; `durable` plus any allowed part of `journal` is what a
 *    power loss may leave.
 * 2. `durable` and `journal` are replaced, never changed in place (the journal only grows at its end), so a
 *    crash point keeps references to them and a count.
 * 3. The edits of one change persist together when they are in one folder (a rename is atomic), and may be
 *    told apart in strict mode when they are in two.
 * 4. An entry whose folder did not persist is unreachable, and so are the folder's other entries.
 */

import type { Fate, JournalMode } from "./draw.ts";

export type NameEntry = { readonly kind: "file"; readonly inode: number } | { readonly kind: "folder" };

export interface NameEdit {
  readonly path: string;
  /** undefined: the name goes away. */
  readonly entry: NameEntry | undefined;
}

export interface NameChange {
  readonly sequence: number;
  readonly edits: readonly NameEdit[];
}

export type NameTable = ReadonlyMap<string, NameEntry>;

export function folderOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash <= 0 ? "/" : path.slice(0, slash);
}

export class Names {
  readonly current: Map<string, NameEntry>;
  readonly #mode: JournalMode;
  #durable: NameTable;
  #journal: NameChange[] = [];

  constructor(durable: NameTable, mode: JournalMode) {
    this.#durable = durable;
    this.#mode = mode;
    this.current = new Map(durable);
  }

  get durable(): NameTable {
    return this.#durable;
  }

  get journal(): readonly NameChange[] {
    return this.#journal;
  }

  change(change: NameChange): void {
    this.#journal.push(change);
    apply(this.current, change.edits);
  }

  /** Every change that the journal still holds when a process died and the page cache did not. */
  resume(changes: readonly NameChange[]): void {
    for (const change of changes) this.change(change);
  }

  /** Makes the changes in one folder durable; returns the sequence number behind the last one of them. */
  syncFolder(folder: string): number {
    let last = -1;
    for (const change of this.#journal) {
      if (change.edits.some((edit) => folderOf(edit.path) === folder)) last = change.sequence;
    }
    if (last < 0) return 0;
    if (this.#mode === "ordered") return this.commitBefore(last + 1);
    const durable = new Map(this.#durable);
    const kept: NameChange[] = [];
    for (const change of this.#journal) {
      apply(
        durable,
        change.edits.filter((edit) => folderOf(edit.path) === folder),
      );
      const rest = change.edits.filter((edit) => folderOf(edit.path) !== folder);
      if (rest.length > 0) kept.push({ sequence: change.sequence, edits: rest });
    }
    this.#durable = durable;
    this.#journal = kept;
    return 0;
  }

  /** Makes everything before a sequence number durable and returns it. */
  commitBefore(sequence: number): number {
    const durable = new Map(this.#durable);
    for (const change of this.#journal) if (change.sequence < sequence) apply(durable, change.edits);
    this.#durable = durable;
    this.#journal = this.#journal.filter((change) => change.sequence >= sequence);
    return sequence;
  }

  /** What is there when a machine comes up. */
  reset(durable: NameTable): void {
    this.#durable = durable;
    this.#journal = [];
    this.current.clear();
    for (const [path, entry] of durable) this.current.set(path, entry);
  }

  /** Where the journal has last to do with a file; -1 when it has nothing to do with it. */
  lastSequenceOf(inode: number): number {
    let last = -1;
    for (const change of this.#journal) {
      if (change.edits.some((edit) => edit.entry?.kind === "file" && edit.entry.inode === inode))
        last = change.sequence;
    }
    return last;
  }
}

function apply(names: Map<string, NameEntry>, edits: readonly NameEdit[]): void {
  for (const { path, entry } of edits) {
    if (entry === undefined) names.delete(path);
    else names.set(path, entry);
  }
}

/** The names that a power loss leaves. */
export function renderNames(
  durable: NameTable,
  { journal, fate }: { readonly journal: readonly NameChange[]; readonly fate: Fate },
): NameTable {
  if (journal.length === 0) return durable;
  const names = new Map(durable);
  for (const { sequence, edits } of journal) {
    const isOneFolder = new Set(edits.map((edit) => folderOf(edit.path))).size === 1;
    if (isOneFolder) {
      if (fate.keepsChange(sequence)) apply(names, edits);
    } else {
      for (const edit of edits) if (fate.keepsChange(sequence)) apply(names, [edit]);
    }
  }
  for (const path of [...names.keys()].sort()) {
    if (path !== "/" && names.get(folderOf(path))?.kind !== "folder") names.delete(path);
  }
  return names;
}
