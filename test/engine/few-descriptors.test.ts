/** Long work that finds no descriptor left, at whichever of its calls: what was there is as it was, and all of it goes again. */

import { expect, test } from "bun:test";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import type { Environment } from "../../src/engine/assemble.ts";
import { rewriteFile } from "../../src/engine/copy/rekey.ts";
import { salvageFile } from "../../src/engine/salvage/salvage.ts";
import { EmdbError } from "../../src/errors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";

const RECORDS = 50;
const SECRET = { key: new Uint8Array(32).fill(9) };

/** Every file but locks, which Windows lets nobody read. */
function contentsOf(folder: string): string {
  const names = readdirSync(folder).sort();
  return names
    .map((name) => `${name} ${name.endsWith(".lock") ? "" : Bun.hash(readFileSync(`${folder}/${name}`))}`)
    .join("\n");
}

function fill({ engine, sync }: EngineFixture): void {
  for (let index = 0; index < 2 * RECORDS; index++)
    engine.insert(engine.defaultSpace, `key ${index % RECORDS}`, `value ${index}`, 0);
  sync.flush();
}

/** A system that has some descriptors to spare. */
class ShortSystem {
  spare = Infinity;
  #taken = 0;

  readonly system: System = faulty(hostSystem(), (call, args) => {
    // A sync of a folder that is not open yet opens it.
    const takesOne = call === "open" || (call === "syncFolder" && typeof args[1] !== "number");
    if (!takesOne) return undefined;
    this.#taken += 1;
    return this.#taken > this.spare ? -Errno.EMFILE : undefined;
  });

  get environment(): Environment {
    return { system: this.system, defer: (work) => void setImmediate(work), hasWorkers: false };
  }

  /**
   * Does some work with no descriptor left from its first call on that takes one, then from the second on, and so on,
   * until it gets through. Each failure has to be told as what it is and to leave everything as it was.
   */
  async run(
    folders: readonly string[],
    work: () => Promise<unknown>,
    isWell: () => void = () => undefined,
  ): Promise<void> {
    // The mark behind what the fill has flushed.
    await Promise.resolve();
    const contents = (): string => folders.map(contentsOf).join("\n");
    const before = contents();
    let failures = 0;
    for (let isDone = false; !isDone;) {
      this.spare = failures;
      this.#taken = 0;
      const error = await work().then(
        () => undefined,
        (reason: unknown) => reason,
      );
      this.spare = Infinity;
      isDone = error === undefined;
      if (isDone) break;
      if (!(error instanceof EmdbError)) throw error;
      expect([failures, error.code, error.errno]).toEqual([failures, "EMDB_IO", "EMFILE"]);
      expect([failures, contents()]).toEqual([failures, before]);
      isWell();
      failures += 1;
    }
    expect(failures).toBeGreaterThan(1);
    expect(contents()).not.toBe(before);
  }
}

test("a compaction that finds no descriptor leaves the original in service", async () => {
  using folder = temporaryFolder();
  const short = new ShortSystem();
  using fixture = new EngineFixture(folder.file("data.emdb"), short.system);
  fill(fixture);
  const state = fixture.state();
  const isWell = (): void => {
    // Nothing is poisoned: writes would be refused.
    fixture.engine.remove(fixture.engine.defaultSpace, "no such key");
    expect(fixture.state()).toBe(state);
  };
  await short.run([folder.path], () => fixture.opened.compaction.run({}), isWell);
  isWell();
});

test("a backup that finds no descriptor leaves the target as it was", async () => {
  using folder = temporaryFolder();
  using elsewhere = temporaryFolder();
  const short = new ShortSystem();
  using fixture = new EngineFixture(folder.file("data.emdb"), short.system);
  fill(fixture);
  const target = elsewhere.file("copy.emdb");
  writeFileSync(target, "what was there before");
  await short.run([folder.path, elsewhere.path], () => fixture.opened.backup.run(target, {}));
});

test("a checkpoint that finds no descriptor leaves no image", async () => {
  using folder = temporaryFolder();
  const short = new ShortSystem();
  using fixture = new EngineFixture(folder.file("data.emdb"), short.system);
  fill(fixture);
  await short.run([folder.path], () => fixture.opened.checkpoint!.run());
});

test("a change of encryption, either way, or a rescue that finds no descriptor leaves the files as they were", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("saved.emdb")];
  const short = new ShortSystem();
  const fixture = new EngineFixture(path, short.system);
  fill(fixture);
  // With an image beside it, which goes with the change.
  fixture.opened.checkpoint!.runSync();
  fixture.close();
  const secrets = [undefined, SECRET, undefined];
  for (const [index, current] of secrets.slice(0, 2).entries()) {
    const request = { path, current, next: secrets[index + 1], cipher: undefined };
    await short.run([folder.path], () => rewriteFile(short.environment, request, {}));
  }
  await short.run([folder.path], () => salvageFile(short.environment, { path, target, encryption: undefined }, {}));
});

test("a database that is made and finds no descriptor is not there", async () => {
  using folder = temporaryFolder();
  const short = new ShortSystem();
  await short.run([folder.path], async () => new EngineFixture(folder.file("data.emdb"), short.system).close());
});
