/**
 * Helpers that open frames ahead of a replay: with them an open finds what it finds without them, whether they come in time,
 * never, die at a piece, or write nonsense; and one that comes in time leaves next to nothing to do.
 */

import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { FrameSealer } from "../../src/crypto/frame-sealer.ts";
import { systemCipher } from "../../src/crypto/system-aead.ts";
import { AHEAD_BYTES_MIN, startHelper, type StartHelper } from "../../src/engine/sealed/open-ahead.ts";
import { libcryptoCalls } from "../../src/ffi/libcrypto.ts";
import { faulty } from "../engine/engine-fixture.ts";
import { fastFolder } from "../engine/fixture.ts";
import { childCommand } from "../support/platform.ts";
import { framesOf, repair, type Lying } from "./attack-fixture.ts";
import { awaitHelper, helped, openAt, slotsIn, writeLog, type Found, type Opening } from "./open-ahead-fixture.ts";
import { KEY } from "./rekey-fixture.ts";

const folder = fastFolder();
const path = folder.file("data.emdb");
let file: Uint8Array;
let frames: Lying[];

beforeAll(() => {
  writeLog(path);
  file = new Uint8Array(readFileSync(path));
  frames = framesOf(file);
  expect(file.length).toBeGreaterThan(AHEAD_BYTES_MIN * 1.05);
}, 120_000);
afterAll(() => folder[Symbol.dispose]());

const open = (opening: Partial<Opening>): Found => openAt(path, { bytes: file, ...opening });

/** What an open by one thread finds in the log, and how many frames it opens by itself; once for all tests. */
const aloneFound = new Map<boolean, { readonly found: Found; readonly opens: number }>();

function openedAlone(readOnly = false): { readonly found: Found; readonly opens: number } {
  let known = aloneFound.get(readOnly);
  if (known !== undefined) return known;
  const found = open({ readOnly });
  const opens = opensOf(() => expect(open({ readOnly })).toEqual(found));
  known = { found, opens };
  aloneFound.set(readOnly, known);
  return known;
}

/** How many frames this thread opens by itself meanwhile. */
function opensOf(work: () => void): number {
  const spy = spyOn(FrameSealer.prototype, "openInto");
  try {
    work();
    return spy.mock.calls.length;
  } finally {
    spy.mockRestore();
  }
}

/** How a helper is started: with what the system has, or left with what the runtime has. */
const STARTS: Readonly<Record<string, StartHelper>> = {
  "as it is": startHelper,
  "without a library": (orders) => startHelper({ ...orders, library: undefined }),
  "with a library that is not there": (orders) =>
    startHelper({
      ...orders,
      library: { path: join(folder.path, "none"), cipher: "AES-256-GCM", calls: libcryptoCalls },
    }),
};
const starts = Object.entries(STARTS).flatMap(([name, start]) =>
  [false, true].map((readOnly) => [name, readOnly, start] as const),
);

describe.each(starts)("started %s, read-only %p:", (_, readOnly, start) => {
  test("a helper that comes in time leaves next to nothing to do, and all is found", () => {
    const { found: plain, opens } = openedAlone(readOnly);
    expect(plain).toMatchObject({ tornBytes: 0 });
    const { environment } = helped(start, awaitHelper);
    const together = opensOf(() => expect(open({ readOnly, environment })).toEqual(plain));
    // The walk over what was found opens each record once more.
    const walked = opens - frames.length;
    expect(together - walked).toBeLessThan(frames.length / 4);
  }, 120_000);
});

test("so it is with the other cipher where the system has it; where it has not, no helper is asked", () => {
  const other = folder.file("chacha.emdb");
  writeLog(other, "chacha20-poly1305");
  const bytes = new Uint8Array(readFileSync(other));
  const plain = openAt(other, { bytes });
  expect(plain).toMatchObject({ tornBytes: 0 });
  const alone = opensOf(() => expect(openAt(other, { bytes })).toEqual(plain));
  let started = 0;
  const { environment } = helped((orders) => {
    started += 1;
    startHelper(orders);
  }, awaitHelper);
  const together = opensOf(() => expect(openAt(other, { bytes, environment })).toEqual(plain));
  const has = systemCipher("chacha20-poly1305") !== undefined;
  expect(started).toBe(has ? 1 : 0);
  if (has) expect(together - (alone - framesOf(bytes).length)).toBeLessThan(framesOf(bytes).length / 4);
}, 120_000);

test("frames that a helper never gets to are opened by the replay", () => {
  const { environment, pieces } = helped(
    () => undefined,
    () => undefined,
  );
  expect(open({ environment })).toEqual(openedAlone().found);
  expect(pieces()).toBeGreaterThan(20);
}, 120_000);

/** Says that a helper is at pieces that are offered, and lets it never end. */
function die(pieces: number): ReturnType<typeof helped> {
  let left = pieces;
  return helped(
    () => undefined,
    (told) => {
      const words = new Int32Array(told.buffer);
      for (const word of slotsIn(told, told.layout.filled))
        if (left-- > 0) Atomics.store(words, word, told.layout.taken);
    },
  );
}

test("of a helper that dies at a piece the replay does not wait for long, and others go on", () => {
  const { environment, pieces } = die(2);
  expect(open({ environment })).toEqual(openedAlone().found);
  expect(pieces()).toBeGreaterThan(20);
}, 120_000);

test("where nobody comes to an end, the replay takes its leave, and goes on alone", () => {
  const wait = spyOn(Atomics, "wait");
  try {
    const { environment, pieces, orders } = die(Infinity);
    expect(open({ environment })).toEqual(openedAlone().found);
    expect(pieces()).toBeLessThanOrEqual(orders().layout.slots);
    expect(wait.mock.calls.length).toBe(5);
  } finally {
    wait.mockRestore();
  }
}, 120_000);

test("where no Worker can be had, the replay opens all by itself", () => {
  const RealWorker = globalThis.Worker;
  globalThis.Worker = function refuse() {
    throw new Error("no code from strings");
  } as unknown as typeof Worker;
  try {
    const { environment, orders } = helped(startHelper, () => undefined);
    expect(open({ environment })).toEqual(openedAlone().found);
    expect(orders()).toBeDefined();
  } finally {
    globalThis.Worker = RealWorker;
  }
}, 120_000);

/** Says of each piece that is offered that it was opened, after `spoil` has made of it what it likes. */
function lie(spoil: (piece: { data: Uint8Array; starts: Uint32Array }) => number): ReturnType<typeof helped> {
  return helped(
    () => undefined,
    ({ buffer, layout }) => {
      const words = new Int32Array(buffer);
      for (const word of slotsIn({ buffer, layout }, layout.filled)) {
        const head = (word - layout.wordState) * 4;
        const starts = new Uint32Array(buffer, head + layout.startsAt, (layout.dataAt - layout.startsAt) / 4);
        const data = new Uint8Array(buffer, head + layout.dataAt, words[head / 4 + layout.wordBytes]);
        words[head / 4 + layout.wordOpened] = spoil({ data, starts });
        Atomics.store(words, word, layout.opened);
      }
    },
  );
}

/** Where frames begin in a piece. */
function startsIn(data: Uint8Array): number[] {
  const whole = new Uint8Array(4096 + data.length);
  whole.set(data, 4096);
  return framesOf(whole).map(({ lsn }) => lsn - 4096);
}

describe("nothing is taken from a helper that", () => {
  const liars: Record<string, (piece: { data: Uint8Array; starts: Uint32Array }) => number> = {
    "opens what begins elsewhere": ({ data, starts }) => {
      const places = startsIn(data).map((at) => at + 8);
      for (const at of places) data.fill(0, at + 24, at + 32);
      starts.set(places);
      return places.length;
    },
    "opens frames with other headers": ({ data, starts }) => {
      const places = startsIn(data);
      for (const at of places) data[at] = ~data[at]!;
      starts.set(places);
      return places.length;
    },
    "opens frames with other counters": ({ data, starts }) => {
      const places = startsIn(data);
      for (const at of places) data[at + 27] = ~data[at + 27]!;
      starts.set(places);
      return places.length;
    },
    "opens frames with other tags": ({ data, starts }) => {
      const places = startsIn(data);
      for (const [index, at] of places.entries()) {
        const end = places[index + 1] ?? data.length;
        for (let byte = end - 23; byte < end - 7; byte++) data[byte] = ~data[byte]!;
        data[at + 28] = 255;
      }
      starts.set(places);
      return places.length;
    },
    "has opened more than there can be": ({ starts }) => {
      starts.fill(0xffff_fff8);
      return 0xffff_ffff | 0;
    },
    "has opened nothing": () => 0,
  };
  test.each(Object.keys(liars))(
    "%s",
    (name) => {
      const { environment, pieces } = lie(liars[name]!);
      expect(open({ environment })).toEqual(openedAlone().found);
      expect(pieces()).toBeGreaterThan(20);
    },
    120_000,
  );
});

describe("what is wrong with a log is found as without helpers:", () => {
  const changed = (change: (bytes: Uint8Array) => void): Uint8Array => {
    const bytes = file.slice();
    change(bytes);
    return bytes;
  };
  /** A frame in the middle of a piece in the middle of the second session. */
  const victim = (): Lying => frames[Math.floor(frames.length / 2)]!;
  const harms: Record<string, () => Uint8Array> = {
    "a changed tag": () =>
      changed((bytes) => {
        bytes[victim().lsn + victim().body - 1]! ^= 1;
        repair(bytes, victim().lsn);
      }),
    "a changed text": () =>
      changed((bytes) => {
        bytes[victim().lsn + 40]! ^= 1;
        repair(bytes, victim().lsn);
      }),
    "a changed byte in the clear": () =>
      changed((bytes) => {
        bytes[victim().lsn + 20]! ^= 1;
        repair(bytes, victim().lsn);
      }),
    "a bad check": () => changed((bytes) => void (bytes[victim().lsn + 60]! ^= 1)),
    "a hole": () => changed((bytes) => bytes.fill(0, victim().lsn, victim().lsn + 4096)),
    "a length that leads elsewhere": () =>
      changed((bytes) => void (bytes[victim().lsn + 12] = bytes[victim().lsn + 12]! ^ 8)),
    // What is sealed may end in a zero, of which nobody could tell that it was written.
    "a torn end": () => {
      const bytes = file.slice(0, frames.at(-3)!.lsn + 100);
      bytes[bytes.length - 1] = 1;
      return bytes;
    },
    "a session record that was changed": () =>
      changed((bytes) => {
        const sessions = frames.filter(({ lsn }) => (bytes[lsn + 8]! & 15) === 10);
        for (const { lsn } of sessions.slice(2, 4)) {
          bytes[lsn + 30]! ^= 1;
          repair(bytes, lsn);
        }
      }),
  };
  test.each(Object.keys(harms))(
    "%s",
    (name) => {
      const bytes = harms[name]!();
      const without = open({ bytes });
      if (name === "a torn end") expect(without).toMatchObject({ tornBytes: 100 });
      else expect(without).toMatchObject({ code: "EMDB_CORRUPTED" });
      expect(open({ bytes, environment: helped(startHelper, awaitHelper).environment })).toEqual(without);
    },
    120_000,
  );

  test("a piece that cannot be read ahead", () => {
    const failing = helped(startHelper, awaitHelper);
    let reads = 0;
    const system = faulty(failing.environment.system!, (call, [, into]) => {
      const isAhead = call === "read" && (into as Uint8Array).buffer instanceof SharedArrayBuffer;
      return isAhead && ++reads > 12 ? -5 : undefined;
    });
    expect(open({ environment: { ...failing.environment, system } })).toEqual(openedAlone().found);
    // What cannot be read is tried again, ever more rarely.
    expect(reads).toBeLessThan(30);
  }, 120_000);
});

test("once it is open, nothing of keys and records is left in the shared block", () => {
  const { environment, orders } = helped(
    () => undefined,
    () => undefined,
  );
  open({ environment });
  const { buffer, layout } = orders();
  expect(new Uint8Array(buffer, layout.slotsAt).every((byte) => byte === 0)).toBe(true);
}, 120_000);

test("a process that has opened a long log ends when its work is done", () => {
  open({});
  rmSync(`${path}.hint`, { force: true });
  const source = join(import.meta.dir, "../../src/index.ts");
  const program = `import { Emdb } from ${JSON.stringify(source)};
    for (let turn = 0; turn < 2; turn++) {
      const db = Emdb.open(${JSON.stringify(path)}, { readOnly: true, encryption: { key: new Uint8Array(${JSON.stringify([...KEY])}) } });
      console.log(db.getText("late 1")?.length, db.recovery.usedCheckpoint);
      db.closeSync();
    }`;
  const child = Bun.spawnSync([...childCommand(), "-e", program]);
  expect(child.stdout.toString()).toBe(`737 false\n737 false\n`);
  expect(child.exitCode).toBe(0);
}, 120_000);

test.skipIf(process.platform !== "linux").each([1, 2, 6])(
  "with %i descriptors to spare a long log is opened and a flush comes to its end, without helpers",
  (spare) => {
    open({});
    rmSync(`${path}.hint`, { force: true });
    const source = join(import.meta.dir, "../../src/index.ts");
    const program = `import { closeSync, openSync } from "node:fs";
      import { Emdb } from ${JSON.stringify(source)};
      const secret = { encryption: { key: new Uint8Array(${JSON.stringify([...KEY])}) } };
      Emdb.openInMemory(secret).closeSync();
      const db = Emdb.open(${JSON.stringify(`${path}.other`)});
      const held = [];
      try { for (;;) held.push(openSync("/dev/null")); } catch {}
      for (let spare = 0; spare < ${spare}; spare += 1) closeSync(held.pop());
      const long = Emdb.open(${JSON.stringify(path)}, { readOnly: true, ...secret });
      console.log(long.getText("late 1")?.length);
      long.closeSync();
      db.insert("key", "value");
      await db.flush();
      for (const file of held) closeSync(file);
      db.closeSync();
      console.log("closed");`;
    const child = Bun.spawnSync(["sh", "-c", `ulimit -n 64; exec "$0" "$@"`, ...childCommand(), "-e", program]);
    expect(child.stderr.toString()).toBe("");
    expect(child.stdout.toString()).toBe("737\nclosed\n");
  },
  120_000,
);
