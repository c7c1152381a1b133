/** A commit Worker that nobody asks for a while ends, and the next flush has another. */

import { expect, test } from "bun:test";
import { openFile } from "../../src/engine/open/open.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { CONFIG, type Config } from "../engine/open-engine.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { canCount, resourcesIn } from "./resources.ts";
import { until } from "../support/turns.ts";

const DATABASES = 12;
/** Before there was any Worker. Those of a case may still be ending when the next begins. */
const THREADS = canCount ? resourcesIn(import.meta.dir).threads : 0;
const plans: readonly Config["flushPlan"][] = [
  { kind: "group", waitMsMax: 0, batchMax: 1 },
  { kind: "group", waitMsMax: 5, batchMax: 4 },
  { kind: "on-each-flush" },
];

test.each(plans)(
  "of databases that are flushed now and then (%j) only those keep a thread",
  async (flushPlan) => {
    using folder = temporaryFolder();
    const defer = (work: () => void): void => void setImmediate(work);
    const all = Array.from({ length: DATABASES }, (_, index) =>
      openFile(
        { system: hostSystem(), defer, hasWorkers: true },
        { path: folder.file(`${index}.emdb`), createFolders: false, config: { ...CONFIG, flushPlan } },
      ),
    );
    const threads = (): number => (canCount ? resourcesIn(folder.path).threads : 0);
    const write = async (round: number): Promise<void> => {
      for (const { engine, commit, sync } of all) {
        engine.insert(engine.defaultSpace, `round ${round}`, "written", 0);
        await commit?.flush();
        expect(sync?.durable).toBe(engine.core.visible);
      }
    };
    const before = threads();
    await write(0);
    if (canCount) expect(threads()).toBeGreaterThanOrEqual(THREADS + DATABASES);
    // Asked since, then not any more.
    for (const { commit } of all) commit?.rest();
    if (canCount) expect(threads()).toBeGreaterThanOrEqual(THREADS + DATABASES);
    for (const { commit } of all) commit?.rest();
    await until(() => threads() <= before + DATABASES / 2);
    await write(1);
    // Not while a flush is under way.
    const { engine, commit, sync } = all[0]!;
    engine.insert(engine.defaultSpace, "last", "written", 0);
    const flush = commit?.flush();
    for (let turn = 0; turn < 3; turn += 1) commit?.rest();
    await flush;
    expect(sync?.durable).toBe(engine.core.visible);
    for (const opened of all) opened.leave();
  },
  60_000,
);
