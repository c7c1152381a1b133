/**
 * Overlays, as containers have: a database of the image lies in the lower layer until somebody opens it for writing. Then the
 * file is copied up. Who has it open for reading goes on with both: calls see the copy, and what is mapped is the original.
 */

import { expect, test } from "bun:test";
import { cpSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Emdb } from "../../src/index.ts";
import { stateOf } from "../engine/fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { isSkipped, whyNoMounting } from "./host.ts";
import { must } from "./disk.ts";

const reason = whyNoMounting("overlay");
const TIMEOUT_MS = 60_000;

/** An overlay whose upper layer is empty. */
class Overlay implements Disposable {
  readonly at: string;
  readonly lower: string;
  readonly #top: string;

  constructor(folder: string) {
    // Not in the file system of the temporary folder, which may be an overlay itself, and be refused as an upper layer.
    this.#top = join(folder, "top");
    this.at = join(folder, "merged");
    this.lower = join(folder, "lower");
    for (const place of [this.#top, this.at, this.lower]) mkdirSync(place);
    must("mount", "-t", "tmpfs", "none", this.#top);
    for (const place of ["upper", "work"]) mkdirSync(join(this.#top, place));
  }

  mount(): void {
    const layers = `lowerdir=${this.lower},upperdir=${this.#top}/upper,workdir=${this.#top}/work`;
    must("mount", "-t", "overlay", "overlay", "-o", layers, this.at);
  }

  [Symbol.dispose](): void {
    for (const place of [this.at, this.#top])
      Bun.spawnSync(["umount", "-l", place], { stdio: ["ignore", "ignore", "ignore"] });
  }
}

test.skipIf(isSkipped("copies up beside a reader", reason))(
  "an open for reading shows one moment, whenever a writer has the overlay copy the file up",
  () => {
    using folder = temporaryFolder();
    using overlay = new Overlay(folder.path);
    const countMax = 60;
    const made = folder.file("made.emdb");
    {
      using db = Emdb.open(made);
      db.insert("old", "value");
    }
    for (let count = 1; count <= countMax; count += 1) cpSync(made, join(overlay.lower, `${count}.emdb`));
    overlay.mount();
    const program = join(import.meta.dir, "copy-up.ts");
    const child = Bun.spawnSync([process.execPath, program, overlay.at, `${countMax}`], { stderr: "inherit" });
    expect([child.exitCode, child.signalCode ?? ""]).toEqual([0, ""]);
    expect(Number(child.stdout.toString())).toBeGreaterThan(10);
  },
  TIMEOUT_MS,
);

test.skipIf(isSkipped("a database in the lower layer", reason))(
  "a database in the lower layer of an overlay is read, written, compacted and backed up, and the layer stays as it was",
  async () => {
    using folder = temporaryFolder();
    using overlay = new Overlay(folder.path);
    {
      using db = Emdb.open(join(overlay.lower, "data.emdb"));
      for (let index = 0; index < 500; index += 1) db.insert(`key ${index}`, `${index}`);
    }
    const names = readdirSync(overlay.lower);
    overlay.mount();
    const path = join(overlay.at, "data.emdb");
    const reader = Emdb.open(path, { readOnly: true });
    const before = stateOf(reader);
    {
      using db = Emdb.open(path);
      expect(db.recovery).toMatchObject({ usedCheckpoint: true, tornBytes: 0, missingBytes: 0 });
      db.insertMany(Array.from({ length: 300 }, (_, index) => [`key ${index}`, "new"] as const));
      await db.flush();
      await db.compact();
      await db.backupTo(join(overlay.at, "backup.emdb"));
      expect((await db.verify()).problems).toEqual([]);
    }
    expect(stateOf(reader)).toBe(before);
    expect((await reader.verify()).problems).toEqual([]);
    reader.closeSync();
    using again = Emdb.open(path);
    using backup = Emdb.open(join(overlay.at, "backup.emdb"));
    expect(again.getText("key 7")).toBe("new");
    expect(stateOf(backup)).toBe(stateOf(again));
    expect(readdirSync(overlay.lower)).toEqual(names);
    using original = Emdb.open(join(overlay.lower, "data.emdb"), { readOnly: true });
    expect(stateOf(original)).toBe(before);
  },
  TIMEOUT_MS,
);
