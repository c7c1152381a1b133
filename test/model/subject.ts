/**
 * The two databases that a model run keeps side by side, in every configuration: the engine on a simulated
 * machine, which can be closed, killed and robbed of power, and the obvious twin over Maps.
 */

import { Database } from "../../src/api/database.ts";
import type { Namespace } from "../../src/api/types.ts";
import type { Opened } from "../../src/engine/assemble.ts";
import type { Lifecycle } from "../../src/engine/life.ts";
import { openFile, openMemory } from "../../src/engine/open/open.ts";
import { EmdbError } from "../../src/errors.ts";
import { memoryDatabase } from "../contract/memory-life.ts";
import { Machine } from "../sim/machine.ts";
import { MemoryStore } from "../support/memory-store.ts";
import type { Draw } from "../sim/draw.ts";
import type { MachineOptions } from "../sim/machine.ts";
import type { SimulatedSystem } from "../sim/system.ts";
import { CONFIG } from "../engine/open-engine.ts";

type OpenConfig = Parameters<typeof openFile>[1]["config"];

export interface Configuration {
  readonly name: string;
  readonly config: Partial<OpenConfig>;
  readonly machine?: Partial<MachineOptions>;
  /** Left out: in a file. */
  readonly isInMemory?: boolean;
}

/** One database, with the handles and iterators that a run holds on to. */
export interface Side {
  db: Database;
  readonly spaces: Map<string, Namespace>;
  readonly iterators: Map<string, Iterator<readonly [Uint8Array, Uint8Array]>>;
}

/** The engine, and what can happen to its machine. */
export class Subject implements Side {
  db: Database;
  machine: Machine;
  readonly spaces = new Map<string, Namespace>();
  readonly iterators = new Map<string, Iterator<readonly [Uint8Array, Uint8Array]>>();
  readonly #configuration: Configuration;
  #system: SimulatedSystem;
  readonly #deferred: (() => void)[] = [];

  constructor(configuration: Configuration, seed: number) {
    this.#configuration = configuration;
    this.machine = new Machine({ seed, ...configuration.machine });
    this.#system = this.machine.boot();
    this.db = this.#open({});
  }

  get hasFile(): boolean {
    return this.#configuration.isInMemory !== true;
  }

  /** The event loop turns. */
  turn(): void {
    for (const work of this.#deferred.splice(0)) work();
  }

  reopen(): void {
    this.db.closeSync();
    this.#forget();
    this.db = this.#open({});
  }

  /** Everything is made durable, then the machine loses power, or only the process ends. */
  crash(draw: Draw): void {
    this.db.flushSync();
    this.#forget();
    const point = this.machine.capture();
    this.#system.kill();
    this.machine.dispose();
    this.machine = Machine.restore(point, draw);
    this.#system = this.machine.boot();
    this.db = this.#open({});
  }

  /** Another process opens it for reading, and does `body`. */
  observe<T>(body: (db: Database) => T): T {
    this.db.flushSync();
    const system = this.machine.boot({ processId: 77 });
    const opened = openFile({ system, defer: () => undefined, hasWorkers: false }, this.#request({ readOnly: true }));
    const db = new Database(lifecycleOf(opened, 0));
    try {
      return body(db);
    } finally {
      db.closeSync();
    }
  }

  /** Closes; says what is still held, which must be nothing. */
  end(): string[] {
    this.db.closeSync();
    const held = [...this.#system.held(), ...this.#system.misuses];
    this.#system.kill();
    this.machine.dispose();
    return held;
  }

  #request(changes: Partial<OpenConfig>): Parameters<typeof openFile>[1] {
    const config = { ...CONFIG, ...this.#configuration.config, ...changes };
    return { path: "/db/store", createFolders: false, config };
  }

  #open(changes: Partial<OpenConfig>): Database {
    const environment = {
      system: this.#system,
      defer: (work: () => void): void => void this.#deferred.push(work),
      hasWorkers: false,
    };
    const request = this.#request(changes);
    const opened = this.hasFile ? openFile(environment, request) : openMemory(environment, request.config);
    return new Database(lifecycleOf(opened, request.config.defaultTtlMs));
  }

  #forget(): void {
    this.spaces.clear();
    this.iterators.clear();
    this.#deferred.length = 0;
  }
}

/** The twin, whose clock is the machine's. */
export class Twin implements Side {
  db: Database;
  readonly spaces = new Map<string, Namespace>();
  readonly iterators = new Map<string, Iterator<readonly [Uint8Array, Uint8Array]>>();
  readonly #store: MemoryStore;
  readonly #options: { readonly defaultTtlMs?: number };

  constructor(configuration: Configuration, nowOf: () => number) {
    const clock = {
      get nowMs(): number {
        return nowOf();
      },
      set nowMs(_: number) {
        throw new Error("the machine moves the clock");
      },
    };
    this.#store = new MemoryStore({ clock, rangeScans: configuration.config.rangeScans ?? false });
    this.#options = { defaultTtlMs: configuration.config.defaultTtlMs ?? 0 };
    this.db = memoryDatabase(this.#store, this.#options);
  }

  /** What a reopen or a crash does to a handle. */
  reopen(): void {
    const next = memoryDatabase(this.#store, this.#options);
    this.db.closeSync();
    this.db = next;
    this.spaces.clear();
    this.iterators.clear();
  }
}

function unsupported(): Promise<never> {
  return Promise.reject(new EmdbError("EMDB_UNSUPPORTED", "the model run does not go there"));
}

function lifecycleOf(opened: Opened, defaultTtlMs: number): Lifecycle {
  const { engine, sync } = opened;
  let isClosed = false;
  const closeSync = (): void => {
    if (isClosed) return;
    isClosed = true;
    opened.leave();
  };
  return {
    store: engine,
    defaultTtlMs,
    path: undefined,
    recovery: opened.base.recovery,
    findSpace: (name) => engine.findSpace(name),
    share: () => opened.base,
    stats: () => {
      const { spaces } = engine;
      const named = spaces.list();
      const liveRecords = [spaces.default, ...named].reduce((sum, space) => sum + spaces.records(space), 0);
      return { ...NO_STATS, liveRecords, namespaceCount: named.length, rangeScansEnabled: engine.hasRangeScans };
    },
    flush: () => Promise.resolve(sync?.flush()),
    flushSync: () => sync?.flush(),
    checkpoint: unsupported,
    compact: unsupported,
    backupTo: unsupported,
    verify: unsupported,
    close: () => Promise.resolve(closeSync()),
    closeSync,
  };
}

const NO_STATS = {
  logicalSizeBytes: 0,
  fileSizeBytes: 0,
  preallocatedBytes: 0,
  deadBytes: 0,
  indexBytes: 0,
  encrypted: false,
};
