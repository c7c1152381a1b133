/** Where a process may have little address space (`ulimit -v`), databases leave enough of it for each other. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const LIMIT_KIB = 16 * 1024 * 1024;

test.skipIf(process.platform !== "linux" || emulator !== undefined)(
  "a dozen databases open, grow and are read together in an address space of 16 GiB",
  () => {
    using folder = temporaryFolder();
    const program = join(import.meta.dir, "many-open.ts");
    const child = Bun.spawnSync([
      "sh",
      "-c",
      `ulimit -v ${LIMIT_KIB} && exec "$0" "$@"`,
      process.execPath,
      program,
      folder.path,
    ]);
    expect(child.stderr.toString()).toBe("");
    expect(child.stdout.toString()).toBe("12 databases with 3000 records each\n");
  },
  60_000,
);
