/** Processes with limits of their own: a limit is an error with its code, and what was acknowledged is there. */

import { expect, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { childCommand } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

// The system sends SIGXFSZ as well, which ends a process that does not ignore it, as Bun does.
test.skipIf(process.platform !== "linux")(
  "the longest file that a process may write is a full disk, and with room it goes on",
  () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const program = `
      const { Emdb } = await import(${JSON.stringify(`${import.meta.dir}/../../src/index.ts`)});
      const db = Emdb.open(${JSON.stringify(path)});
      let flushed = 0;
      let refused;
      try {
        for (let index = 0; ; index++) {
          db.insert(String(index), "v".repeat(4000));
          if (index % 100 === 0) db.flushSync(), (flushed = index);
        }
      } catch (error) {
        refused = error;
      }
      db.flushSync();
      await db.checkpoint();
      for (let index = 0; index < flushed / 2; index++) try { db.remove(String(index)); } catch { break; }
      await db.compact();
      db.insert("behind", String(flushed));
      await db.close();
      console.log(refused.code, refused.errno);
    `;
    const child = Bun.spawnSync(["sh", "-c", `ulimit -f 16384; exec "$0" "$@"`, ...childCommand(), "-e", program]);
    expect([child.stderr.toString(), child.stdout.toString()]).toEqual(["", "EMDB_FULL EFBIG\n"]);
    using db = Emdb.open(path);
    const flushed = Number(db.getText("behind"));
    expect(flushed).toBeGreaterThan(1000);
    for (let index = Math.ceil(flushed / 2); index <= flushed; index++)
      expect(db.containsKey(String(index))).toBe(true);
  },
);
