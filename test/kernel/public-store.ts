/** The package as its users see it, doing the operations of the simulation's scripts and telling what it shows. */

import { Emdb, type Namespace } from "../../src/index.ts";
import type { ModelChange } from "../sim/model.ts";
import type { Operation } from "../sim/script.ts";
import type { StoreRecord, StoreWrite } from "../sim/store.ts";

const text = new TextDecoder();

/** One open database that scripts work on. */
export class PublicStore {
  #db: Emdb;
  readonly #path: string;
  readonly #isAsync: boolean;

  /** `isAsync`: flushes go through the commit Worker, not the calling thread. */
  constructor(path: string, { isAsync = false }: { readonly isAsync?: boolean } = {}) {
    this.#path = path;
    this.#isAsync = isAsync;
    this.#db = Emdb.open(path);
  }

  get db(): Emdb {
    return this.#db;
  }

  /** Does one operation; whether everything begun before it is durable now. */
  async perform(operation: Operation, change: ModelChange | undefined): Promise<boolean> {
    if (change !== undefined) {
      this.#change(operation, change);
      return false;
    }
    switch (operation.kind) {
      case "flush":
        await this.#flush();
        return true;
      case "reopen":
        this.#db.closeSync();
        this.#db = Emdb.open(this.#path);
        return true;
      case "checkpoint":
        await this.#db.checkpoint();
        return true;
      case "compact":
        await this.#db.compact();
        return false;
      default:
        await new Promise((resolve) => setImmediate(resolve));
        return false;
    }
  }

  async #flush(): Promise<void> {
    if (this.#isAsync) await this.#db.flush();
    else this.#db.flushSync();
  }

  #change(operation: Operation, change: ModelChange): void {
    if (change.kind === "clear") {
      if (operation.kind === "drop" && change.space !== "") this.#db.dropNamespace(change.space);
      else this.#space(change.space).clear();
    } else if (change.kind === "sweep") {
      this.#space(change.space).sweepExpired();
    } else if (operation.kind === "batch") {
      this.#batch(change.writes);
    } else {
      for (const { space, key, value } of change.writes) {
        if (value === undefined) this.#space(space).remove(key);
        else this.#space(space).insert(key, value);
      }
    }
  }

  /** By the call that fits, since batches reach the log in three ways. */
  #batch(writes: readonly StoreWrite[]): void {
    const [first] = writes;
    const isOneSpace = first !== undefined && writes.every((write) => write.space === first.space);
    if (isOneSpace && writes.every((write) => write.value !== undefined)) {
      this.#space(first.space).insertMany(writes.map(({ key, value }) => [key, value ?? ""] as const));
    } else if (isOneSpace && writes.every((write) => write.value === undefined)) {
      this.#space(first.space).removeMany(writes.map(({ key }) => key));
    } else {
      this.#db.transaction((tx) => {
        for (const { space, key, value } of writes) {
          const target = space === "" ? tx : tx.namespace(space);
          if (value === undefined) target.remove(key);
          else target.insert(key, value);
        }
      });
    }
  }

  #space(name: string): Emdb | Namespace {
    return name === "" ? this.#db : this.#db.namespace(name);
  }

  /** Everything that the database shows; walks, gets and counts have to agree. */
  records(): StoreRecord[] {
    const records: StoreRecord[] = [];
    for (const name of ["", ...this.#db.listNamespaces()]) {
      const space = this.#space(name);
      let count = 0;
      for (const [key, value] of space.iter()) {
        count += 1;
        const got = space.get(key);
        if (got === undefined || Buffer.compare(got, value) !== 0) throw new Error("a get disagrees with the walk");
        records.push({ space: name, key: text.decode(key), value: text.decode(value), expiresAtMs: 0 });
      }
      if (space.len() !== count) throw new Error(`${count} records walked, len says ${space.len()}`);
    }
    return records;
  }

  close(): void {
    this.#db.closeSync();
  }
}
