/**
 * Opens files of arbitrary bytes, thousands a second: one simulated machine on which a log and its image are put, opened,
 * looked at and closed.
 *
 * Bounds are counted, not timed: the system calls of an open and the memory that it commits.
 */

import { EmdbError } from "../../src/errors.ts";
import { openFile } from "../../src/engine/open/open.ts";
import type { Opened } from "../../src/engine/assemble.ts";
import { Machine } from "./machine.ts";
import type { SimulatedSystem } from "./system.ts";

const LOG = "/db/store";
const IMAGE = "/db/store.hint";
/** A machine keeps what was written to it; a new one now and then keeps it small. */
const OPENS_PER_MACHINE = 500;
/** What an open of a small file may commit at most: the ring, the whole table of namespaces, and a little of the index. */
const COMMIT_BYTES_MAX = 120 * 2 ** 20;
const CALLS_MAX = 400;
/** Nothing in a file of a few KiB gives more records than this. */
const RECORDS_MAX = 20_000;

const CONFIG = {
  defaultTtlMs: 0,
  rangeScans: false,
  flushPlan: { kind: "on-each-flush" },
  encryption: undefined,
  cipher: undefined,
  verifyReads: true,
  createIfMissing: false,
  lockTimeoutMs: 0,
} as const;

/** What came of an open: how far it got, and what everything that it showed is, as one text. */
export interface Look {
  /** The code of the typed error, wherever it came; undefined when all went well. */
  readonly code: string | undefined;
  readonly isOpen: boolean;
  /** Whether the image was believed. */
  readonly hasUsedImage: boolean;
  readonly shown: string;
}

export class FileBench {
  readonly #isReadOnly: boolean;
  #machine = new Machine();
  #system: SimulatedSystem = this.#machine.boot();
  #opens = 0;

  constructor({ isReadOnly }: { readonly isReadOnly: boolean }) {
    this.#isReadOnly = isReadOnly;
  }

  /** Puts a log in place, and an image or none. */
  put(log: Uint8Array, image?: Uint8Array): void {
    if (this.#opens % OPENS_PER_MACHINE === 0) this.#renew();
    this.#opens += 1;
    this.#write(LOG, log);
    if (image === undefined) this.#system.unlink(IMAGE);
    else this.#write(IMAGE, image);
  }

  /** Turns bits of the file that is there around; a second time turns them back. */
  flip(file: "log" | "image", at: number, mask: number): void {
    const system = this.#system;
    const handle = system.open(file === "log" ? LOG : IMAGE, "write");
    const byte = new Uint8Array(1);
    system.read(handle, byte, { position: at, bytes: 1 });
    byte[0]! ^= mask;
    system.write(handle, byte, { position: at, bytes: 1 });
    system.sync(handle);
    system.close(handle);
  }

  /** The bytes of a file that is there. */
  bytesOf(file: "log" | "image"): Uint8Array {
    const handle = this.#system.open(file === "log" ? LOG : IMAGE, "read");
    const bytes = new Uint8Array(Math.max(0, this.#system.size(handle)));
    this.#system.read(handle, bytes, { position: 0, bytes: bytes.length });
    this.#system.close(handle);
    return bytes;
  }

  /** Opens what is there, looks at all of it, and closes. @throws what no caller should see, or a bound that was passed. */
  open(): Look {
    const system = this.#system;
    const [calls, committed] = [system.callCount, system.committedBytes];
    const look = this.#look();
    const used = { calls: system.callCount - calls, committed: system.committedBytes - committed };
    if (used.calls > CALLS_MAX) throw new Error(`the open took ${used.calls} system calls`);
    if (used.committed > COMMIT_BYTES_MAX) throw new Error(`the open committed ${used.committed} bytes`);
    const left = [...system.held(), ...system.misuses.splice(0)];
    if (left.length > 0) throw new Error(`the open left ${left[0]}`);
    return look;
  }

  #look(): Look {
    let opened: Opened | undefined;
    let shown = "";
    let hasUsedImage = false;
    try {
      const environment = { system: this.#system, defer: () => undefined, hasWorkers: false };
      const config = { ...CONFIG, readOnly: this.#isReadOnly };
      opened = openFile(environment, { path: LOG, createFolders: false, config });
      hasUsedImage = opened.base.recovery.usedCheckpoint;
      shown = everythingIn(opened);
      const leaving = opened;
      opened = undefined;
      leaving.leave();
      return { code: undefined, isOpen: true, hasUsedImage, shown };
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
      const isOpen = opened !== undefined || shown !== "";
      this.#letGo(opened);
      return { code: error.code, isOpen, hasUsedImage, shown };
    }
  }

  #letGo(opened: Opened | undefined): void {
    try {
      opened?.leave();
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
    }
  }

  #write(path: string, bytes: Uint8Array): void {
    const system = this.#system;
    system.unlink(path);
    const handle = system.open(path, "create");
    system.write(handle, bytes, { position: 0, bytes: bytes.length });
    system.sync(handle);
    system.close(handle);
    system.syncFolder("/db");
  }

  #renew(): void {
    this.dispose();
    this.#machine = new Machine({ seed: this.#opens + 1 });
    this.#system = this.#machine.boot();
  }

  dispose(): void {
    this.#system.kill();
    this.#machine.dispose();
  }
}

/** Every record of every key space, walked and then asked for. */
function everythingIn({ engine }: Opened): string {
  const lines: string[] = [];
  for (const space of [engine.defaultSpace, ...engine.spaces.list()]) {
    for (const { key, value, expiresAtMs } of engine.snapshot(space)) {
      const got = engine.get(space, key);
      const isSame = got !== undefined && Buffer.compare(got, value) === 0;
      lines.push(`${space.name}/${key.toHex()}=${value.toHex()}@${expiresAtMs}${isSame ? "" : " and get differs"}`);
      if (lines.length > RECORDS_MAX) throw new Error("a walk does not end");
    }
    lines.push(`${space.name} counts ${engine.count(space)}`);
  }
  return lines.sort().join("\n");
}
