/**
 * When and how the hint image is written: on request and from time to time in slices between which the event loop
 * turns, and at the end in one go.
 *
 * Invariants
 * 1. Who makes an image holds the place of long work (`long-work.ts`), and with it the sibling's name.
 * 2. The log is durable up to the image's end before the image gets its name.
 * 3. A failure leaves no sibling and the database, with the image before, as it was.
 */

import { EmdbError, assert } from "../../errors.ts";
import { CHECKPOINT_GROWTH_BYTES_MIN, HEADER_PAGE_BYTES } from "../../limits.ts";
import { IMAGE_START, STATE } from "../threads/control.ts";
import { closedError, type Core, type LogFile } from "../core.ts";
import type { Engine } from "../engine.ts";
import type { GroupCommit } from "../sync/group-commit.ts";
import { HintWriter } from "./hint-writer.ts";
import type { LongWork } from "../background/long-work.ts";
import { heldSteps, inSlices } from "../threads/held-steps.ts";
import { roomMaker } from "../files/make-room.ts";
import { mustFit } from "../files/name-room.ts";
import type { Relocation } from "../copy/relocation.ts";
import { newHintPaths } from "../files/siblings.ts";
import type { Sync } from "../sync/sync.ts";

/** How long the event loop is held at a time, at most a little more. */
const SLICE_MS = 2;

export interface CheckpointParts {
  readonly file: LogFile;
  readonly sync: Sync;
  readonly commit: GroupCommit;
  readonly work: LongWork;
  readonly relocation: Relocation;
}

export class Checkpoint {
  readonly #engine: Engine;
  readonly #core: Core;
  readonly #parts: CheckpointParts;
  /** The image that this thread is making in slices. */
  #writer: HintWriter | undefined;
  /** The checkpoint under way, and the one that begins after it. */
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  /** Whether the last thread has left the database with an image that holds everything. */
  #hasEnded = false;
  /** Where the log ended when the last one began by itself. */
  #triedAt = 0;

  constructor(engine: Engine, parts: CheckpointParts) {
    this.#engine = engine;
    this.#core = engine.core;
    this.#parts = parts;
    if (!engine.core.isReadOnly) engine.core.onSpill = () => this.#consider();
  }

  /** Resolves when an image that holds everything written before the call is in place. */
  run(): Promise<void> {
    if (this.#running === undefined) {
      this.#running = this.#untilInPlace().finally(() => (this.#running = undefined));
      return this.#running;
    }
    // What is under way may have passed over what was written since; all who come now share the next one.
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.run();
      });
    return this.#next;
  }

  /** The same in one go; false where others have the place of long work, and there is no image. */
  runSync(): boolean {
    this.cancel();
    return this.#isUpToDate() || this.#makeNow();
  }

  /** By an open, of a log that is empty as well; one that cannot be made is no reason to fail. */
  runAtOpen(): void {
    try {
      this.#makeNow();
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
    }
  }

  #makeNow(): boolean {
    if (!this.#parts.work.tryTake()) return false;
    try {
      this.#parts.relocation.finish();
      const writer = this.#begin();
      try {
        while (this.#copyPiece(writer)) if (writer.isFull) writer.spill();
        if (this.#parts.sync.durable < writer.end) this.#parts.sync.flush();
        this.#finish(writer);
        return true;
      } finally {
        writer.discard();
      }
    } finally {
      this.#parts.work.give();
    }
  }

  /** At the end of everything; an image that cannot be made is no reason to fail. */
  runAtEnd(): void {
    if (this.#core.control.flags[STATE] !== 0) return;
    try {
      this.#hasEnded = this.runSync();
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
    }
  }

  /** Gives up what is being made in slices; who waits for it hears EMDB_CLOSED, unless the end makes an image. */
  cancel(): void {
    const writer = this.#writer;
    if (writer === undefined) return;
    this.#writer = undefined;
    writer.discard();
    this.#parts.work.give();
  }

  async #untilInPlace(): Promise<void> {
    try {
      await this.#inSlices();
    } catch (error) {
      // The last close has come in between, and its image holds what was asked for.
      if (!this.#hasEnded || !(error instanceof EmdbError) || error.code !== "EMDB_CLOSED") throw error;
    }
  }

  async #inSlices(): Promise<void> {
    while (!this.#isUpToDate()) {
      if (this.#parts.work.tryTake()) {
        await this.#make();
        return;
      }
      await this.#parts.work.othersDone();
    }
  }

  async #make(): Promise<void> {
    const { turn } = this.#parts.work;
    let writer: HintWriter | undefined;
    try {
      // An image names one file: what a compaction has left to be done comes first.
      await this.#parts.relocation.finishInSlices();
      await this.#core.inTurns(() => {
        writer = this.#begin();
        this.#writer = writer;
      });
      assert(writer !== undefined, "it has begun");
      this.#mustGoOn(writer);
      await this.#copyInSlices(writer);
      if (this.#parts.sync.durable < writer.end) await this.#parts.commit.flush();
      this.#mustGoOn(writer);
      this.#finish(writer);
    } finally {
      writer?.discard();
      if (this.#writer === writer) this.#writer = undefined;
      // After `cancel` the place may be somebody else's already.
      this.#parts.work.give(turn);
    }
  }

  async #copyInSlices(writer: HintWriter): Promise<void> {
    const { system } = this.#core;
    let until = system.monotonic() + SLICE_MS;
    const copyPiece = (): boolean => this.#copyPiece(writer);
    const mayGoOn = (): boolean => !writer.isFull;
    await inSlices(this.#core, {
      step: () => heldSteps(this.#core, copyPiece, mayGoOn),
      isTurnDue: () => {
        if (writer.isFull) {
          // Bit by bit: one sync of everything at the end would hold the thread as long as the disk takes.
          writer.spill();
          writer.writeBack();
        }
        return system.monotonic() >= until;
      },
      turn: async () => {
        await this.#core.turned();
        until = system.monotonic() + SLICE_MS;
      },
      check: () => this.#mustGoOn(writer),
    });
  }

  #mustGoOn(writer: HintWriter): void {
    if (this.#writer !== writer || this.#core.isClosed) throw closedError(this.#parts.file.path);
  }

  #begin(): HintWriter {
    const { path } = this.#parts.file;
    const names = newHintPaths(this.#core.system, { path, fileId: this.#core.identity.fileId });
    mustFit(this.#core.system, path, { names, says: "no checkpoint is made" });
    const engine = this.#engine;
    return engine.exclusively(() => new HintWriter(this.#core, engine.spaces, this.#parts.file, roomMaker(engine)));
  }

  #copyPiece(writer: HintWriter): boolean {
    const isMore = this.#engine.exclusively(() => writer.copyPiece());
    writer.sealPiece();
    return isMore;
  }

  #finish(writer: HintWriter): void {
    writer.writeHeader();
    writer.sync();
    this.#core.lockWatch.look();
    writer.publish();
    this.#core.control.numbers[IMAGE_START] = writer.start;
  }

  #isUpToDate(): boolean {
    const core = this.#core;
    core.enter();
    const imageStart = core.control.numbers[IMAGE_START]!;
    return core.visible === (imageStart === 0 ? core.base + HEADER_PAGE_BYTES : imageStart);
  }

  /** After a write to the file: begins a checkpoint when the log has grown by so much that replay would take long. */
  #consider(): void {
    const core = this.#core;
    const end = core.visible;
    const since = Math.max(core.control.numbers[IMAGE_START]!, core.base, this.#triedAt);
    if (end - since < Math.max(CHECKPOINT_GROWTH_BYTES_MIN, (end - core.base) / 2)) return;
    this.#triedAt = end;
    core.putOff(() => {
      if (core.isClosed || core.control.flags[STATE] !== 0) return;
      this.run().catch((error: unknown) => {
        if (!(error instanceof EmdbError)) throw error;
      });
    });
  }
}
