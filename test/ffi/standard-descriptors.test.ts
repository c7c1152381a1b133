/** Descriptors 0, 1 and 2 are where a process prints: a program that has closed them does not print into its database. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Errno } from "../../src/ffi/errno.ts";
import type { Kernel } from "../../src/ffi/kernel.ts";
import { linuxKernel } from "../../src/ffi/linux.ts";
import { pinned } from "../../src/ffi/memory.ts";
import { PosixSystem } from "../../src/ffi/posix.ts";
import { childCommand } from "../support/platform.ts";
import { outcome, TemporaryFolder } from "./temporary-folder.ts";

const isLinux = process.platform === "linux";

test.skipIf(process.platform === "win32")(
  "what a program prints that has closed its standard input, output and error is not in its database",
  () => {
    using folder = new TemporaryFolder();
    const program = `
      const { closeSync, writeSync } = await import("node:fs");
      const { Emdb } = await import(${JSON.stringify(`${import.meta.dir}/../../src/index.ts`)});
      const path = ${JSON.stringify(folder.at("data.emdb"))};
      for (const standard of [0, 1, 2]) closeSync(standard);
      const db = Emdb.open(path);
      db.insertMany(Array.from({ length: 1000 }, (_, index) => [String(index), "value"]));
      db.flushSync();
      for (const standard of [0, 1, 2]) try { writeSync(standard, "printed"); } catch {}
      await db.backupTo(path + ".copy");
      await db.compact();
      for (const standard of [0, 1, 2]) try { writeSync(standard, "printed"); } catch {}
      const { problems, records } = await db.verify();
      db.insert("problems", JSON.stringify(problems));
      db.closeSync();
      process.exit(records === 1000 ? 7 : 1);
    `;
    expect(Bun.spawnSync([...childCommand(), "-e", program]).exitCode).toBe(7);
    for (const name of ["data.emdb", "data.emdb.lock", "data.emdb.copy"])
      expect([name, readFileSync(folder.at(name), "latin1").includes("printed")]).toEqual([name, false]);
    expect(readFileSync(folder.at("data.emdb"), "latin1")).toContain("problems[]");
  },
);

test.skipIf(!isLinux)(
  "an open that cannot leave a standard descriptor is refused, and what it has made is gone",
  () => {
    const errno = pinned(4);
    errno.i32[0] = Errno.EMFILE;
    const said: unknown[] = [];
    const kernel = linuxKernel();
    const names = {
      ...kernel.names!,
      flags: kernel.names!.flags,
      open: () => 2,
      unlink: (path: string) => (said.push(`unlink ${path}`), 0),
    } as Kernel["names"] & {};
    const duplicate = (...asked: number[]): number => (said.push(asked), -1);
    const close = (file: number): number => (said.push(`close ${file}`), 0);
    const errnoAddress = errno.address;
    const system = new PosixSystem({ ...kernel, names, duplicate, errnoAddress, calls: { ...kernel.calls, close } });
    expect(outcome(system.open("a", "create"))).toBe("EMFILE");
    expect(outcome(system.open("a", "write-or-create"))).toBe("EMFILE");
    expect(said).toEqual([[2, 3], "close 2", "unlink a", [2, 3], "close 2"]);
  },
);
