/**
 * A file system on a disk that has a cache of its own, and loses it with the power.
 *
 *     the file system under test    flushes its disk for each sync
 *     its image, through a loop device    the disk: a flush is a sync of the image
 *     an XFS on another loop file    the disk's cache is this one's page cache
 *
 * The XFS is shut down with its journal lost, so of the image only what was synced is sure to be there. Of the rest some
 * pieces have been written back before, by a draw: they lie over what was there, so a later write may be kept and an earlier
 * one lost. The image is written as a whole first, so that writing a piece back takes no change of the XFS itself.
 */

import { dlopen } from "bun:ffi";
import { closeSync, mkdirSync, openSync, writeSync, fsyncSync } from "node:fs";
import { join } from "node:path";
import type { Random } from "../sim/random.ts";
import { DEATHS, LEAST_MEBIBYTES, makeImage, must, shutDown, type DiskKind, type MortalDisk } from "./disk.ts";

/** Room for the journal and the tables of the XFS. */
const AROUND_MEBIBYTES = 64;
const PIECE_BYTES = 64 * 1024;
/** SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER. */
const WRITE_NOW = 7;

type SyncFileRange = (fd: number, offset: number, bytes: number, flags: number) => number;
let known: SyncFileRange | undefined;

function writeBackPiece(fd: number, offset: number): void {
  known ??= dlopen("libc.so.6", {
    sync_file_range: { args: ["int", "i64", "i64", "u32"], returns: "int" },
  }).symbols.sync_file_range as unknown as SyncFileRange;
  known(fd, offset, PIECE_BYTES, WRITE_NOW);
}

export class CachedDisk implements MortalDisk, Disposable {
  readonly at: string;
  readonly #around: string;
  readonly #aroundImage: string;
  readonly #image: string;
  readonly #bytes: number;

  constructor(folder: string, kind: DiskKind) {
    const mebibytes = Math.max(24, LEAST_MEBIBYTES[kind]);
    this.at = join(folder, kind);
    this.#around = join(folder, "around");
    this.#aroundImage = join(folder, "around.image");
    this.#image = join(this.#around, `${kind}.image`);
    this.#bytes = mebibytes * 2 ** 20;
    for (const place of [this.at, this.#around]) mkdirSync(place);
    makeImage(this.#aroundImage, { kind: "xfs", mebibytes: mebibytes + AROUND_MEBIBYTES });
    must("mount", "-o", "loop", this.#aroundImage, this.#around);
    try {
      this.#fillImage();
      makeImage(this.#image, { kind, mebibytes });
      must("sync", this.#image);
      this.#mount();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #fillImage(): void {
    const image = openSync(this.#image, "w");
    const zeros = new Uint8Array(2 ** 20);
    for (let at = 0; at < this.#bytes; at += zeros.length) writeSync(image, zeros);
    fsyncSync(image);
    closeSync(image);
  }

  #mount(): void {
    // What is given back must not become a hole of the image.
    const options = this.#image.endsWith("btrfs.image") ? "loop,nodiscard" : "loop";
    must("mount", "-o", options, this.#image, this.at);
  }

  die(random: Random): void {
    const share = random.pick([0, 0.2, 0.8]);
    const image = openSync(this.#image, "r+");
    for (let at = 0; at < this.#bytes; at += PIECE_BYTES) if (random.chance(share)) writeBackPiece(image, at);
    closeSync(image);
    shutDown(this.#around, DEATHS.journalLost);
  }

  revive(): void {
    must("umount", this.at);
    must("umount", this.#around);
    must("mount", "-o", "loop", this.#aroundImage, this.#around);
    this.#mount();
  }

  [Symbol.dispose](): void {
    for (const place of [this.at, this.#around])
      Bun.spawnSync(["umount", "-l", place], { stdio: ["ignore", "ignore", "ignore"] });
  }
}
