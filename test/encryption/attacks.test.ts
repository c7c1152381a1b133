/** Somebody with the file and without the secret: each attack has a result with a name, and none shows or forges a byte. */

import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { readFileSync } from "node:fs";
import { WritePath } from "../../src/engine/write/write-path.ts";
import { Emdb } from "../../src/index.ts";
import { fastFolder, LATER_MS, stateOf } from "../engine/fixture.ts";
import { emulator } from "../support/platform.ts";
import type { TemporaryFolder } from "../support/temporary-folder.ts";
import {
  Bait,
  FIRST,
  framesOf,
  placeAt,
  repair,
  repairSector,
  repairSlot,
  SECRET_TEXT,
  type Lying,
  type Verdict,
} from "./attack-fixture.ts";

const KEY = new Uint8Array(32).map((_, index) => index * 7 + 1);
const SECRET = { key: KEY };
const PASSPHRASE = { passphrase: "a passphrase that nobody guesses" };
const TIMEOUT_MS = 300_000;
/** An emulator takes twenty times as long for each of the thousands of opens. */
const STEP = emulator === undefined ? 1 : 97;

let folder: TemporaryFolder;
let bait: Bait;
/** Closed in good order after three sessions; its image; the state after each session, the newest last. */
let file: Uint8Array<ArrayBuffer>;
let hint: Uint8Array<ArrayBuffer>;
let states: string[];
/** The file as it was after each session. */
let copies: Uint8Array<ArrayBuffer>[];
let frames: Lying[];

const SESSIONS: readonly ((db: Emdb) => void)[] = [
  (db) => {
    db.insert("alpha", SECRET_TEXT);
    db.insert("gamma", SECRET_TEXT.replace("value", "other"));
    db.namespace("telltale namespace").insert("alpha", SECRET_TEXT, { expiresAtMs: LATER_MS });
  },
  (db) => {
    db.insertMany(["b1", "b2", "b3"].map((key): [string, string] => [key, SECRET_TEXT]));
    db.insert("alpha", SECRET_TEXT.toUpperCase());
  },
  (db) => {
    db.remove("b2");
    db.insert("omega", SECRET_TEXT);
  },
];

beforeAll(() => {
  folder = fastFolder();
  bait = new Bait(folder.file("bait.emdb"), [SECRET_TEXT, "telltale", KEY.toHex(), PASSPHRASE.passphrase]);
  const path = folder.file("made.emdb");
  states = [];
  copies = [];
  for (const session of SESSIONS) {
    using db = Emdb.open(path, { encryption: SECRET });
    session(db);
    states.push(stateOf(db));
    db.closeSync();
    copies.push(new Uint8Array(readFileSync(path)));
  }
  file = copies.at(-1)!;
  hint = new Uint8Array(readFileSync(`${path}.hint`));
  frames = framesOf(file);
});

afterAll(() => {
  folder[Symbol.dispose]();
});

/** A log with a batch, a record behind it, and a batch that failed when part of it was in the file. */
function withBatchTakenBack(): Uint8Array<ArrayBuffer> {
  const path = folder.file("taken-back.emdb");
  {
    using db = Emdb.open(path, { encryption: SECRET });
    db.insertMany(["b1", "b2", "b3"].map((key): [string, string] => [key, SECRET_TEXT]));
    db.insert("behind", SECRET_TEXT);
    // oxlint-disable-next-line typescript/unbound-method -- called with the object that it is taken from
    const { put } = WritePath.prototype;
    using failing = spyOn(WritePath.prototype, "put");
    failing.mockImplementation(function (this: WritePath, ...write: Parameters<WritePath["put"]>): void {
      if (failing.mock.calls.length === 3) throw new Error("given up");
      put.apply(this, write);
    });
    const batch: [string, Uint8Array][] = [10, 40_000, 10].map((bytes) => [`t${bytes}`, new Uint8Array(bytes)]);
    expect(() => db.insertMany(batch)).toThrow("given up");
  }
  return new Uint8Array(readFileSync(path));
}

/** What comes of a file that an attacker has changed a copy of. */
function attack(change: (copy: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> | void): Verdict {
  const copy = file.slice();
  return verdictOn(change(copy) ?? copy);
}

/** What comes of an open: for who only reads the same as for who writes. */
function verdictOn(changed: Uint8Array): Verdict {
  bait.lay(changed);
  const read = bait.open(SECRET, { readOnly: true });
  const verdict = bait.open(SECRET);
  expect(read).toEqual(verdict);
  if (verdict.kind === "error" && !bait.isUntouched(changed)) throw new Error("a refused file was changed");
  return verdict;
}

const corruptedAt = (offset: number): Verdict => ({ kind: "error", code: "EMDB_CORRUPTED", offset });

/** The frames before the mark of the last close. */
const beforeMark = (): Lying[] => frames.slice(0, -1);
const mark = (): Lying => frames.at(-1)!;

test("nothing of what was written stands in the file or its image", () => {
  for (const bytes of [file, hint]) {
    for (const text of [SECRET_TEXT, "telltale", "alpha", "omega"]) {
      expect(Buffer.from(bytes).includes(text)).toBe(false);
    }
    expect(Buffer.from(bytes).includes(Buffer.from(KEY))).toBe(false);
  }
  bait.lay(file, hint);
  expect(bait.open(SECRET)).toMatchObject({ kind: "open", state: states.at(-1), usedCheckpoint: true });
});

describe("one bit turned over", () => {
  test.each([["left as it is"], ["with the checksums put right"]])(
    "in any frame, %s, is EMDB_CORRUPTED there, or a torn tail if it is the last mark's",
    (how) => {
      for (const { lsn, body } of frames) {
        for (let bit = how === "left as it is" ? 0 : 64; bit < body * 8; bit += STEP) {
          const verdict = attack((copy) => {
            copy[lsn + (bit >> 3)]! ^= 1 << (bit & 7);
            if (how !== "left as it is") repair(copy, lsn);
          });
          if (lsn === mark().lsn) expect(verdict).toMatchObject({ kind: "open", state: states.at(-1) });
          else if (verdict.kind === "open" || verdict.code !== "EMDB_CORRUPTED" || verdict.offset !== lsn)
            throw new Error(`bit ${bit} of the frame at ${lsn}: ${JSON.stringify(verdict)}`);
        }
      }
    },
    TIMEOUT_MS,
  );
  test(
    "anywhere in the header page is an error with a name, or lies in the slot that is not used",
    () => {
      const codes = new Set<string>();
      for (let at = 0; at < FIRST; at += at < 1100 ? STEP : 7 * STEP) {
        const verdict = attack((copy) => void (copy[at]! ^= 1 << (at & 7)));
        // A slot half written by a crash counts for nothing beside a sound one.
        if (at >= 1024 && at < 1536) expect(verdict).toMatchObject({ kind: "open", state: states.at(-1) });
        else if (verdict.kind === "open") throw new Error(`byte ${at} of the header page was changed, and it opens`);
        else codes.add(verdict.code);
      }
      const known = ["EMDB_CORRUPTED", "EMDB_NOT_A_DATABASE", "EMDB_VERSION"];
      // In longer steps not each of them is met.
      if (emulator === undefined) expect([...codes].sort()).toEqual(known);
      else expect(known).toEqual(expect.arrayContaining([...codes]));
    },
    TIMEOUT_MS,
  );
  test(
    "anywhere in the image costs time and nothing else",
    () => {
      for (let at = 0; at < hint.length; at += at < 400 ? STEP : 61 * STEP) {
        const changed = hint.slice();
        changed[at]! ^= 1 << (at & 7);
        bait.lay(file, changed);
        expect(bait.open(SECRET)).toMatchObject({ kind: "open", state: states.at(-1), usedCheckpoint: false });
      }
    },
    TIMEOUT_MS,
  );
});

describe("frames moved", () => {
  const put = (copy: Uint8Array, from: Uint8Array, frame: Lying, lsn: number): void => {
    copy.set(from.subarray(frame.lsn, frame.lsn + frame.bytes), lsn);
    repair(copy, lsn);
  };
  test("two of them swapped are EMDB_CORRUPTED at the first", () => {
    let pairs = 0;
    for (const [index, one] of beforeMark().entries()) {
      for (const other of beforeMark().slice(index + 1)) {
        if (one.bytes !== other.bytes) continue;
        pairs += 1;
        const verdict = attack((copy) => {
          put(copy, file, other, one.lsn);
          put(copy, file, one, other.lsn);
        });
        expect(verdict).toEqual(corruptedAt(one.lsn));
      }
    }
    expect(pairs).toBeGreaterThan(3);
  });
  test("one written over another, of whatever namespace and session, is EMDB_CORRUPTED there", () => {
    for (const one of beforeMark()) {
      for (const other of beforeMark()) {
        if (one === other || one.bytes !== other.bytes) continue;
        expect(attack((copy) => put(copy, file, one, other.lsn))).toEqual(corruptedAt(other.lsn));
      }
    }
  });
  test("an old one put at the end again is a torn tail: nothing of it is taken", () => {
    for (const one of beforeMark()) {
      const verdict = attack((copy) => {
        const grown = new Uint8Array(mark().lsn + one.bytes);
        grown.set(copy.subarray(0, mark().lsn));
        put(grown, file, one, mark().lsn);
        return grown;
      });
      expect(verdict).toMatchObject({ kind: "open", state: states.at(-1) });
      if (verdict.kind === "open") expect(verdict.tornBytes).toBeGreaterThan(0);
    }
  });
  test("one from another file with the same key, at its own place, is EMDB_CORRUPTED there", () => {
    const path = folder.file("other.emdb");
    for (const session of SESSIONS) {
      using db = Emdb.open(path, { encryption: SECRET });
      session(db);
    }
    const other = new Uint8Array(readFileSync(path));
    expect(framesOf(other)).toEqual(frames);
    for (const frame of beforeMark()) {
      expect(attack((copy) => put(copy, other, frame, frame.lsn))).toEqual(corruptedAt(frame.lsn));
    }
    const verdict = attack((copy) => {
      copy.set(other.subarray(FIRST), FIRST);
      for (const { lsn } of frames) repair(copy, lsn);
    });
    expect(verdict).toEqual(corruptedAt(FIRST));
  });
  test("a batch dropped from the middle is EMDB_CORRUPTED where it stood, left empty or closed up", () => {
    const [first, last] = [frames[6]!, frames[8]!];
    const end = last.lsn + last.bytes;
    expect(attack((copy) => void copy.fill(0, first.lsn, end))).toEqual(corruptedAt(first.lsn));
    const verdict = attack((copy) => {
      const shorter = new Uint8Array(copy.length - (end - first.lsn));
      shorter.set(copy.subarray(0, first.lsn));
      shorter.set(copy.subarray(end), first.lsn);
      for (const { lsn } of framesOf(shorter)) repair(shorter, lsn);
      return shorter;
    });
    expect(verdict).toEqual(corruptedAt(first.lsn));
  });
  test("any of a batch at the end that does not open takes the batch with it", () => {
    const batch = frames.filter(({ lsn }) => placeAt(file, lsn) !== 0);
    expect(batch).toHaveLength(3);
    const end = batch.at(-1)!.lsn + batch.at(-1)!.bytes;
    for (const one of batch) {
      const verdict = attack((copy) => {
        copy[one.lsn + 40]! ^= 1;
        repair(copy, one.lsn);
        return copy.subarray(0, end);
      });
      expect(verdict).toMatchObject({ kind: "open", state: states[0] });
      expect(verdict.kind === "open" && verdict.tornBytes).toBeGreaterThan(0);
    }
  });
  test("a length that leads over all that follows to a batch that was taken back is EMDB_CORRUPTED", () => {
    const made = withBatchTakenBack();
    const lasts = framesOf(made).filter(({ lsn }) => placeAt(made, lsn) === 3);
    expect(lasts).toHaveLength(2);
    const target = lasts[1]!.lsn;
    let forged = 0;
    for (const { lsn } of framesOf(made)) {
      if (lsn >= lasts[0]!.lsn || placeAt(made, lsn) === 0) continue;
      const copy = made.slice();
      new DataView(copy.buffer).setUint32(lsn + 12, target - lsn - 24, true);
      repair(copy, lsn);
      expect(verdictOn(copy)).toEqual(corruptedAt(lsn));
      forged += 1;
    }
    expect(forged).toBe(2);
  });
  test("a session's frames under another session's salt are EMDB_CORRUPTED at that record", () => {
    const sessions = frames.filter(({ lsn }) => file[lsn + 8] === 10);
    // Two records for each.
    expect(sessions).toHaveLength(6);
    for (const one of sessions) {
      for (const other of sessions) {
        if (one === other) continue;
        const verdict = attack((copy) => {
          copy.set(file.subarray(other.lsn + 24, other.lsn + 88), one.lsn + 24);
          repair(copy, one.lsn);
        });
        expect(verdict).toEqual(corruptedAt(one.lsn));
      }
    }
  });
});

describe("what an older copy of the file allows", () => {
  test("the older copy, whole, is the older database: that cannot be told without an anchor outside", () => {
    bait.lay(copies[0]!);
    expect(bait.open(SECRET)).toMatchObject({ kind: "open", state: states[0] });
  });
  test("its last mark put back is EMDB_CORRUPTED while the later frames stand behind; cut there, it is the older database", () => {
    const older = framesOf(copies[1]!).at(-1)!;
    const put = (copy: Uint8Array): void => {
      copy.set(copies[1]!.subarray(older.lsn, older.lsn + older.bytes), older.lsn);
    };
    expect(attack(put)).toEqual(corruptedAt(older.lsn));
    const verdict = attack((copy) => {
      put(copy);
      return copy.slice(0, older.lsn + older.bytes);
    });
    expect(verdict).toMatchObject({ kind: "open", state: states[1] });
  });
  test("a log cut at the border of a batch opens with what is left, as after a crash", () => {
    const border = frames[9]!;
    const verdict = attack((copy) => copy.slice(0, border.lsn));
    expect(verdict).toMatchObject({ kind: "open" });
    if (verdict.kind === "open") expect(verdict.state).not.toBe(states.at(-1));
  });
  test("an image of another way that the log went is not used", () => {
    bait.lay(copies[0]!);
    const db = Emdb.open(bait.path, { encryption: SECRET });
    for (let index = 0; index < 20; index++) db.insert(`fork ${index}`, "another way");
    const state = stateOf(db);
    db.closeSync();
    const forked = new Uint8Array(readFileSync(bait.path));
    bait.lay(forked, hint);
    expect(bait.open(SECRET)).toMatchObject({ kind: "open", state, usedCheckpoint: false });
  });
});

describe("frames in the clear", () => {
  /** A sound frame of a plain log at a position: key k, value v. */
  function plainFrame(copy: Uint8Array, lsn: number): void {
    const view = new DataView(copy.buffer, copy.byteOffset);
    copy.fill(0, lsn, lsn + 32);
    view.setUint32(lsn + 8, 1 | (1 << 16), true);
    view.setUint32(lsn + 12, 1, true);
    copy.set([0x6b, 0x76], lsn + 24);
    repair(copy, lsn);
  }
  test("are EMDB_CORRUPTED with the best of checksums, at the end as in the middle", () => {
    for (const { lsn } of frames) expect(attack((copy) => plainFrame(copy, lsn))).toEqual(corruptedAt(lsn));
  });
  test("and sealed ones in a plain log too", () => {
    const verdict = attack((copy) => {
      copy[12] = 0;
      copy[48] = 0;
      copy.fill(0, 512, FIRST);
      repairSector(copy);
      for (const { lsn } of frames) repair(copy, lsn);
    });
    // With its secret it is a plain file that a secret was given for; without one it is damaged.
    expect(verdict).toEqual({ kind: "error", code: "EMDB_INVALID_CONFIG", offset: undefined });
    expect(bait.open(undefined)).toEqual(corruptedAt(FIRST));
  });
  test("the encrypted flag cleared, the slots left, is refused with the secret and without", () => {
    const verdict = attack((copy) => {
      copy[12] = 0;
      copy[48] = 0;
      repairSector(copy);
    });
    expect(verdict).toEqual({ kind: "error", code: "EMDB_INVALID_CONFIG", offset: undefined });
    expect(bait.open(undefined)).toEqual(corruptedAt(512));
  });
});

describe("key slots", () => {
  test("with the key check zeroed, or any of its fields changed, are EMDB_CORRUPTED, never another secret", () => {
    const fields: readonly (readonly [string, number, number])[] = [
      ["check", 56, 88],
      ["wrapped key", 88, 136],
      ["commitment", 136, 168],
      ["page MAC", 168, 200],
    ];
    for (const [, from, to] of fields) {
      const verdict = attack((copy) => {
        copy.fill(0, 512 + from, 512 + to);
        repairSlot(copy, 0);
      });
      expect(verdict).toEqual(corruptedAt(512));
    }
  });
  test("of another file with the same key are EMDB_CORRUPTED", () => {
    const path = folder.file("slots.emdb");
    Emdb.open(path, { encryption: SECRET }).closeSync();
    const other = readFileSync(path).subarray(512, 1024);
    expect(attack((copy) => void copy.set(other, 512))).toEqual(corruptedAt(512));
    const beside = attack((copy) => void copy.set(other, 1024));
    expect(beside).toMatchObject({ kind: "open", state: states.at(-1) });
  });
  test(
    "with absurd Argon2 parameters at either end are EMDB_CORRUPTED before any memory is taken",
    () => {
      const path = folder.file("stretched.emdb");
      Emdb.open(path, { encryption: PASSPHRASE }).closeSync();
      const stretched = new Uint8Array(readFileSync(path));
      const words: readonly (readonly [number, number])[] = [
        [8, 0],
        [8, 1],
        [8, 65_535],
        [8, 0xffffffff],
        [12, 0],
        [12, 1],
        [12, 0xffffffff],
        [16, 0],
        [16, 0xffffffff],
        [20, 0x10],
      ];
      for (const [at, value] of words) {
        const copy = stretched.slice();
        new DataView(copy.buffer).setUint32(512 + at, value, true);
        repairSlot(copy, 0);
        bait.lay(copy);
        expect(bait.open(PASSPHRASE)).toEqual(corruptedAt(512));
      }
      // Inside the bounds they make another key, as another passphrase would.
      new DataView(stretched.buffer).setUint32(512 + 12, 4, true);
      repairSlot(stretched, 0);
      bait.lay(stretched);
      expect(bait.open(PASSPHRASE)).toEqual({ kind: "error", code: "EMDB_KEY_MISMATCH", offset: undefined });
    },
    TIMEOUT_MS,
  );
});
