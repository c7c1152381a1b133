/**
 * Runs a script on a store over a simulated machine, with the oracle beside it.
 *
 * Invariants
 * 1. The oracle hears of a step before the store does, so a crash inside the operation may show it.
 * 2. Without a fault nothing throws; with one, only typed errors do, and after each the live store shows
 *    the state before or the state after.
 * 3. The first problem ends the run.
 */

import { strayFiles } from "./backups.ts";
import { Oracle } from "./oracle.ts";
import { changeOf } from "./script.ts";
import { codeOf, errorText, isRefusal } from "./store.ts";
import type { ModelChange } from "./model.ts";
import type { Machine } from "./machine.ts";
import type { Problem } from "./oracle.ts";
import type { Operation, Script } from "./script.ts";
import type { OpenStore, StoreAdapter } from "./store.ts";
import type { SimulatedSystem } from "./system.ts";

export const STORE_PATH = "/db/store";

/** Failing calls after which something of the process is rightly left behind. */
const EXCUSES: ReadonlySet<string> = new Set(["unmap", "release", "unlink", "list", "rename"]);

export class Driver {
  readonly oracle = new Oracle();
  problem: Problem | undefined;
  readonly #adapter: StoreAdapter;
  readonly #machine: Machine;
  readonly #system: SimulatedSystem;
  #store: OpenStore | undefined;
  #step = 0;
  /** The last close failed: the next open is a recovery. */
  #isUnclean = false;
  #hasCompacted = false;
  #isBackingUp = false;
  /** Of this store, as last seen. */
  #backupCount = 0;

  constructor(
    adapter: StoreAdapter,
    { machine, system }: { readonly machine: Machine; readonly system: SimulatedSystem },
  ) {
    this.#adapter = adapter;
    this.#machine = machine;
    this.#system = system;
  }

  run(script: Script): void {
    this.#open();
    for (const operation of script) {
      if (this.problem !== undefined) return;
      this.#perform(operation);
    }
    if (this.problem === undefined) this.#observe();
    if (this.problem === undefined) this.#close();
    if (this.problem === undefined) this.problem = this.#leftovers();
  }

  /** How many operations have begun. */
  get step(): number {
    return this.#step;
  }

  /** The process is over, whatever state it is in. */
  end(): void {
    this.#store?.abandon?.();
    this.#store = undefined;
    this.#system.kill();
  }

  get #mayFail(): boolean {
    return this.#system.faults.firedCount > 0 || this.#machine.options.spaceBytesMax < Number.POSITIVE_INFINITY;
  }

  #open(): void {
    this.#attempt("open", () => {
      this.#store = this.#adapter.open(this.#system, STORE_PATH);
    });
    if (this.#store === undefined || this.problem !== undefined) return;
    this.#observe({ isRecovered: this.#isUnclean });
    this.#isUnclean = false;
  }

  #perform(operation: Operation): void {
    this.#step += 1;
    const store = this.#store;
    if (operation.kind === "advance") {
      this.#advance(operation.ms);
    } else if (operation.kind === "reopen") {
      this.#close();
      if (this.problem === undefined) this.#open();
    } else if (store !== undefined) {
      const change = changeOf(operation, { step: this.#step, nowMs: this.#machine.nowMs });
      if (change === undefined) this.#maintain(store, operation);
      else this.#change(store, { operation, change });
      this.#noteBackup(store);
    }
  }

  /** What has expired when a compaction comes by is gone for good; the oracle does not know that, so from then on the clock goes forwards. */
  #advance(ms: number): void {
    this.#machine.advance(this.#hasCompacted ? Math.max(0, ms) : ms);
  }

  #change(
    store: OpenStore,
    { operation, change }: { readonly operation: Operation; readonly change: ModelChange },
  ): void {
    if (operation.kind === "drop" && store.drop === undefined) return;
    if (operation.kind === "sweep" && store.sweep === undefined) return;
    this.oracle.begin(change);
    const { changeCount } = this.#machine;
    const error = this.#attempt(operation.kind, () => applyTo(store, { operation, change }));
    if (error === undefined) {
      const hasWritten = this.#machine.changeCount > changeCount;
      if (this.#adapter.isWriteThrough === true) this.oracle.acknowledgeStep({ hasWritten });
      return;
    }
    this.oracle.fail({ isRefused: isRefusal(error.thrown) });
    if (this.problem === undefined) this.#observe();
  }

  #maintain(store: OpenStore, { kind }: Operation): void {
    const error = this.#attempt(kind, () => {
      if (kind === "flush") store.flush();
      else if (kind === "compact") this.#compact(store);
      else if (kind === "checkpoint") store.checkpoint?.();
      else if (kind === "backup") this.#backUp(store);
      else store.turn?.();
    });
    if (error === undefined && kind === "flush") this.oracle.acknowledge();
    if (error !== undefined && this.problem === undefined) this.#observe();
  }

  #compact(store: OpenStore): void {
    this.#hasCompacted = true;
    store.compact?.();
  }

  #backUp(store: OpenStore): void {
    this.oracle.backups.begin(this.oracle.issued);
    this.#isBackingUp = true;
    store.backup?.();
  }

  /** A backup that is done in between ends with any operation. */
  #noteBackup(store: OpenStore): void {
    if (!this.#isBackingUp || store.isBackingUp === true) return;
    this.#isBackingUp = false;
    const count = store.backupCount ?? 0;
    this.oracle.backups.end(this.oracle.issued, count > this.#backupCount);
    this.#backupCount = count;
    const [stray] = this.#mayFail ? [] : strayFiles(this.#machine);
    if (stray !== undefined) this.problem ??= { property: 8, detail: `a backup has left ${stray}` };
  }

  #close(): void {
    const store = this.#store;
    if (store === undefined) return;
    const error = this.#attempt("close", () => store.close());
    if (error === undefined) this.oracle.acknowledge();
    else this.#isUnclean = true;
    this.#noteBackup(store);
    this.#backupCount = 0;
    this.#store = undefined;
  }

  /** Runs a call of the store; an error that it may not throw is a problem. */
  #attempt(what: string, body: () => void): { readonly thrown: unknown } | undefined {
    try {
      body();
      return undefined;
    } catch (thrown) {
      const detail = `${what} threw ${errorText(thrown)}`;
      if (codeOf(thrown) === undefined) this.problem = { property: 0, detail };
      else if (!this.#mayFail) this.problem = { property: 6, detail: `${detail}, and nothing had failed` };
      return { thrown };
    }
  }

  #observe({ isRecovered }: { readonly isRecovered: boolean } = { isRecovered: false }): void {
    const store = this.#store;
    if (store === undefined) return;
    this.#attempt("records", () => {
      const records = [...store.records()];
      const { nowMs, hasLostAcknowledged: isVoid } = this.#machine;
      this.problem = isRecovered
        ? this.oracle.recover(records, { nowMs, isVoid })
        : this.oracle.observe(records, nowMs);
      if (this.problem === undefined) this.#check(() => store.check?.(records));
    });
  }

  #check(body: () => void): void {
    try {
      body();
    } catch (error) {
      if (codeOf(error) === undefined || !this.#mayFail) this.problem = { property: 7, detail: errorText(error) };
    }
  }

  /** What lies about after the store is closed. */
  #leftovers(): Problem | undefined {
    const { hitNames } = this.#system.faults;
    if ([...hitNames].some(([fault, name]) => EXCUSES.has(name) || fault.repeat === "all")) return undefined;
    return leftovers(this.#adapter, { machine: this.#machine, system: this.#system });
  }
}

/** Property 8: nothing is held, nothing lies about, and no call was one that a correct store never makes. */
export function leftovers(
  adapter: StoreAdapter,
  { machine, system }: { readonly machine: Machine; readonly system: SimulatedSystem },
): Problem | undefined {
  const found = [...system.misuses, ...system.held()];
  for (const [path, entry] of machine.names.current) {
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (entry.kind === "file" && !adapter.isExpectedFile(name) && system.faults.firedCount === 0)
      found.push(`file ${path}`);
  }
  return found.length === 0 ? undefined : { property: 8, detail: found.slice(0, 4).join("; ") };
}

/** Does a change to a store; a step that is done again lands where the lost one was, with the same lengths. */
export function applyTo(
  store: OpenStore,
  { operation, change }: { readonly operation?: Operation; readonly change: ModelChange },
): void {
  if (change.kind === "clear") {
    if (operation?.kind === "drop") store.drop?.(change.space);
    else store.clear(change.space);
    return;
  }
  if (change.kind === "sweep") {
    store.sweep?.(change.space);
    return;
  }
  const [first] = change.writes;
  if (operation?.kind === "batch" || change.writes.length > 1 || first === undefined) {
    store.batch(change.writes);
  } else if (first.value === undefined) {
    store.remove(first);
  } else {
    store.insert({ ...first, value: first.value });
  }
}
