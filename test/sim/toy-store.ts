/**
 * A log in as few lines as can be right, and the ways in which such a log is usually wrong.
 *
 * It exists to prove the rings: the right one has to pass them, and each of the others has to be caught.
 * A frame is the length of its text, its CRC-32 and the text, which is the JSON of one step.
 */

import { EmdbError } from "../../src/errors.ts";
import { applyChange, EMPTY_STATE } from "./model.ts";
import { copyOut } from "./real-memory.ts";
import type { System } from "../../src/ffi/system.ts";
import type { ModelChange, ModelState } from "./model.ts";
import type { OpenStore, StoreAdapter, StoreKey, StoreRecord, StoreWrite } from "./store.ts";

export type ToyBug =
  | "appends behind a torn tail"
  | "acknowledges before the sync"
  | "skips the folder sync"
  | "ignores a failed sync"
  | "retries a failed sync"
  | "shows what it has not synced"
  | "splits batches"
  | "believes any frame"
  | "keeps a failed append"
  | "forgets clears"
  | "leaks a mapping"
  | "leaks the handle of a failed open"
  | "unmaps twice"
  | "renames before the sync"
  | "writes on into the compacted file's predecessor"
  | "skips the folder sync after compaction"
  | "leaves its temporary file"
  | "shows what has expired"
  | "throws what nobody expects"
  | "revives removed keys";

const HEADER_BYTES = 8;

export function toyAdapter(...bugs: readonly ToyBug[]): StoreAdapter {
  const known = new Set(bugs);
  return {
    name: bugs.length === 0 ? "toy" : `toy that ${bugs.join(" and ")}`,
    open: (system, path) => new ToyStore(system, { path, bugs: known }),
    isExpectedFile: (name) => name === "store",
  };
}

class ToyStore implements OpenStore {
  readonly #system: System;
  readonly #path: string;
  readonly #bugs: ReadonlySet<ToyBug>;
  #file = -1;
  #tail = 0;
  #state: ModelState = EMPTY_STATE;
  #isPoisoned = false;

  constructor(system: System, { path, bugs }: { readonly path: string; readonly bugs: ReadonlySet<ToyBug> }) {
    this.#system = system;
    this.#path = path;
    this.#bugs = bugs;
    this.#file = this.#must(system.open(path, "write-or-create"), "open");
    try {
      this.#recover();
    } catch (error) {
      if (!bugs.has("leaks the handle of a failed open")) system.close(this.#file);
      throw error;
    }
  }

  insert(record: StoreRecord): void {
    this.#append({ kind: "write", writes: [record] });
  }

  remove(key: StoreKey): void {
    this.#append({ kind: "write", writes: [{ ...key, value: undefined, expiresAtMs: 0 }] });
  }

  batch(writes: readonly StoreWrite[]): void {
    if (!this.#bugs.has("splits batches")) this.#append({ kind: "write", writes });
    else for (const write of writes) this.#append({ kind: "write", writes: [write] });
  }

  clear(space: string): void {
    if (this.#bugs.has("forgets clears")) this.#state = applyChange(this.#state, { kind: "clear", space });
    else this.#append({ kind: "clear", space });
  }

  flush(): void {
    if (this.#isPoisoned) throw new EmdbError("EMDB_POISONED", "a sync failed");
    if (this.#bugs.has("acknowledges before the sync")) return;
    let result = this.#system.sync(this.#file);
    if (result < 0 && this.#bugs.has("retries a failed sync")) result = this.#system.sync(this.#file);
    if (result >= 0 || this.#bugs.has("ignores a failed sync")) return;
    this.#isPoisoned = true;
    this.#must(result, "sync");
  }

  *records(): Iterable<StoreRecord> {
    for (const [space, records] of this.#state) {
      for (const [key, record] of records) {
        const isLive = record.expiresAtMs === 0 || record.expiresAtMs > this.#system.now();
        if (isLive || this.#bugs.has("shows what has expired")) yield { space, key, ...record };
      }
    }
  }

  close(): void {
    try {
      this.flush();
    } finally {
      this.#system.close(this.#file);
    }
  }

  compact(): void {
    if (this.#isPoisoned) throw new EmdbError("EMDB_POISONED", "a sync failed");
    const system = this.#system;
    const temporary = `${this.#path}.new`;
    const file = this.#must(system.open(temporary, "create"), "open");
    const writes = [...this.records()];
    const frame = encodeFrame({ kind: "write", writes });
    try {
      this.#must(system.write(file, frame, { position: 0, bytes: frame.length }), "write");
      if (!this.#bugs.has("renames before the sync")) this.#must(system.sync(file), "sync");
      this.#must(system.rename(temporary, this.#path), "rename");
    } catch (error) {
      system.close(file);
      system.unlink(temporary);
      // Whether a failed rename has happened is unknown, and so is which file the path names.
      this.#isPoisoned = true;
      throw error;
    }
    if (this.#bugs.has("writes on into the compacted file's predecessor")) {
      system.close(file);
    } else {
      system.close(this.#file);
      this.#file = file;
      this.#tail = frame.length;
    }
    if (!this.#bugs.has("skips the folder sync after compaction")) this.#syncFolder();
  }

  #recover(): void {
    const system = this.#system;
    if (!this.#bugs.has("leaves its temporary file")) {
      const temporary = `${this.#path}.new`;
      if (typeof system.status(temporary) !== "number") this.#must(system.unlink(temporary), "unlink");
    }
    if (!this.#bugs.has("skips the folder sync")) this.#must(system.syncFolder("/db"), "syncFolder");
    const size = this.#must(system.size(this.#file), "size");
    if (size > 0) this.#tail = this.#replay(size);
    if (this.#bugs.has("appends behind a torn tail")) this.#tail = size;
    else if (this.#tail < size) this.#must(system.truncate(this.#file, this.#tail), "truncate");
    if (!this.#bugs.has("shows what it has not synced")) this.#must(system.sync(this.#file), "sync");
  }

  /** Applies every sound frame from the start; returns where they end. */
  #replay(size: number): number {
    const system = this.#system;
    const address = this.#must(system.map(this.#file, size), "map");
    const bytes = new Uint8Array(size);
    copyOut(bytes, address);
    if (!this.#bugs.has("leaks a mapping")) system.unmap(address, size);
    if (this.#bugs.has("unmaps twice")) system.unmap(address, size);
    const view = new DataView(bytes.buffer);
    let position = 0;
    while (position + HEADER_BYTES <= size) {
      const end = position + HEADER_BYTES + view.getUint32(position, true);
      if (end === position + HEADER_BYTES || end > size) break;
      const text = bytes.subarray(position + HEADER_BYTES, end);
      const isSound = Bun.hash.crc32(text) === view.getUint32(position + 4, true);
      if (!isSound && !this.#bugs.has("believes any frame")) break;
      this.#apply(decodeText(text));
      position = end;
    }
    return position;
  }

  #apply(change: ModelChange): void {
    if (this.#bugs.has("revives removed keys") && change.kind === "write" && change.writes.length === 1) {
      if (change.writes[0]?.value === undefined) return;
    }
    this.#state = applyChange(this.#state, change);
  }

  #append(change: ModelChange): void {
    if (this.#isPoisoned) throw new EmdbError("EMDB_POISONED", "a write failed");
    const frame = encodeFrame(change);
    const result = this.#system.write(this.#file, frame, { position: this.#tail, bytes: frame.length });
    if (result < 0) {
      if (this.#bugs.has("throws what nobody expects")) throw new TypeError("undefined is not a frame");
      // What of the frame is in the file must not be found by the next open.
      if (!this.#bugs.has("keeps a failed append") && this.#system.truncate(this.#file, this.#tail) < 0)
        this.#isPoisoned = true;
      this.#must(result, "write");
    }
    this.#tail += frame.length;
    this.#state = applyChange(this.#state, change);
  }

  #syncFolder(): void {
    const result = this.#system.syncFolder("/db");
    if (result < 0) this.#isPoisoned = true;
    this.#must(result, "syncFolder");
  }

  #must(result: number, syscall: string): number {
    if (result >= 0) return result;
    throw new EmdbError("EMDB_IO", `${syscall} failed with ${result}`, { syscall });
  }
}

function encodeFrame(change: ModelChange): Uint8Array {
  const text = new TextEncoder().encode(JSON.stringify(change));
  const frame = new Uint8Array(HEADER_BYTES + text.length);
  const view = new DataView(frame.buffer);
  view.setUint32(0, text.length, true);
  view.setUint32(4, Bun.hash.crc32(text), true);
  frame.set(text, HEADER_BYTES);
  return frame;
}

function decodeText(text: Uint8Array): ModelChange {
  return JSON.parse(new TextDecoder().decode(text)) as ModelChange;
}
