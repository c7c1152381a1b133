/** A hundred thousand files of structured garbage are opened: nothing but EmdbError, in bounded memory and calls. */

import { expect, test } from "bun:test";
import { engineAdapter } from "./engine-adapter.ts";
import { FileBench } from "./file-bench.ts";
import { garbage, hasSoundHeader, type Files } from "./garbage.ts";
import { Machine } from "./machine.ts";
import { randomScript } from "./script.ts";
import { Driver } from "./driver.ts";
import { standardDraws } from "./draw.ts";

const COUNT = Number(process.env["EMDB_GARBAGE"] ?? 100_000);
const FIRST = Number(process.env["EMDB_GARBAGE_FIRST"] ?? 1);
const TIMEOUT_MS = 3_600_000;
const GROWTH_BYTES_MAX = 400 * 2 ** 20;

/** Logs and images as an engine leaves them, closed and crashed. */
function soundFiles(): Files[] {
  return Array.from({ length: 24 }, (_, seed) => {
    const machine = new Machine({ seed });
    const system = machine.boot();
    const driver = new Driver(engineAdapter(), { machine, system });
    driver.run(randomScript({ seed, length: 14, isWide: true }).map((step) => withoutLongValues(step)));
    const point = machine.capture();
    driver.end();
    machine.dispose();
    const after = Machine.restore(point, standardDraws({ seed, randomCount: 0 })[0]!, {});
    const reader = after.boot();
    const read = (path: string): Uint8Array => {
      const handle = reader.open(path, "read");
      if (handle < 0) return new Uint8Array(0);
      const bytes = new Uint8Array(reader.size(handle));
      reader.read(handle, bytes, { position: 0, bytes: bytes.length });
      return bytes;
    };
    const files = { log: read("/db/store"), image: read("/db/store.hint") };
    reader.kill();
    after.dispose();
    return { log: files.log, image: files.image.length === 0 ? undefined : files.image };
  });
}

function withoutLongValues<T extends { readonly kind: string }>(step: T): T {
  return step.kind === "insert"
    ? { ...step, bytes: Math.min((step as unknown as { bytes: number }).bytes, 200) }
    : step;
}

test.each([{ isReadOnly: false }, { isReadOnly: true }])(
  "garbage gives a database or a typed error, in bounded memory and calls: %o",
  ({ isReadOnly }) => {
    const sound = soundFiles();
    expect(sound.filter(({ image }) => image !== undefined).length).toBeGreaterThan(12);
    const bench = new FileBench({ isReadOnly });
    const outcomes = new Map<string, number>();
    let withHeader = 0;
    let withImage = 0;
    let rssBytes = 0;
    for (let index = 0; index < COUNT / 2; index += 1) {
      const seed = FIRST + index * 2 + (isReadOnly ? 1 : 0);
      const files = garbage(seed, sound);
      if (hasSoundHeader(files.log)) withHeader += 1;
      bench.put(files.log, files.image);
      let look;
      try {
        look = bench.open();
      } catch (error) {
        throw new Error(`garbage number ${seed}: ${String(error)}`, { cause: error });
      }
      const outcome = look.code === undefined ? "opens" : `${look.code}${look.isOpen ? " later" : ""}`;
      if (look.hasUsedImage) withImage += 1;
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      if (index === 2000) rssBytes = process.memoryUsage.rss();
    }
    bench.dispose();
    console.log(`${COUNT / 2} files, ${withImage} images believed: ${JSON.stringify(Object.fromEntries(outcomes))}`);
    // Garbage that never gets past the first page would prove little.
    expect(withHeader).toBeGreaterThan(COUNT / 4);
    expect(withImage).toBeGreaterThan(COUNT / 40);
    if (rssBytes > 0) expect(process.memoryUsage.rss() - rssBytes).toBeLessThan(GROWTH_BYTES_MAX);
  },
  TIMEOUT_MS,
);
