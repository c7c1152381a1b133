/** Values in memory that another thread makes longer while they are written: as long as they were measured, whatever way they go. */

import { expect, test } from "bun:test";
import type { Opened } from "../../src/engine/assemble.ts";
import { openMemory } from "../../src/engine/open/open.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { CONFIG, openFile, type Config } from "./open-engine.ts";

const MIB = 1024 * 1024;
const LENGTHS = [0, 1, 100, 40_000, 2 * MIB];
const BYTES_MAX = 3 * MIB;
const key = (): Uint8Array => new Uint8Array(32).fill(7);

const CONFIGS: readonly (readonly [string, () => Partial<Config>])[] = [
  ["plain", () => ({})],
  ["aes-256-gcm", () => ({ encryption: { key: key() }, cipher: "aes-256-gcm" })],
  ["chacha20-poly1305", () => ({ encryption: { key: key() }, cipher: "chacha20-poly1305" })],
];

/** A value that views all of a shared buffer, and the other thread: it makes that longer once the frame has been measured. */
function growingValue({ engine }: Opened, bytes: number): { readonly value: Uint8Array; readonly end: () => void } {
  const buffer = new SharedArrayBuffer(bytes, { maxByteLength: BYTES_MAX });
  const { encoder } = engine.core;
  const measure = encoder.measure.bind(encoder);
  encoder.measure = (...frame) => {
    const measured = measure(...frame);
    if (buffer.byteLength < BYTES_MAX) buffer.grow(BYTES_MAX);
    return measured;
  };
  return { value: new Uint8Array(buffer).fill(5), end: () => void (encoder.measure = measure) };
}

/** Writes a growing value alone and in a batch, under a short key and a long one, and another record behind each. */
function writeAll(opened: Opened): void {
  const { engine } = opened;
  const space = engine.defaultSpace;
  for (const bytes of LENGTHS) {
    for (const name of ["", "long".repeat(10_000)]) {
      const { value, end } = growingValue(opened, bytes);
      engine.insert(space, `alone ${bytes} ${name}`, value, 0);
      expect(value.length).toBe(BYTES_MAX);
      end();
      const other = growingValue(opened, bytes);
      engine.insertMany(space, [`batch ${bytes} ${name}`, `behind ${bytes} ${name}`], [other.value, "behind"], 0);
      other.end();
    }
  }
}

async function expectAll(opened: Opened): Promise<void> {
  const { engine } = opened;
  const space = engine.defaultSpace;
  for (const bytes of LENGTHS) {
    for (const name of ["", "long".repeat(10_000)]) {
      for (const way of ["alone", "batch"]) {
        const value = engine.get(space, `${way} ${bytes} ${name}`);
        expect([way, bytes, value?.length, value?.every((byte) => byte === 5)]).toEqual([way, bytes, bytes, true]);
      }
      expect(engine.get(space, `behind ${bytes} ${name}`)).toEqual(new TextEncoder().encode("behind"));
    }
  }
  expect((await verifyDatabase(opened, {})).problems).toEqual([]);
}

test.each(CONFIGS)(
  "a shared value that grows while it is written to memory is the one measured (%s)",
  async (_, of) => {
    const defer = (work: () => void): void => void setImmediate(work);
    const opened = openMemory({ system: hostSystem(), defer, hasWorkers: false }, { ...CONFIG, ...of() });
    writeAll(opened);
    await expectAll(opened);
    opened.leave();
  },
);

test.each(CONFIGS)(
  "a shared value that grows while it is written to a file is the one measured (%s)",
  async (_, of) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const first = openFile(hostSystem(), path, of());
    writeAll(first);
    await expectAll(first);
    first.leave();
    const again = openFile(hostSystem(), path, of());
    await expectAll(again);
    again.leave();
  },
);

test("no code of the caller's runs between measuring a long value and writing it", () => {
  using folder = temporaryFolder();
  const opened = openFile(hostSystem(), folder.file("data.emdb"));
  const { engine } = opened;
  const value = new Uint8Array(40_000).fill(5);
  const { buffer } = value;
  Object.defineProperty(value, "buffer", { get: () => buffer.transfer() });
  engine.insert(engine.defaultSpace, "key", value, 0);
  expect(engine.get(engine.defaultSpace, "key")).toEqual(new Uint8Array(40_000).fill(5));
  opened.leave();
});
