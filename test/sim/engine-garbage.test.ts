/** A hundred thousand files of structured garbage are opened: nothing but EmdbError, in bounded memory and calls. */

import { expect, test } from "bun:test";
import { FileBench } from "./file-bench.ts";
import { garbage, hasSoundHeader, soundFiles } from "./garbage.ts";

const COUNT = Number(process.env["EMDB_GARBAGE"] ?? 100_000);
const FIRST = Number(process.env["EMDB_GARBAGE_FIRST"] ?? 1);
const TIMEOUT_MS = 3_600_000;
const GROWTH_BYTES_MAX = 400 * 2 ** 20;

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
