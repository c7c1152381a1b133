/** What stands at the target of a salvage, before and while it goes on, and what is left there of one that ends before its end. */

import { expect, test } from "bun:test";
import { linkSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import { salvageFile } from "../../src/engine/salvage/salvage.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { expectRejects } from "../contract/fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { systemWith } from "./verify-frames.ts";

function make(path: string): void {
  using db = Emdb.open(path);
  db.insert("key", "value");
}

test("what comes to stand at the target while a salvage goes on is not replaced", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("saved.emdb")];
  make(path);
  const onProgress = (): void => writeFileSync(target, "theirs");
  const refused: unknown = await Emdb.salvage(path, target, { onProgress }).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "EMDB_INVALID_CONFIG" });
  expect(readFileSync(target, "utf8")).toBe("theirs");
  expect(readdirSync(folder.path).filter((name) => name.startsWith("saved"))).toEqual(["saved.emdb"]);
});

test("the target is told as the damaged file itself, by whichever name, or as another that is there", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  make(path);
  linkSync(path, folder.file("hard"));
  writeFileSync(folder.file("other"), "x");
  const told = async (name: string): Promise<string> =>
    expectRejects("EMDB_INVALID_CONFIG", Emdb.salvage(path, folder.file(name))).then(({ message }) => message);
  expect(await told("hard")).toContain("is the damaged file itself");
  expect(await told("other")).toContain("exists already");
});

test("an abort in the last call before the target gets its name leaves none", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("saved.emdb")];
  make(path);
  const abort = new AbortController();
  const system = systemWith({
    sync(file) {
      abort.abort();
      return hostSystem().sync(file);
    },
  });
  const environment = { system, defer: (work: () => void) => void setImmediate(work), hasWorkers: false };
  const request = { path, target, encryption: undefined };
  const aborted: unknown = await salvageFile(environment, request, { signal: abort.signal }).catch(
    (error: unknown) => error,
  );
  expect(aborted).toMatchObject({ code: "EMDB_ABORTED" });
  expect(readdirSync(folder.path).filter((name) => name.startsWith("saved"))).toEqual([]);
});
