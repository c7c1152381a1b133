/** What another Worker publishes while a verify takes its moment is in it whole, or not at all. */

import { expect, spyOn, test } from "bun:test";
import { attachTo, openFile } from "../../src/engine/open/open.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { CONFIG } from "./open-engine.ts";

const environment = {
  system: hostSystem(),
  defer: (work: () => void) => void setImmediate(work),
  hasWorkers: false,
};

test.each(["a batch of long values and a short one", "a namespace", "a namespace that goes"])(
  "%s that is written right before the lock is taken",
  async (what) => {
    using folder = temporaryFolder();
    const own = openFile(environment, { path: folder.file("data.emdb"), createFolders: false, config: CONFIG });
    own.engine.insert(own.engine.defaultSpace, "first", "1", 0);
    own.engine.core.becomeShared();
    const other = attachTo(environment, own.base);
    const long = new Uint8Array(100_000);
    let count = 0;
    const write = (): void => {
      const { engine } = other;
      count += 1;
      if (what.startsWith("a batch"))
        engine.insertMany(engine.defaultSpace, ["a", "b", `c ${count}`], [long, long, "short"], 0);
      else engine.insert(engine.spaceNamed(`space ${count}`), "key", "value", 0);
      if (what.endsWith("goes")) engine.dropSpace(`space ${count - 1}`);
    };
    const { mutex } = own.engine.core;
    const { lock } = Object.getPrototypeOf(mutex) as typeof mutex;
    let isBusy = false;
    mutex.lock = () => {
      if (!mutex.isHeld && !isBusy) {
        isBusy = true;
        write();
        isBusy = false;
      }
      lock.call(mutex);
    };
    expect((await verifyDatabase(own, {})).problems).toEqual([]);
    expect(count).toBeGreaterThan(0);
    Reflect.deleteProperty(mutex, "lock");
    expect((await verifyDatabase(own, {})).problems).toEqual([]);
    other.leave();
    own.leave();
  },
);

test.each([
  ["a little", 1, true],
  ["much", 1200, false],
])("with %s written since, each key is followed back to the moment, or none is", async (_, overwrites, isFollowed) => {
  using folder = temporaryFolder();
  const config = { ...CONFIG, rangeScans: true };
  const own = openFile(environment, { path: folder.file("data.emdb"), createFolders: false, config });
  const { engine } = own;
  const { lookup } = engine.core;
  for (let index = 0; index < 100; index++) engine.insert(engine.defaultSpace, `key ${index}`, "value", 0);
  const walkBack = spyOn(lookup, "walkBack");
  const long = new Uint8Array(30_000);
  let isFirst = true;
  const onProgress = (): void => {
    if (!isFirst) return;
    isFirst = false;
    for (let index = 0; index < overwrites; index++) engine.insert(engine.defaultSpace, `key ${index % 100}`, long, 0);
    engine.insert(engine.defaultSpace, "new", "value", 0);
    walkBack.mockClear();
  };
  const report = await verifyDatabase(own, { onProgress });
  expect([report.problems, report.records]).toEqual([[], 100]);
  // Of the new one nothing was there; by the hash index and by the ordered one.
  expect(walkBack.mock.calls.length).toBe(isFollowed ? 2 * 101 : 0);
  own.leave();
});
