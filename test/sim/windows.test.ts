/** What differs where a mapped file can be neither cut nor replaced. */

import { expect, test } from "bun:test";
import { openFile } from "../../src/engine/open.ts";
import { ZERO_COPY_BYTES_MIN } from "../../src/limits.ts";
import { Machine } from "./machine.ts";
import type { SimulatedSystem } from "./system.ts";

const CONFIG = {
  defaultTtlMs: 0,
  rangeScans: false,
  flushPlan: { kind: "on-each-flush" },
  encryption: undefined,
  cipher: undefined,
  verifyReads: false,
  createIfMissing: true,
  readOnly: false,
} as const;

/** The views that were mapped while a long value was read without a copy, and what close then says. */
function readLongValue(isWindows: boolean): { views: number; close: string } {
  const machine = new Machine({ isWindows });
  const system: SimulatedSystem = machine.boot();
  const opened = openFile(
    { system, defer: () => undefined, hasWorkers: false },
    { path: "/db/store", createFolders: false, config: CONFIG },
  );
  const { engine } = opened;
  engine.insert(engine.defaultSpace, "long", new Uint8Array(ZERO_COPY_BYTES_MIN).fill(7), 0);
  opened.sync?.flush();
  expect(engine.getZeroCopy(engine.defaultSpace, "long")?.length).toBe(ZERO_COPY_BYTES_MIN);
  opened.leave();
  const result = {
    views: system.trace.calls.filter((call) => call.name === "mapView").length,
    close: system.held().join(),
  };
  machine.dispose();
  return result;
}

test("a long value is a view of the file, except where that would pin the file", () => {
  expect(readLongValue(false)).toEqual({ views: 1, close: "" });
  expect(readLongValue(true)).toEqual({ views: 0, close: "" });
});
