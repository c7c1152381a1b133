/** The folders that an open makes for a database: what is flushed into them is there after a power loss, and no other folder is made. */

import { expect, test } from "bun:test";
import { makeFolders } from "../../src/engine/door.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { expectCode } from "../contract/fixture.ts";
import { engineAdapter } from "./engine-adapter.ts";
import { Machine } from "./machine.ts";
import type { JournalMode } from "./draw.ts";

const JOURNALS: readonly JournalMode[] = ["strict", "ordered"];

test.each(JOURNALS)("a database that was flushed into new folders is there after a power loss (%s)", (journal) => {
  const machine = new Machine({ journal });
  const system = machine.boot();
  const path = "/db/data/app/store";
  makeFolders({ system, defer: () => undefined, hasWorkers: false }, path);
  const store = engineAdapter().open(system, path);
  store.insert({ space: "", key: "flushed", value: "1", expiresAtMs: 0 });
  store.flush();
  const next = Machine.restore(machine.capture(), { kind: "none" });
  const again = engineAdapter().open(next.boot(), path);
  expect([...again.records()].map(({ key }) => key)).toEqual(["flushed"]);
  again.close();
  for (const one of [machine, next]) one.dispose();
});

test("where the folder above could not be opened nothing was made, or the next open would take it for durable", () => {
  const machine = new Machine({ journal: "strict" });
  const system = machine.boot();
  const environment = { system, defer: () => undefined, hasWorkers: false };
  const open = system.open.bind(system);
  system.open = (path, mode) => (mode === "folder" ? -Errno.EMFILE : open(path, mode));
  const syncFolder = system.syncFolder.bind(system);
  system.syncFolder = (path, folder) => (folder === undefined ? -Errno.EMFILE : syncFolder(path, folder));
  const error = expectCode("EMDB_IO", () => makeFolders(environment, "/db/data/store"));
  expect([error.errno, error.path]).toEqual(["EMFILE", "/db"]);
  expect(system.status("/db/data")).toBe(-Errno.ENOENT);
  machine.dispose();
});

test.skipIf(process.platform === "win32")(
  "a backslash in a path is part of a name, and makes no folder of its own",
  () => {
    const machine = new Machine({ journal: "ordered" });
    makeFolders({ system: machine.boot(), defer: () => undefined, hasWorkers: false }, "/db/od\\d/app/store");
    const folders = [...machine.names.current].filter(([, entry]) => entry.kind === "folder").map(([path]) => path);
    expect(folders.sort()).toEqual(["/", "/db", "/db/od\\d", "/db/od\\d/app"]);
    machine.dispose();
  },
);
