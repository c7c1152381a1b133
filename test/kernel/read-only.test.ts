/** A file system that is mounted read-only: what may be read is read, what may not be written is refused by its name. */

import { expect, test } from "bun:test";
import { readFileSync, readdirSync } from "node:fs";
import { EmdbError } from "../../src/errors.ts";
import { Emdb } from "../../src/index.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Disk } from "./disk.ts";
import { isSkipped, whyNoMounting } from "./host.ts";

function refusal(call: () => unknown): string {
  try {
    call();
    return "done";
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
    return `${error.code} ${error.errno}`;
  }
}

test.skipIf(isSkipped("a read-only file system", whyNoMounting("tmpfs")))(
  "on a read-only file system an open to write is EMDB_IO with EROFS, one to read reads, and with rights again it goes on",
  () => {
    using folder = temporaryFolder();
    using disk = Disk.tmpfs(folder.path, 6);
    const path = `${disk.at}/data.emdb`;
    using db = Emdb.open(path);
    db.insert("kept", "value");
    db.closeSync();
    const bytes = readFileSync(path);
    const names = readdirSync(disk.at);
    disk.remount("ro");
    expect(refusal(() => Emdb.open(path))).toBe("EMDB_IO EROFS");
    expect(refusal(() => Emdb.open(`${disk.at}/new.emdb`))).toBe("EMDB_IO EROFS");
    const reader = Emdb.open(path, { readOnly: true });
    expect(reader.getText("kept")).toBe("value");
    expect(refusal(() => reader.insert("a", "b"))).toBe("EMDB_READ_ONLY undefined");
    reader.closeSync();
    expect(readdirSync(disk.at)).toEqual(names);
    expect(readFileSync(path).equals(bytes)).toBe(true);
    disk.remount("rw");
    using again = Emdb.open(path);
    again.insert("after", "value");
    again.flushSync();
    expect(again.len()).toBe(2);
  },
);
