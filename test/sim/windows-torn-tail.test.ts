/**
 * A torn log that is opened for writing while another process reads it, where that keeps the file from being cut: the tail
 * is blanked, and at no crash in that is it taken for damage, or comes back.
 */

import { afterEach, expect, test } from "bun:test";
import { LOG_DURABLE, LOG_WRITTEN } from "../../src/log/log-words.ts";
import { COPIED_FRAME_BYTES_MAX } from "../../src/limits.ts";
import { openFile, type Config, type OpenedEngine } from "../engine/open-engine.ts";
import { standardDraws, type Draw } from "./draw.ts";
import { codeOf, errorText } from "./store.ts";
import { Machine, type CrashPoint, type MachineOptions } from "./machine.ts";

const PATH = "/db/store";
const KEPT = ["kept=before", "other=before"];
const PLAIN: Partial<Config> = {};
const WAYS: readonly [name: string, config: Partial<Config>][] = [
  ["plain", PLAIN],
  ["encrypted", { encryption: { key: new Uint8Array(32).fill(9) }, cipher: "aes-256-gcm" }],
];
const machines: Machine[] = [];

afterEach(() => {
  for (const machine of machines.splice(0)) machine.dispose();
});

function restore(point: CrashPoint, draw: Draw, changes: Partial<MachineOptions> = {}): Machine {
  const machine = Machine.restore(point, draw, changes);
  machines.push(machine);
  return machine;
}

/** The machine is not needed any more. */
function end(machine: Machine): void {
  machines.splice(machines.indexOf(machine), 1);
  machine.dispose();
}

function stateOf({ engine }: OpenedEngine): string[] {
  const text = new TextDecoder();
  const records = [...engine.snapshot(engine.defaultSpace)];
  return records.map(({ key, value }) => `${text.decode(key)}=${text.decode(value).slice(0, 10)}`).sort();
}

/** Two flushed records. */
function begin(config: Partial<Config>): { machine: Machine; opened: OpenedEngine } {
  const machine = new Machine({ isWindows: true });
  machines.push(machine);
  const opened = openFile(machine.boot(), PATH, config);
  for (const key of ["kept", "other"]) opened.engine.insert(opened.engine.defaultSpace, key, "before", 0);
  opened.sync!.flush();
  return { machine, opened };
}

/** What a death in the middle of writing a frame leaves. */
function tornFrame(config: Partial<Config>): CrashPoint {
  const { machine, opened } = begin(config);
  const { engine } = opened;
  engine.insert(engine.defaultSpace, "kept", "x".repeat(3000), 0);
  opened.sync!.spill();
  const bytes = machine.visibleBytes(PATH)!;
  const last = bytes.findLastIndex((byte) => byte !== 0);
  machine.inodeAt(PATH)!.write(last - 900, new Uint8Array(900));
  return machine.capture();
}

/**
 * What a death in a batch leaves that has reached the file without its end: its long frames, and those before each. Another
 * thread has flushed meanwhile, so the later ones know that the batch's beginning was durable.
 */
function tornBatch(config: Partial<Config>): CrashPoint {
  const { machine, opened } = begin(config);
  const { engine } = opened;
  const { system, control } = engine.core;
  const { numbers } = control.log;
  const write = system.write.bind(system);
  system.write = (file, from, span) => {
    system.sync(file);
    numbers[LOG_DURABLE] = numbers[LOG_WRITTEN]!;
    return write(file, from, span);
  };
  const keys = Array.from({ length: 30 }, (_, index) => (index === 2 ? "kept" : `key ${index}`));
  const long = "y".repeat(COPIED_FRAME_BYTES_MAX);
  engine.insertMany(
    engine.defaultSpace,
    keys,
    keys.map((_, index) => (index % 9 === 8 ? long : "x".repeat(100))),
    0,
  );
  system.write = write;
  return machine.capture();
}

/** Opens for writing beside a reader that stays; gives the crash points of that, and has the database go on. */
function openBesideReader(machine: Machine, config: Partial<Config>): { points: CrashPoint[]; tornBytes: number } {
  const reader = openFile(machine.boot({ processId: 1 }), PATH, { ...config, readOnly: true });
  expect(stateOf(reader)).toEqual(KEPT);
  const system = machine.boot({ processId: 2 });
  const points: CrashPoint[] = [];
  let lastChange = -1;
  system.onPoint = () => {
    if (machine.changeCount !== lastChange) points.push(machine.capture());
    lastChange = machine.changeCount;
  };
  const opened = openFile(system, PATH, config);
  points.push(machine.capture());
  system.onPoint = () => undefined;
  expect(stateOf(opened)).toEqual(KEPT);
  const { tornBytes } = opened.base.recovery;
  // As long as the first frame of the batch: what would be left behind it would follow.
  opened.engine.insert(opened.engine.defaultSpace, "key 0", "z".repeat(100), 0);
  opened.sync!.flush();
  const after = [...KEPT, "key 0=zzzzzzzzzz"].sort();
  const flushed = machine.capture();
  opened.leave();
  expect(stateOf(reader)).toEqual(KEPT);
  reader.leave();
  expect([system.held(), system.misuses]).toEqual([[], []]);
  for (const point of [flushed, machine.capture()]) {
    const again = restore(point, { kind: "none" });
    const reopened = openFile(again.boot(), PATH, config);
    expect([stateOf(reopened), reopened.base.recovery.tornBytes]).toEqual([after, 0]);
    reopened.leave();
    end(again);
  }
  return { points, tornBytes };
}

const TAILS = [
  ["frame", tornFrame],
  ["batch", tornBatch],
] as const;
const CASES = WAYS.flatMap(([way, config]) => TAILS.map(([tail, make]) => [tail, way, make, config] as const));

test.each(CASES)("a torn %s of a log (%s) is no obstacle while another process reads it", (_, _way, make, config) => {
  const point = make(config);
  const alone = restore(point, { kind: "kill" });
  const expected = openFile(alone.boot(), PATH, config).base.recovery.tornBytes;
  expect(expected).toBeGreaterThan(0);
  const machine = restore(point, { kind: "kill" });
  expect(openBesideReader(machine, config).tornBytes).toBe(expected);
});

/** Crashes at every point that is given, by every draw, and opens beside a reader; returns how many crashes left a torn tail. */
function crashAt(points: readonly CrashPoint[], config: Partial<Config>, randomCount: number): number {
  let tornCount = 0;
  for (const [index, point] of points.entries()) {
    for (const draw of standardDraws({ seed: index, randomCount })) {
      const crashed = restore(point, draw);
      if (openBesideReader(crashed, config).tornBytes > 0) tornCount += 1;
      end(crashed);
    }
  }
  return tornCount;
}

function pointsOfOpen(point: CrashPoint, draw: Draw, config: Partial<Config>): CrashPoint[] {
  const machine = restore(point, draw);
  const { points } = openBesideReader(machine, config);
  end(machine);
  return points;
}

/** Opens beside a reader while the call of a number fails; the code of the error, if there was such a call. */
function openWithFailure(point: CrashPoint, atCall: number): { code: string | undefined } | undefined {
  // A failed sync shows what the disk has: where it does not, nothing that was read afterwards is sure to last.
  const machine = restore(point, { kind: "kill" }, { syncFailure: "revert" });
  const reader = openFile(machine.boot({ processId: 1 }), PATH, { readOnly: true });
  const system = machine.boot({ processId: 2, faults: [{ atCall, errno: "EIO", repeat: "once" }] });
  let code: string | undefined;
  try {
    openFile(system, PATH);
  } catch (error) {
    code = codeOf(error) ?? errorText(error);
    expect([system.held(), system.misuses]).toEqual([[], []]);
  }
  const hasFailed = system.faults.firedCount > 0;
  reader.leave();
  system.kill();
  if (hasFailed) openBesideReader(machine, PLAIN);
  end(machine);
  return hasFailed ? { code } : undefined;
}

const TIMEOUT_MS = 300_000;

test.each(CASES)(
  "a crash anywhere in the blanking of a torn %s (%s) leaves a torn tail, never damage",
  (_, _way, make, config) => {
    const made = make(config);
    let tornCount = 0;
    for (const draw of standardDraws({ seed: 3, randomCount: 2 }))
      tornCount += crashAt(pointsOfOpen(made, draw, config), config, 5);
    expect(tornCount).toBeGreaterThan(0);
  },
  TIMEOUT_MS,
);

test(
  "a process that dies in the blanking leaves zeros that may not be on the disk, and the next one counts on none of them",
  () => {
    const first = pointsOfOpen(tornBatch(PLAIN), { kind: "kill" }, PLAIN);
    // The tail has several steps, each with a sync of its own.
    expect(first.length).toBeGreaterThan(8);
    for (const point of first) crashAt(pointsOfOpen(point, { kind: "kill" }, PLAIN), PLAIN, 3);
  },
  TIMEOUT_MS,
);

test("where a call of the blanking fails, so does the open, which holds nothing; the next one blanks the rest", () => {
  const point = tornBatch(PLAIN);
  const codes: (string | undefined)[] = [];
  for (let atCall = 0; ; atCall += 1) {
    const outcome = openWithFailure(point, atCall);
    if (outcome === undefined) break;
    codes.push(outcome.code);
  }
  // Of the blanking alone nine: a write and a sync for each of four steps, and a look at the size.
  expect(codes.filter((code) => code === "EMDB_IO").length).toBeGreaterThan(20);
});
