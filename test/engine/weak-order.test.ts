/** What a core may see that loads and stores out of order (arm64): words of another thread older than others that were written after them. */

import { expect, test } from "bun:test";
import { Lookup } from "../../src/engine/lookup.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { LOG_WRITTEN, LogReader } from "../../src/log/log-words.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture } from "./engine-fixture.ts";

/** A reader that sees `written` as it was when it was told to, until its next barrier. */
class StaleReader extends LogReader {
  readonly #stale: { written: number | undefined };

  constructor({ numbers, flags }: LogReader["words"]) {
    const stale: { written: number | undefined } = { written: undefined };
    const seen = new Proxy(numbers, {
      get: (target, name): unknown =>
        name === String(LOG_WRITTEN) && stale.written !== undefined ? stale.written : Reflect.get(target, name, target),
    });
    super({ numbers: seen, flags });
    this.#stale = stale;
  }

  growStale(written: number): void {
    this.#stale.written = written;
  }

  override barrier(): void {
    this.#stale.written = undefined;
    super.barrier();
  }
}

test("a reader that sees the end of a long frame before it sees that it is in the file finds it all the same", () => {
  using folder = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine, sync } = fixture;
  const { core, defaultSpace: space } = engine;
  const key = "k";
  for (const value of ["before", "old value"]) engine.insert(space, key, value, 0);
  sync.spill();
  const written = core.control.log.numbers[LOG_WRITTEN]!;
  const began = core.visible;
  const found = (visible: number): string | undefined => {
    const reader = new StaleReader(core.control.log);
    const lookup = new Lookup(core.keydir, reader, core.key);
    // The second time it is what the reader has seen before: no reason for a barrier.
    reader.growStale(written);
    reader.mapEnd();
    reader.growStale(written);
    core.key.load(key);
    return lookup.findVisible(engine.spaces.root(space), visible) ? lookup.value().toString() : undefined;
  };
  const long = new Uint8Array(40_000).fill(7);
  engine.insert(space, key, long, 0);
  expect(found(began)).toBe(new TextEncoder().encode("old value").toString());
  expect(found(core.visible)).toBe(long.toString());
});
