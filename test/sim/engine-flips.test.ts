/**
 * Every single bit of a 64 KiB log, its header page, and its image, flipped: the right answer, or a typed error.
 *
 * The log is flushed again and again and closed in good order, so all of it was durable: a flip is damage, and never a
 * tail that may be cut off. EMDB_FLIP_STRIDE takes every so manieth bit.
 */

import { expect, test } from "bun:test";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { engineAdapter } from "./engine-adapter.ts";
import { FileBench } from "./file-bench.ts";
import { Machine } from "./machine.ts";
import { Random } from "./random.ts";
import type { OpenStore } from "./store.ts";

const TIMEOUT_MS = 1_200_000;
const LOG_BYTES = 65_536;
const STRIDE = Number(process.env["EMDB_FLIP_STRIDE"] ?? 1);

function readAll(system: ReturnType<Machine["boot"]>, path: string): Uint8Array {
  const handle = system.open(path, "read");
  const bytes = new Uint8Array(system.size(handle));
  system.read(handle, bytes, { position: 0, bytes: bytes.length });
  system.close(handle);
  return bytes;
}

/** Fills a store with some of everything until its log is about as long as it has to be. */
function fill(store: OpenStore, bytesNow: () => number): void {
  const random = new Random(11);
  for (let step = 0; bytesNow() < LOG_BYTES - 1800; step += 1) {
    const key = `key ${random.below(60)}`;
    const space = random.chance(0.2) ? "named" : "";
    const value = `${step}.`.repeat(random.below(random.chance(0.4) ? 20 : 240));
    const draw = random.below(10);
    if (draw === 0) store.remove({ space, key });
    else if (draw === 1) {
      const writes = Array.from({ length: 4 }, (_, index) => ({ space, key: `${key}${index}`, value, expiresAtMs: 0 }));
      store.batch(writes);
    } else store.insert({ space, key, value, expiresAtMs: random.chance(0.1) ? 4e12 : 0 });
    if (step % 4 === 3) store.flush();
  }
}

/** A log of 64 KiB and its image. */
function makeFiles(): { readonly log: Uint8Array; readonly image: Uint8Array } {
  const machine = new Machine({ seed: 5 });
  const system = machine.boot();
  const store = engineAdapter().open(system, "/db/store");
  let written = HEADER_PAGE_BYTES;
  const bytesNow = (): number => {
    // Space is reserved beyond the log's end, so the size alone does not tell.
    const bytes = readAll(system, "/db/store");
    while (written < bytes.length && bytes.subarray(written, written + 24).some((byte) => byte !== 0)) written += 24;
    return written;
  };
  fill(store, bytesNow);
  store.close();
  const files = { log: readAll(system, "/db/store"), image: readAll(system, "/db/store.hint") };
  system.kill();
  machine.dispose();
  return files;
}

const files = makeFiles();

/** Flips every bit of a part of a file; `judge` says what may come of it. */
function flipAll(
  bench: FileBench,
  { file, from, to }: { readonly file: "log" | "image"; readonly from: number; readonly to: number },
): Map<string, number> {
  const isLog = file === "log";
  const put = (): void => bench.put(files.log, isLog ? undefined : files.image);
  put();
  const right = bench.open();
  expect(right.code).toBeUndefined();
  const outcomes = new Map<string, number>();
  for (let bit = from * 8; bit < to * 8; bit += STRIDE) {
    const [at, mask] = [bit >> 3, 1 << (bit & 7)];
    if (bit % 4096 < STRIDE) put();
    bench.flip(file, at, mask);
    let look;
    try {
      look = bench.open();
    } catch (error) {
      throw new Error(`bit ${bit & 7} of byte ${at} of the ${file}: ${String(error)}`, { cause: error });
    }
    bench.flip(file, at, mask);
    if (look.code === undefined && look.shown !== right.shown) {
      throw new Error(`bit ${bit & 7} of byte ${at} of the ${file}: a wrong answer`);
    }
    const outcome = look.code ?? "right";
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  console.log(`${file} ${from}-${to}: ${JSON.stringify(Object.fromEntries(outcomes))}`);
  return outcomes;
}

test("the log that is flipped has 64 KiB, give or take its last frame", () => {
  expect(files.log.length).toBeGreaterThan(LOG_BYTES - 2500);
  expect(files.log.length).toBeLessThan(LOG_BYTES + 1000);
});

test(
  "with any bit of the header page flipped, the open is refused or shows what is there",
  () => {
    const bench = new FileBench({ isReadOnly: true });
    const outcomes = flipAll(bench, { file: "log", from: 0, to: HEADER_PAGE_BYTES });
    bench.dispose();
    const codes = new Set(["EMDB_CORRUPTED", "EMDB_NOT_A_DATABASE", "EMDB_VERSION", "right"]);
    expect([...outcomes.keys()].filter((code) => !codes.has(code))).toEqual([]);
  },
  TIMEOUT_MS,
);

test(
  "with any bit of the frames flipped, the log is damage, or shows what is there",
  () => {
    const bench = new FileBench({ isReadOnly: true });
    const outcomes = flipAll(bench, { file: "log", from: HEADER_PAGE_BYTES, to: files.log.length });
    bench.dispose();
    expect([...outcomes.keys()].filter((code) => code !== "EMDB_CORRUPTED" && code !== "right")).toEqual([]);
    // Only the mark at the very end proves nothing by itself.
    expect(outcomes.get("right") ?? 0).toBeLessThanOrEqual(24 * 8);
  },
  TIMEOUT_MS,
);

test(
  "with any bit of the image flipped, the open shows what is there",
  () => {
    const bench = new FileBench({ isReadOnly: true });
    const outcomes = flipAll(bench, { file: "image", from: 0, to: files.image.length });
    bench.dispose();
    expect([...outcomes.keys()]).toEqual(["right"]);
  },
  TIMEOUT_MS,
);
