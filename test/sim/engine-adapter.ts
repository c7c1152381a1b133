/**
 * The engine as the rings see it: opened on a simulated system past the registry of open engines, so that
 * an engine of a machine that has crashed is never found again.
 */

import { drainMicrotasks } from "bun:jsc";
import type { Opened } from "../../src/engine/assemble.ts";
import { recount } from "../../src/engine/threads/audit.ts";
import { openFile } from "../../src/engine/open/open.ts";
import { orderingFaults } from "../support/ordering-faults.ts";
import type { Space } from "../../src/engine/contract.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import type { System } from "../../src/ffi/system.ts";
import { BACKUP_PATH } from "./backups.ts";
import type { OpenStore, StoreAdapter, StoreKey, StoreRecord, StoreWrite } from "./store.ts";

type OpenConfig = Parameters<typeof openFile>[1]["config"];

const CONFIG: OpenConfig = {
  defaultTtlMs: 0,
  rangeScans: false,
  flushPlan: { kind: "on-each-flush" },
  encryption: undefined,
  cipher: undefined,
  verifyReads: true,
  createIfMissing: true,
  lockTimeoutMs: 0,
  readOnly: false,
};

/** How a compaction is done: in one go, or a step before each of the operations that follow; in the order of keys every second one. */
type Compacting = "at once" | "in between" | "in between, in key order";

export function engineAdapter(
  name = "engine",
  changes: Partial<OpenConfig> = {},
  compacting: Compacting = "at once",
): StoreAdapter {
  const config = { ...CONFIG, ...changes };
  return {
    name,
    isWriteThrough: config.flushPlan.kind === "write-through",
    open: (system, path) => new EngineStore(system, { path, config }, compacting),
    recordsAt: (system, path) => {
      if (system.status(path) === -Errno.ENOENT) return undefined;
      const copy = new EngineStore(system, { path, config: { ...config, createIfMissing: false } }, compacting);
      if (copy.missingBytes !== 0) throw new Error(`${copy.missingBytes} bytes of a backup are said to be missing`);
      const records = [...copy.records()];
      copy.check(records);
      copy.close();
      return records;
    },
    // What a backup that was cut off has left beside its target stays until the next one.
    isExpectedFile: (name) =>
      ["store", "store.hint", "store.lock"].includes(name) || name === "copy" || name.startsWith("copy."),
  };
}

/** The same beside a read-only open of what was there before, which stays until the store has been closed. */
export function besideReader(name: string): StoreAdapter {
  const adapter = engineAdapter(name);
  return {
    ...adapter,
    // The file that a compaction has replaced stays for the reader; the next open removes it.
    isExpectedFile: (name) => adapter.isExpectedFile(name) || name.startsWith("store.emdb-replaced-"),
    open: (system, path) => {
      const reader = openReader(system, path);
      const seen = lastingOf(reader);
      try {
        const store = adapter.open(system, path);
        const close = store.close.bind(store);
        store.close = () => {
          try {
            close();
            if (lastingOf(reader) !== seen) throw new Error("what a reader beside it shows has changed");
          } finally {
            reader?.close();
          }
        };
        return store;
      } catch (error) {
        reader?.close();
        throw error;
      }
    },
  };
}

/** Undefined where there is no database yet. */
function openReader(system: System, path: string): OpenStore | undefined {
  try {
    return new EngineStore(system, { path, config: { ...CONFIG, readOnly: true } }, "at once");
  } catch (error) {
    if (error instanceof EmdbError && error.code === "EMDB_NOT_FOUND") return undefined;
    throw error;
  }
}

/** What no clock takes away. */
function lastingOf(store: OpenStore | undefined): string {
  return JSON.stringify([...(store?.records() ?? [])].filter(({ expiresAtMs }) => expiresAtMs === 0));
}

function* allSteps(compaction: Opened["compaction"], isInOrder: boolean): Generator<number, void> {
  yield* compaction.copySteps({ isInOrder });
  yield* compaction.relocationSteps();
}

class EngineStore implements OpenStore {
  readonly #opened: Opened;
  /** Work for the next turn of the event loop, which only a script makes turn. */
  readonly #deferred: (() => void)[] = [];
  readonly #isInBetween: boolean;
  readonly #mayOrder: boolean;
  #compactions = 0;
  readonly missingBytes: number;
  isBackingUp = false;
  backupCount = 0;
  #backupFailure: unknown;
  /** What is left of a compaction that is done in between. */
  #steps: Iterator<number, void> | undefined;

  constructor(
    system: System,
    { path, config }: { readonly path: string; readonly config: OpenConfig },
    compacting: Compacting,
  ) {
    this.#isInBetween = compacting !== "at once";
    this.#mayOrder = compacting === "in between, in key order";
    const defer = (work: () => void): void => void this.#deferred.push(work);
    this.#opened = openFile({ system, defer, hasWorkers: false }, { path, createFolders: false, config });
    this.missingBytes = this.#opened.base.recovery.missingBytes;
  }

  insert({ space, key, value, expiresAtMs }: StoreRecord): void {
    this.#goOn();
    this.#opened.engine.insert(this.#space(space), key, value, expiresAtMs);
  }

  remove({ space, key }: StoreKey): void {
    this.#goOn();
    this.#opened.engine.remove(this.#space(space), key);
  }

  /** By the call that fits: batches reach the log in three ways. */
  batch(writes: readonly StoreWrite[]): void {
    this.#goOn();
    const { engine } = this.#opened;
    const [first] = writes;
    const isOneSpace = first !== undefined && writes.every((write) => write.space === first.space);
    const keys = writes.map((write) => write.key);
    const values = writes.flatMap((write) => (write.value === undefined ? [] : [write.value]));
    const isOneDeadline = writes.every((write) => write.expiresAtMs === first?.expiresAtMs);
    if (isOneSpace && isOneDeadline && values.length === writes.length) {
      engine.insertMany(this.#space(first.space), keys, values, first.expiresAtMs);
    } else if (isOneSpace && values.length === 0) {
      engine.removeMany(this.#space(first.space), keys);
    } else {
      engine.writeBatch(writes.map((write) => ({ ...write, space: this.#space(write.space) })));
    }
  }

  sweep(space: string): void {
    this.#opened.engine.sweepExpired(this.#space(space));
  }

  clear(space: string): void {
    this.#goOn();
    this.#opened.engine.clear(this.#space(space));
  }

  drop(space: string): void {
    // The default space cannot be dropped.
    if (space === "") this.clear(space);
    else this.#opened.engine.dropSpace(space);
  }

  flush(): void {
    this.#goOn();
    this.#opened.sync?.flush();
    // The mark behind it.
    drainMicrotasks();
  }

  compact(): void {
    const { work, compaction } = this.#opened;
    if (this.#steps !== undefined) return this.#goOn();
    // It waits for a backup that has the place; one that waits for it itself goes on in no turn.
    while (!work.tryTake()) {
      if (!this.isBackingUp) throw new Error("nobody else works here");
      this.turn();
    }
    if (this.#isInBetween) {
      this.#steps = allSteps(compaction, this.#mayOrder && this.#compactions++ % 2 === 0);
      return this.#goOn();
    }
    try {
      compaction.runSync();
    } finally {
      work.give();
    }
    drainMicrotasks();
  }

  backup(): void {
    if (!this.isBackingUp) {
      this.isBackingUp = true;
      const over = (failure?: unknown): void => {
        this.isBackingUp = false;
        this.#backupFailure = failure;
      };
      const run = this.#opened.backup.run(BACKUP_PATH, {});
      run.then(() => {
        this.backupCount += 1;
        over();
      }, over);
    }
    for (this.turn(); this.isBackingUp && !this.#isInBetween;) this.turn();
  }

  /** One more step of a compaction or backup; a compaction that fails is over, and fails no other operation. */
  #goOn(): void {
    if (this.isBackingUp) this.turn();
    if (this.#steps === undefined) return;
    try {
      if (this.#steps.next().done !== true) return;
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
    }
    this.#giveUp();
  }

  /** Ends a compaction wherever it is. */
  #giveUp(): void {
    if (this.#steps === undefined) return;
    this.#steps.return?.();
    this.#steps = undefined;
    this.#opened.work.give();
  }

  checkpoint(): void {
    this.#giveUp();
    this.#opened.checkpoint?.runSync();
  }

  turn(): void {
    drainMicrotasks();
    for (const work of this.#deferred.splice(0)) work();
    drainMicrotasks();
    const failure = this.#backupFailure;
    this.#backupFailure = undefined;
    if (failure !== undefined) throw failure;
  }

  *records(): Iterable<StoreRecord> {
    const { engine } = this.#opened;
    const text = new TextDecoder();
    for (const name of new Set(["", ...engine.spaceNames()])) {
      for (const { key, value, expiresAtMs } of engine.snapshot(this.#space(name))) {
        yield { space: name, key: text.decode(key), value: text.decode(value), expiresAtMs };
      }
    }
  }

  check(records: readonly StoreRecord[]): void {
    const { engine } = this.#opened;
    this.#checkCounts();
    const [fault] = orderingFaults(engine.core, engine.spaces);
    if (fault !== undefined) throw new Error(fault);
    const text = new TextDecoder();
    for (const { space, key, value, expiresAtMs } of records) {
      const got = engine.get(this.#space(space), key);
      if (got === undefined || text.decode(got) !== value)
        throw new Error(`get of ${space}/${key} disagrees with the walk`);
      if (engine.expiresAt(this.#space(space), key) !== expiresAtMs)
        throw new Error(`the deadline of ${space}/${key} differs`);
    }
    for (const key of ["a", "b", "c", "d", "e", "f"]) {
      const isListed = records.some((record) => record.space === "" && record.key === key);
      if (engine.has(this.#space(""), key) !== isListed) throw new Error(`has of /${key} disagrees with the walk`);
    }
  }

  /** The counts that are kept along the way are those that counting anew finds. */
  #checkCounts(): void {
    const { core, spaces } = this.#opened.engine;
    if (core.tail.end !== core.visible) return;
    const all = [spaces.default, ...spaces.list()];
    const kept = JSON.stringify(all.map((space) => spaces.counts(space)));
    recount(core, spaces);
    const counted = JSON.stringify(all.map((space) => spaces.counts(space)));
    if (kept !== counted) throw new Error(`records and bytes were kept as ${kept} and are ${counted}`);
  }

  close(): void {
    this.#giveUp();
    this.#opened.leave();
    // A backup under way is told that the database is closed.
    drainMicrotasks();
  }

  #space(name: string): Space {
    const { engine } = this.#opened;
    return name === "" ? engine.defaultSpace : engine.spaceNamed(name);
  }
}
