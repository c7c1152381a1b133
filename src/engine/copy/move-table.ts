/**
 * The table of moves while a compaction fills it: in a file of its own beside the log, so that it costs no memory,
 * or, for a log in memory, in memory.
 *
 * Invariant: what it holds is named in the shared words at every moment, so that the next one can give back what a
 * Worker that died has left.
 */

import { EmdbError } from "../../errors.ts";
import { ioError, must } from "../../ffi/io-error.ts";
import { copy, pinned } from "../../ffi/memory.ts";
import type { System } from "../../ffi/system.ts";
import { FRAME_HEADER_BYTES } from "../../log/frame.ts";
import { firstFree } from "../../log/free-name.ts";
import { Moves, PAIR_BYTES } from "../../log/moves.ts";
import { withRoom, type MakeRoom } from "../../log/reservation.ts";
import { closeFile, nameFile } from "../../log/shared-file.ts";
import { MOVES_ADDRESS, MOVES_BYTES, MOVES_FILE, MOVES_PAIRS, movesFileOf, type Control } from "../threads/control.ts";
import { movesPaths } from "../files/siblings.ts";

const BUFFER_PAIRS = 4096;
const COMMIT_BYTES = 1024 * 1024;

/** Beside which draft the table's file is made, and what may give room back where the disk is full. */
export interface MovesPlace {
  readonly draftPath: string;
  readonly makeRoom: MakeRoom;
}

export class MoveTable {
  readonly moves: Moves;
  readonly #system: System;
  readonly #numbers: Float64Array;
  readonly #path: string | undefined;
  readonly #makeRoom: MakeRoom = () => false;
  readonly #buffer = pinned(BUFFER_PAIRS * PAIR_BYTES);
  #buffered = 0;
  /** Pairs that left the buffer, and how many bytes of memory are there for them. */
  #stored = 0;
  #committed = 0;

  /** Begins an empty table; a log in memory says how long it may become at most. */
  constructor(system: System, control: Control, place: MovesPlace | { readonly logBytes: number }) {
    this.#system = system;
    this.#numbers = control.numbers;
    this.moves = new Moves((to, first, count) => this.#read(to.u8, first, count));
    if ("draftPath" in place) {
      const names = movesPaths(system, place.draftPath);
      const path = firstFree(system, names);
      if (typeof path === "number") throw ioError(path, { syscall: "unlink", path: names[0] });
      this.#path = path;
      this.#makeRoom = place.makeRoom;
      nameFile(system, movesFileOf(control), must(system.open(path, "create"), { syscall: "open", path }));
      // Open and named in the words it needs no name, and without one nothing is left of it whatever happens.
      system.unlink(path);
      return;
    }
    const pairs = Math.ceil(place.logBytes / FRAME_HEADER_BYTES);
    const bytes = Math.ceil((pairs * PAIR_BYTES) / COMMIT_BYTES + 64) * COMMIT_BYTES;
    const address = must(system.reserve(bytes), { syscall: "mmap", path: undefined });
    this.#numbers[MOVES_BYTES] = bytes;
    this.#numbers[MOVES_ADDRESS] = address;
  }

  /** Notes where a frame was and where it is now, both in 8-byte units. */
  add(former: number, present: number): void {
    if (this.#buffered === BUFFER_PAIRS) this.#spill();
    const at = this.#buffered * 2;
    this.#buffer.f64[at] = former;
    this.#buffer.f64[at + 1] = present;
    this.#buffered += 1;
    this.moves.note(former);
  }

  #spill(): void {
    const bytes = this.#buffered * PAIR_BYTES;
    const position = this.#stored * PAIR_BYTES;
    if (bytes === 0) return;
    if (this.#path === undefined) this.#store(position, bytes);
    else {
      const written = withRoom(this.#makeRoom, () =>
        this.#system.write(this.#numbers[MOVES_FILE]!, this.#buffer.address, { position, bytes }),
      );
      must(written, { syscall: "pwrite", path: this.#path });
    }
    this.#stored += this.#buffered;
    this.#buffered = 0;
  }

  #store(position: number, bytes: number): void {
    const address = this.#numbers[MOVES_ADDRESS]!;
    const bytesMax = this.#numbers[MOVES_BYTES]!;
    while (this.#committed < position + bytes) {
      if (this.#committed + COMMIT_BYTES > bytesMax) {
        throw new EmdbError("EMDB_FULL", `a compaction notes up to ${bytesMax / PAIR_BYTES} frames; more were written`);
      }
      const committed = this.#system.commit(address + this.#committed, COMMIT_BYTES);
      must(committed, { syscall: "mmap", path: undefined });
      this.#committed += COMMIT_BYTES;
    }
    copy(address + position, this.#buffer.address, bytes);
  }

  #read(to: Uint8Array, first: number, count: number): void {
    const stored = Math.min(count, Math.max(0, this.#stored - first));
    const bytes = stored * PAIR_BYTES;
    if (bytes > 0 && this.#path === undefined) copy(to, this.#numbers[MOVES_ADDRESS]! + first * PAIR_BYTES, bytes);
    else if (bytes > 0) {
      const span = { position: first * PAIR_BYTES, bytes };
      must(this.#system.read(this.#numbers[MOVES_FILE]!, to, span), { syscall: "pread", path: this.#path });
    }
    if (stored === count) return;
    const from = (first + stored - this.#stored) * PAIR_BYTES;
    to.set(this.#buffer.u8.subarray(from, from + (count - stored) * PAIR_BYTES), bytes);
  }

  /** Ends the table: it is in memory from now on, as the words say. */
  finish(): void {
    this.#spill();
    const numbers = this.#numbers;
    numbers[MOVES_PAIRS] = this.#stored;
    if (this.#path === undefined || this.#stored === 0) return;
    const bytes = this.#stored * PAIR_BYTES;
    const address = must(this.#system.map(numbers[MOVES_FILE]!, bytes), { syscall: "mmap", path: this.#path });
    // The address last: with it the other two count.
    numbers[MOVES_BYTES] = bytes;
    numbers[MOVES_ADDRESS] = address;
  }
}

/** Closes the table's file; what is mapped stays mapped. */
export function closeMovesFile(system: System, control: Control): void {
  closeFile(system, movesFileOf(control));
}

/** Gives a table back that no segment has taken over, a dead Worker's as well. */
export function releaseMoves(system: System, control: Control, hasFile: boolean): void {
  const { numbers } = control;
  const address = numbers[MOVES_ADDRESS]!;
  const bytes = numbers[MOVES_BYTES]!;
  forgetMoves(control);
  if (address > 0 && !hasFile) system.release(address, bytes);
  else if (address > 0) system.unmap(address, bytes);
  closeMovesFile(system, control);
}

/** The table belongs to a segment now. */
export function forgetMoves(control: Control): void {
  control.numbers[MOVES_ADDRESS] = 0;
  control.numbers[MOVES_BYTES] = 0;
  control.numbers[MOVES_PAIRS] = 0;
}
