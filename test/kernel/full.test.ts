/**
 * Real disks that are full: every write is refused by its name, what is there stays, and with room again it goes on.
 */

import { expect, test } from "bun:test";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { EmdbError } from "../../src/errors.ts";
import { Emdb } from "../../src/index.ts";
import { Random } from "../sim/random.ts";
import { roomyFolder, temporaryFolder } from "../support/temporary-folder.ts";
import { COPIES_ON_WRITE, Disk, type DiskKind } from "./disk.ts";
import { isSkipped, whyNoMounting } from "./host.ts";

const TIMEOUT_MS = 300_000;
const ROUNDS = 12;

/** A database beside the map that it has to equal. */
class Twin {
  readonly path: string;
  readonly records = new Map<string, string>();
  readonly #random: Random;
  db: Emdb;
  refusals = 0;

  constructor(path: string, seed: number) {
    this.path = path;
    this.db = Emdb.open(path);
    this.#random = new Random(seed);
  }

  /** Writes until something is refused because the disk is full. */
  fill(): void {
    for (let count = 0; ; count += 1) {
      if (count > 100_000) throw new Error("the disk is never full");
      const entries = Array.from({ length: this.#random.chance(0.3) ? 1 + this.#random.below(20) : 1 }, () => {
        const bytes = this.#random.chance(0.02) ? 300_000 : this.#random.below(9000);
        return [`key ${this.#random.below(400)}`, `${count}:`.padEnd(bytes, `${count}.`)] as const;
      });
      if (!this.#isDone(() => this.#write(entries))) return;
      for (const [key, value] of entries) this.records.set(key, value);
      if (count % 16 === 15 && !this.#isDone(() => this.db.flushSync())) return;
    }
  }

  #write(entries: readonly (readonly [string, string])[]): void {
    const [first] = entries;
    if (entries.length === 1 && first !== undefined) this.db.insert(first[0], first[1]);
    else this.db.insertMany(entries);
  }

  /** False when the disk was too full for it; any other error is one. */
  #isDone(body: () => void): boolean {
    try {
      body();
      return true;
    } catch (error) {
      if (!(error instanceof EmdbError) || error.code !== "EMDB_FULL") throw error;
      this.refusals += 1;
      return false;
    }
  }

  expectWhole(): void {
    const shown = new Map([...this.db.iter()].map(([key, value]) => [Buffer.from(key).toString(), value] as const));
    expect([...shown.keys()].sort()).toEqual([...this.records.keys()].sort());
    expect(this.db.len()).toBe(this.records.size);
    for (const [key, value] of this.records) {
      if (Buffer.from(shown.get(key) ?? []).toString() !== value) throw new Error(`${key} is not what was written`);
      if (this.db.getText(key) !== value) throw new Error(`a get of ${key} disagrees with the walk`);
    }
  }

  reopen(): void {
    this.db.closeSync();
    this.db = Emdb.open(this.path);
    expect(this.db.recovery).toMatchObject({ tornBytes: 0, missingBytes: 0 });
  }

  /** Everything goes, in one frame, and the file with it: the log of a full disk does not shrink. */
  startAnew(): void {
    this.db.closeSync();
    for (const end of ["", ".hint", ".lock"]) rmSync(this.path + end, { force: true });
    this.records.clear();
    this.db = Emdb.open(this.path);
  }
}

/** Takes all the room that is left. */
function takeRoom(disk: Disk): void {
  for (let bytes = 2 ** 20, count = 0; bytes >= 4096; count += 1) {
    try {
      writeFileSync(`${disk.at}/ballast ${count} ${bytes}`, new Uint8Array(bytes));
    } catch {
      rmSync(`${disk.at}/ballast ${count} ${bytes}`, { force: true });
      bytes /= 4;
    }
  }
}

function giveRoom(disk: Disk): void {
  for (const name of readdirSync(disk.at)) if (name.startsWith("ballast")) rmSync(`${disk.at}/${name}`);
}

/**
 * What a disk that copies on write has reserved is enough to write there once, and not again: while it is full a flush may
 * be refused what was accepted, and so would be a close, which ends with what was not flushed.
 */
async function fillOverAndOver(disk: Disk, copiesOnWrite = false): Promise<void> {
  const twin = new Twin(`${disk.at}/data.emdb`, 7);
  for (let round = 0; round < ROUNDS; round += 1) {
    // Some rounds meet a disk that is full from the start.
    writeFileSync(`${disk.at}/ballast`, new Uint8Array(2 ** 20));
    if (round % 3 === 2) takeRoom(disk);
    twin.fill();
    twin.expectWhole();
    // What the full disk leaves undone is told, or is no duty: an image that does not fit is not written.
    await twin.db.checkpoint().catch((error: unknown) => expect((error as EmdbError).code).toBe("EMDB_FULL"));
    if (round % 2 === 0 && !copiesOnWrite) twin.reopen();
    twin.expectWhole();
    giveRoom(disk);
    twin.db.insert("with room again", `${round}`);
    twin.records.set("with room again", `${round}`);
    await twin.db.flush();
    twin.expectWhole();
    twin.reopen();
    twin.expectWhole();
    expect((await twin.db.verify()).problems).toEqual([]);
    if (disk.freeBytes < 2 ** 21) twin.startAnew();
  }
  console.log(`${twin.refusals} refusals on a full disk`);
  expect(twin.refusals).toBeGreaterThanOrEqual(ROUNDS);
  twin.db.closeSync();
  expect(
    readdirSync(disk.at).filter((name) => !/^(data\.emdb(\.hint|\.lock)?|lost\+found|weight)$/.test(name)),
  ).toEqual([]);
}

test.skipIf(isSkipped("a full tmpfs", whyNoMounting("tmpfs")))(
  "a full tmpfs refuses writes, keeps what it has, and goes on when there is room",
  async () => {
    using folder = temporaryFolder();
    using disk = Disk.tmpfs(folder.path, 6);
    await fillOverAndOver(disk);
  },
  TIMEOUT_MS,
);

const KINDS: readonly DiskKind[] = ["ext4", "xfs", "btrfs"];

for (const kind of KINDS) {
  test.skipIf(isSkipped(`a full ${kind}`, whyNoMounting(kind)))(
    `a full ${kind} refuses writes, keeps what it has, and goes on when there is room`,
    async () => {
      using folder = roomyFolder();
      using disk = Disk.make(folder.path, kind, 12);
      if (kind !== "ext4") disk.leaveFree(8 * 2 ** 20);
      await fillOverAndOver(disk, COPIES_ON_WRITE.has(kind));
    },
    TIMEOUT_MS,
  );
}
