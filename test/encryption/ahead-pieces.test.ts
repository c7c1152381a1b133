/** When pieces of a log are read ahead for helpers and when not, and how the replay waits for a piece. */

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { FrameSealer } from "../../src/crypto/frame-sealer.ts";
import { SecretKey } from "../../src/crypto/secret.ts";
import { AheadBlock } from "../../src/engine/sealed/ahead-block.ts";
import { AHEAD_BYTES_MIN, type AheadHelpers } from "../../src/engine/sealed/open-ahead.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { Emdb } from "../../src/index.ts";
import { faulty } from "../engine/engine-fixture.ts";
import { fastFolder } from "../engine/fixture.ts";
import { emulator } from "../support/platform.ts";
import { SECRET, keyOf, openAt, valueOf } from "./open-ahead-fixture.ts";

/** Opens a log with helpers that never come; how much was read ahead for them, and how many were started. */
function readAhead(path: string): { readonly ahead: number; readonly started: number } {
  const bytes = new Uint8Array(readFileSync(path));
  const outcome = { ahead: 0, started: 0 };
  const helpers: AheadHelpers = { count: 2, start: () => void (outcome.started += 1) };
  const system = faulty(hostSystem(), (call, [, into, span]) => {
    if (call === "read" && (into as Uint8Array).buffer instanceof SharedArrayBuffer)
      outcome.ahead += (span as { readonly bytes: number }).bytes;
    return undefined;
  });
  expect(openAt(path, { bytes, environment: { system, helpers } })).toEqual(openAt(path, { bytes }));
  return outcome;
}

describe("a log that helpers gain nothing for", () => {
  const longer = AHEAD_BYTES_MIN * 1.5;

  test.each([300_000, 60_000])(
    "of values of %i bytes is hardly read ahead, and starts none",
    (valueBytes) => {
      using place = fastFolder();
      const at = place.file("data.emdb");
      {
        using db = Emdb.open(at, SECRET);
        for (let index = 0; index * valueBytes < longer; index++) db.insert(keyOf(index), new Uint8Array(valueBytes));
      }
      const { ahead, started } = readAhead(at);
      expect(started).toBe(0);
      expect(ahead).toBeLessThan(longer / 20);
    },
    120_000,
  );

  test("of many short sessions is not read ahead behind them", () => {
    using place = fastFolder();
    const at = place.file("data.emdb");
    const sessions = emulator === undefined ? 300 : 100;
    for (let session = 0; session < sessions; session++) {
      using db = Emdb.open(at, SECRET);
      for (let index = 0; index < 40; index++) db.insert(`${session} ${index}`, new Uint8Array(longer / sessions / 40));
    }
    expect(readAhead(at).ahead).toBeLessThan(longer * 3);
  }, 120_000);
});

test("where short values follow long ones, helpers are started after all", () => {
  using place = fastFolder();
  const at = place.file("data.emdb");
  {
    using db = Emdb.open(at, SECRET);
    for (let index = 0; index < 100; index++) db.insert(`long ${index}`, new Uint8Array(100_000));
    for (let index = 0; index < 5000; index++) db.insert(keyOf(index), valueOf(index));
  }
  expect(readAhead(at).started).toBe(2);
}, 120_000);

test("a helper that is late to tell of an earlier piece ends no wait for this one", async () => {
  const block = new AheadBlock(1);
  const [slot] = block.slots;
  const key = new SecretKey(new Uint8Array(new ArrayBuffer(32)));
  const sealer = new FrameSealer({
    cipher: "aes-256-gcm",
    key,
    fileId: new Uint8Array(16),
    generation: 1,
    clearBytes: 16,
  });
  slot!.offer({ start: 4096, bytes: 64 }, sealer);
  const { layout, buffer } = block.orders(0, undefined);
  const words = new Int32Array(buffer);
  const word = layout.slotsAt / 4 + layout.wordState;
  Atomics.store(words, word, layout.taken);
  // It wakes whoever waits a few times for nothing, and then for the end.
  const program = `self.onmessage = ({ data: { words, word, opened } }) => {
    postMessage("ready");
    for (let woken = 0; woken < 3;) woken += Atomics.notify(words, word);
    Atomics.store(words, word, opened);
    Atomics.notify(words, word);
  };`;
  const late = new Worker(URL.createObjectURL(new Blob([program], { type: "text/javascript" })));
  const ready = new Promise((resolve) => (late.onmessage = resolve));
  late.postMessage({ words, word, opened: layout.opened });
  await ready;
  expect(slot!.arrive()).toBe("taken");
  expect(slot!.wait(60_000)).toBe(true);
  expect(Atomics.load(words, word)).toBe(layout.opened);
  late.terminate();
}, 120_000);
