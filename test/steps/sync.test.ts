/**
 * Flushes of threads that sync for each other, in all orders of their steps, of which a sync may fail and one thread die.
 *
 * A page that could not be written counts as written for the kernel, which tells one sync of that alone. Always: one syncs at a
 * time, and what a flush has answered for, and what is said to be durable, is on the disk.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import type { Core, LogFile } from "../../src/engine/core.ts";
import { Sync } from "../../src/engine/sync/sync.ts";
import { Control, MUTEX, STATE, SYNC_DONE, SYNC_ERRNO, SYNC_OWNER } from "../../src/engine/threads/control.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { ROW_THREAD_AT } from "../../src/ffi/reclaim.ts";
import { KIND_PUT, PLACE_ALONE } from "../../src/log/frame.ts";
import { LOG_DURABLE, LOG_FENCE, LOG_VISIBLE, LOG_WRITTEN } from "../../src/log/log-words.ts";
import { SALTS, encode, newEncoder } from "../log/fixture.ts";
import { watched, type Self } from "./explored-thread.ts";
import { Explorer, type Moment, type Program } from "./explorer.ts";

setDefaultTimeout(600_000);

const FIRST_NUMBER = 10;
const NOBODY = -1;

// The notes: who syncs, up to where what is in the file is covered by that, what the file holds, what is on the disk, up to where
// pages are lost behind it, and syncs that have failed.
const [SYNCS, COVERED, FILE, DISK, LOST, FAILED] = [0, 1, 2, 3, 4, 5] as const;

/** A log of a few frames, each as long as the others. */
function frames(count: number): { readonly bytes: Uint8Array; readonly frameBytes: number } {
  const encoder = newEncoder();
  const pieces: Uint8Array[] = [];
  let lsn = 0;
  for (let index = 0; index < count; index += 1) {
    const input = { kind: KIND_PUT, place: PLACE_ALONE, flags: 0, space: 0, expiresAtMs: 0, prev: 0, durable: 0, lsn };
    const bytes = encode(encoder, { ...input, key: new Uint8Array([1]), value: new Uint8Array([2]) });
    pieces.push(encoder.stage.u8.slice(0, bytes));
    lsn += bytes;
  }
  return { bytes: new Uint8Array(Buffer.concat(pieces)), frameBytes: lsn / count };
}

const LOG = frames(4);

/** The writer's lock, which `mutex.test.ts` is about. */
class Lock {
  #depth = 0;
  readonly #flags: Int32Array;
  readonly #name: number;
  readonly #isAlive: (name: number) => boolean;

  constructor(flags: Int32Array, name: number, isAlive: (name: number) => boolean) {
    this.#flags = flags;
    this.#name = name;
    this.#isAlive = isAlive;
  }

  get isHeld(): boolean {
    return this.#depth > 0;
  }

  lock(): void {
    while (!this.tryLock(1));
  }

  tryLock(turnsMax = 0): boolean {
    for (let turn = 0; this.#depth === 0; turn += 1) {
      const holder = Atomics.compareExchange(this.#flags, MUTEX, 0, this.#name);
      if (holder === 0) break;
      if (turn === turnsMax) return false;
      if (Atomics.wait(this.#flags, MUTEX, holder, 10) !== "timed-out" || this.#isAlive(holder)) continue;
      if (Atomics.compareExchange(this.#flags, MUTEX, holder, this.#name) === holder) break;
    }
    this.#depth += 1;
    return true;
  }

  unlock(): void {
    this.#depth -= 1;
    if (this.#depth > 0) return;
    Atomics.store(this.#flags, MUTEX, 0);
    Atomics.notify(this.#flags, MUTEX, 1);
  }
}

class QuietSync extends Sync {
  override markSoon(): void {}
}

class Scene {
  readonly #control = Control.create();
  readonly #programs: Program[] = [];
  #failuresMax = 0;
  #explorer: Explorer | undefined;

  #core(row: number): Core {
    const explorer = this.#explorer!;
    const step = (what: string, operate: () => number): number => explorer.step(what, operate);
    const flags = watched(this.#control.flags, step);
    const numbers = watched(this.#control.log.numbers, step);
    const isAlive = (name: number): boolean => explorer.system.isThreadAlive(FIRST_NUMBER + name - 1);
    const core = {
      row,
      base: 0,
      salts: SALTS,
      isShared: true,
      isClosed: false,
      file: { path: "log" },
      control: { flags, reclaim: this.#control.reclaim, log: { numbers, flags: this.#control.log.flags } },
      mutex: new Lock(flags, row + 1, isAlive),
      system: { ...explorer.system, ...this.#disk(row) },
      lockWatch: { look: () => undefined },
      makeEncoder: () => undefined,
      onSpill: () => undefined,
      get visible(): number {
        return numbers[LOG_VISIBLE]!;
      },
      tail: {
        holdsRefused: false,
        spill: (target: number): void => {
          explorer.step("pwrite", (notes) => (notes[FILE] = Math.max(notes[FILE]!, target)));
          numbers[LOG_WRITTEN] = target;
        },
      },
    };
    return core as unknown as Core;
  }

  /** The disk, as a thread sees it. */
  #disk(thread: number): object {
    const explorer = this.#explorer!;
    return {
      read: (_: unknown, into: Uint8Array, { position, bytes }: { position: number; bytes: number }): number => {
        const piece = LOG.bytes.subarray(position, position + bytes);
        into.set(piece);
        return piece.length;
      },
      // What is written again is dirty again.
      write: (): number => explorer.step("pwrite again", (notes) => (notes[LOST] = 0)) + LOG.bytes.length,
      sync: (): number => {
        explorer.step("sync", (notes) => {
          if (notes[SYNCS] !== NOBODY) throw new Error("two sync at a time");
          notes[SYNCS] = thread;
          return (notes[COVERED] = notes[FILE]!);
        });
        const fails = explorer.system.monotonic() > 0;
        return explorer.step("synced", (notes) => {
          notes[SYNCS] = NOBODY;
          if (fails) this.#fail(notes);
          else if (notes[LOST]! <= notes[DISK]!) notes[DISK] = Math.max(notes[DISK]!, notes[COVERED]!);
          return fails ? -Errno.EIO : 0;
        });
      },
    };
  }

  #fail(notes: number[]): void {
    notes[FAILED]! += 1;
    notes[LOST] = Math.max(notes[LOST]!, notes[COVERED]!);
  }

  /** Writes a record and flushes, so often. */
  flushes(rounds: number, more: Partial<Program> = {}): this {
    const row = this.#programs.length;
    this.#control.reclaim[ROW_THREAD_AT + row] = FIRST_NUMBER + row + 1;
    const run = (self: Self): void => {
      const core = this.#core(row);
      const sync = new QuietSync(core, { handle: 1, path: "log" } as unknown as LogFile);
      for (let round = 0; round < rounds; round += 1) {
        if (!this.#flushOne(core, sync, self)) return;
        self.forget(`${round}`);
      }
    };
    this.#programs.push({ number: FIRST_NUMBER + row, run, ...more });
    return this;
  }

  #flushOne(core: Core, sync: Sync, self: Self): boolean {
    const { numbers } = core.control.log;
    core.mutex.lock();
    const target = numbers[LOG_VISIBLE]! + LOG.frameBytes;
    numbers[LOG_VISIBLE] = target;
    core.mutex.unlock();
    try {
      sync.flush();
    } catch (error) {
      if (error instanceof EmdbError && ["EMDB_IO", "EMDB_POISONED"].includes(error.code)) return false;
      throw error;
    }
    self.note((notes) => {
      if (notes[DISK]! < target) throw new Error("a flush has answered for what is not on the disk");
    });
    return true;
  }

  expectFine({ deathsMax = 0, failuresMax = 0, timeoutsMax = 0 } = {}): void {
    this.#failuresMax = failuresMax;
    const { flags, log, buffer } = this.#control;
    const flagsAt = flags.byteOffset / 4;
    const numbersAt = log.numbers.byteOffset / 4;
    const halves = [LOG_VISIBLE, LOG_WRITTEN, LOG_DURABLE].flatMap((at) => [
      numbersAt + 2 * at,
      numbersAt + 2 * at + 1,
    ]);
    const explorer = new Explorer({
      programs: this.#programs,
      buffer,
      words: [...[MUTEX, STATE, SYNC_OWNER, SYNC_DONE].map((word) => flagsAt + word), ...halves],
      ignored: [flagsAt + SYNC_ERRNO, log.flags.byteOffset / 4 + LOG_FENCE],
      notes: [NOBODY, 0, 0, 0, 0, 0],
      // A clock that goes on is a disk that fails.
      clockStepsMs: this.#failuresMax > 0 ? [0, 1] : [0],
      leapsMax: this.#failuresMax,
      vain: { word: -1, forMs: 0, isRare: false },
      timeoutsMax,
      turnsMax: 2,
      deathsMax,
      judge: (moment) => this.#judge(moment),
      judgeEnd: ({ deaths }) => {
        if (deaths === 0 && flags[SYNC_OWNER] !== 0) throw new Error("the place is not given back");
      },
      onDeath: (thread, notes) => {
        if (notes[SYNCS] !== thread) return;
        notes[SYNCS] = NOBODY;
        // Nobody heard of it.
        this.#fail(notes);
      },
    });
    this.#explorer = explorer;
    expect(explorer.explore()).toBeUndefined();
    console.log(`${explorer.moments} moments, ${explorer.ends} ends`);
    expect(explorer.ends).toBeGreaterThan(0);
  }

  #judge({ words, notes }: Moment): void {
    const [low, high] = words.slice(-2);
    const durable = new Float64Array(new Int32Array([low!, high!]).buffer)[0]!;
    if (durable > notes[DISK]!) throw new Error("what is said to be durable is not on the disk");
  }
}

test("two that flush, of whom one does so again", () => new Scene().flushes(2).flushes(1).expectFine());

test("two that flush, whose time is up at any moment", () =>
  new Scene().flushes(1).flushes(1).expectFine({ timeoutsMax: 1 }));

test("two that flush, of whom one dies, and its sync fails and nobody hears of that", () =>
  new Scene().flushes(1).flushes(1).expectFine({ deathsMax: 1 }));

test("two that flush, and a disk that fails", () => new Scene().flushes(1).flushes(1).expectFine({ failuresMax: 1 }));
