/** An engine past the door, over a system whose calls a test may fail, and its state as the other tests write it. */

import { copyFileSync, readFileSync } from "node:fs";
import { openFile, type OpenedEngine } from "./open-engine.ts";
import type { Engine } from "../../src/engine/engine.ts";
import type { SpaceState } from "../../src/engine/spaces.ts";
import type { Sync } from "../../src/engine/sync/sync.ts";
import type { System } from "../../src/ffi/system.ts";
import { KIND_SPACE_CREATE, PLACE_ALONE, frameBytes, shapeOf } from "../../src/log/frame.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";

/** What a call gives instead of being made; undefined: it is made. */
export type Fault = (call: keyof System, args: readonly unknown[]) => number | undefined;

/** A system that asks `fault` before each of its calls. */
export function faulty(system: System, fault: Fault): System {
  return new Proxy(system, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      return (...args: unknown[]): unknown =>
        fault(name as keyof System, args) ?? (member as (...all: unknown[]) => unknown).apply(target, args);
    },
  });
}

/** A copy of a database's files, log and image, as they are. */
export function copyOf(path: string): string {
  const copyPath = `${path}.copy`;
  copyFileSync(path, copyPath);
  copyFileSync(`${path}.hint`, `${copyPath}.hint`);
  return copyPath;
}

export class EngineFixture implements Disposable {
  readonly path: string;
  readonly opened: OpenedEngine;
  readonly engine: Engine;
  readonly sync: Sync;
  #isClosed = false;

  constructor(path: string, system: System, changes: Parameters<typeof openFile>[2] = {}) {
    this.path = path;
    this.opened = openFile(system, path, changes);
    this.engine = this.opened.engine;
    this.sync = this.opened.sync!;
  }

  /** The file now. */
  image(): Uint8Array {
    return new Uint8Array(readFileSync(this.path));
  }

  #spaces(): SpaceState[] {
    return [this.engine.defaultSpace, ...this.engine.spaces.list()];
  }

  /** As `stateOf`, of a database that is open here. */
  state(): string {
    const all = this.#spaces().map((space) => {
      const records = [...this.engine.snapshot(space)].map(({ key, value, expiresAtMs }) => {
        const got = this.engine.get(space, key);
        if (got === undefined || Buffer.compare(got, value) !== 0) throw new Error("get disagrees with the walk");
        const digest = value.length <= 64 ? value.toHex() : `${value.length}:${Bun.hash(value).toString(16)}`;
        return `${key.toHex()}=${digest}@${expiresAtMs}`;
      });
      if (records.length !== this.engine.count(space)) throw new Error("the count disagrees with the walk");
      return [space.name, records.sort()];
    });
    return JSON.stringify(all);
  }

  /** Throws unless the bytes that are counted as live are those of the frames of what a walk shows. */
  checkLiveBytes(): void {
    let counted = HEADER_PAGE_BYTES;
    let walked = HEADER_PAGE_BYTES;
    for (const space of this.#spaces()) {
      counted += this.engine.spaces.counts(space).bytes;
      const creation = frameBytes(shapeOf(KIND_SPACE_CREATE, PLACE_ALONE, 0, Buffer.byteLength(space.name)), 0);
      if (space.id !== 0) counted += creation;
      if (space.id !== 0) walked += creation;
      for (const { key, value, expiresAtMs } of this.engine.snapshot(space)) {
        const extension = expiresAtMs === 0 ? 0 : 8;
        walked += Math.ceil((24 + key.length + extension + value.length) / 8) * 8;
      }
    }
    if (counted !== walked) throw new Error(`${counted} bytes are counted live, ${walked} are`);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.opened.leave();
  }

  /** Lets go of everything; what a broken disk says to that is of no interest here. */
  [Symbol.dispose](): void {
    try {
      this.close();
    } catch {
      this.#isClosed = true;
    }
  }
}
