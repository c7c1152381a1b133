/**
 * What tidies behind a publication looks at the snapshots after everybody can see what was published: one that opens in
 * between shows either the moment before, and is seen, or the moment after.
 */

import { expect, spyOn, test } from "bun:test";
import type { Core } from "../../src/engine/core.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { LOG_FENCE, LOG_VISIBLE } from "../../src/log/log-words.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { openFile, type OpenedEngine } from "./open-engine.ts";

const keys = Array.from({ length: 450 }, (_, index) => `key ${String(index).padStart(3, "0")}`);

/**
 * What the processor may do: the store of `visible` waits, seen by its own thread only, until that thread's next fence.
 * Returns what makes others see it.
 */
function bufferVisible(core: Core): Disposable & { readonly drain: () => void } {
  const { log } = core.control;
  const memory = log.numbers;
  let waiting: number | undefined;
  const drain = (): void => {
    if (waiting !== undefined) memory[LOG_VISIBLE] = waiting;
    waiting = undefined;
  };
  const buffered = new Proxy(memory, {
    get: (target, name): unknown =>
      name === String(LOG_VISIBLE) && waiting !== undefined ? waiting : Reflect.get(target, name, target),
    set: (target, name, value: number) => {
      if (name !== String(LOG_VISIBLE)) return Reflect.set(target, name, value, target);
      waiting = value;
      return true;
    },
  });
  Object.defineProperty(log, "numbers", { value: buffered, configurable: true });
  const add = Atomics.add.bind(Atomics);
  const fences = spyOn(Atomics, "add").mockImplementation(((words: Int32Array, index: number, by: number) => {
    if (words === log.flags && index === LOG_FENCE) drain();
    return add(words, index, by);
  }) as typeof Atomics.add);
  return {
    drain,
    [Symbol.dispose]: (): void => {
      fences.mockRestore();
      drain();
      Object.defineProperty(log, "numbers", { value: memory, configurable: true });
    },
  };
}

/** Removes everything in one batch while another Worker opens a snapshot when the writer has looked for such; what it shows. */
function removeUnder(
  { engine }: OpenedEngine,
  other: OpenedEngine["engine"],
  lookAt: (meanwhile: () => void) => void,
): string[] {
  const space = engine.defaultSpace;
  engine.insertMany(space, [...keys, "marker"], [...keys, "full"], 0);
  let walk: Iterable<{ readonly key: Uint8Array; readonly value: Uint8Array }> | undefined;
  using buffer = bufferVisible(engine.core);
  lookAt(() => {
    walk ??= other.hasRangeScans
      ? other.range(other.defaultSpace, { isReverse: false })
      : other.snapshot(other.defaultSpace);
    buffer.drain();
  });
  engine.writeBatch([
    ...keys.map((key) => ({ space, key, value: undefined, expiresAtMs: 0 })),
    { space, key: "marker", value: "empty", expiresAtMs: 0 },
  ]);
  buffer.drain();
  const shown = new Map(
    [...walk!].map(({ key, value }) => [Buffer.from(key).toString(), Buffer.from(value).toString()]),
  );
  return [shown.get("marker") ?? "none", String(shown.size - 1)];
}

test.each(["hash index", "ordered index"] as const)(
  "a snapshot that opens while the %s is tidied shows a batch as a whole",
  (which) => {
    using folder = temporaryFolder();
    const opened = openFile(hostSystem(), folder.file("data.emdb"), { rangeScans: which === "ordered index" });
    const { core } = opened.engine;
    core.becomeShared();
    const environment = { system: hostSystem(), defer: (): void => undefined, hasWorkers: false };
    const other = attachTo(environment, opened.base);
    const shown = removeUnder(opened, other.engine, (meanwhile) => {
      const keepFrom = core.keepFrom.bind(core);
      core.keepFrom = (): number => {
        const kept = keepFrom();
        // Of the batch's own: behind its publication.
        if (core.tail.end === core.visible) meanwhile();
        return kept;
      };
    });
    expect([
      ["full", "450"],
      ["empty", "0"],
    ]).toContainEqual(shown);
    other.leave();
    opened.leave();
  },
);
