/** Every long call can be ended, however short its work is: by whoever called it, in the same turn, or from its first word. */

import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { Emdb, EmdbError } from "../../src/index.ts";
import type { EncryptionInput, OpenOptions, ProgressOptions } from "../../src/api/types.ts";
import { attachTo } from "../../src/engine/open/open.ts";
import type { SharedBase } from "../../src/engine/threads/base.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { fastFolder } from "../engine/fixture.ts";
import { turn } from "../support/turns.ts";

const KEY = { key: new Uint8Array(32).fill(1) };
const OTHER = { key: new Uint8Array(32).fill(2) };
/** What is compiled by then takes no time. */
const TIMES = 4;

interface Place {
  readonly path: string;
  readonly target: string;
}

interface Call {
  /** Undefined: the database is closed. */
  readonly isOpen: boolean;
  readonly encryption?: EncryptionInput;
  readonly run: (at: Place & { readonly db: Emdb }, options: ProgressOptions) => Promise<unknown>;
  /** What is there once it has been done. */
  readonly hasTarget?: true;
}

const calls: Readonly<Record<string, Call>> = {
  compact: { isOpen: true, run: ({ db }, options) => db.compact(options) },
  "compact, encrypted": { isOpen: true, encryption: KEY, run: ({ db }, options) => db.compact(options) },
  backupTo: { isOpen: true, run: ({ db, target }, options) => db.backupTo(target, options), hasTarget: true },
  verify: { isOpen: true, run: ({ db }, options) => db.verify(options) },
  salvage: { isOpen: false, run: ({ path, target }, options) => Emdb.salvage(path, target, options), hasTarget: true },
  enableEncryption: { isOpen: false, run: ({ path }, options) => Emdb.enableEncryption(path, KEY, options) },
  disableEncryption: {
    isOpen: false,
    encryption: KEY,
    run: ({ path }, options) => Emdb.disableEncryption(path, KEY, options),
  },
  rotateEncryptionKey: {
    isOpen: false,
    encryption: KEY,
    run: ({ path }, options) => Emdb.rotateEncryptionKey(path, KEY, OTHER, options),
  },
};

/** A few records, each written twice. */
function fill(db: Emdb): void {
  for (let round = 0; round < 2; round++) for (let index = 0; index < 10; index++) db.insert(`key ${index}`, "value");
  db.flushSync();
}

describe.each(Object.keys(calls))("%s", (name) => {
  const { isOpen, encryption, run, hasTarget } = calls[name]!;
  const options: OpenOptions = encryption === undefined ? {} : { encryption };

  /** Calls it on a database of its own; returns what came of it, and whether all is as before. */
  async function tried(progress: (at: Place) => ProgressOptions, after: () => void = () => undefined) {
    using folder = fastFolder();
    const at = { path: folder.file("data.emdb"), target: folder.file("target.emdb") };
    using db = Emdb.open(at.path, options);
    fill(db);
    // What is owed to the file behind a flush is written in the next turn.
    await turn();
    if (!isOpen) db.closeSync();
    const before = [readdirSync(folder.path).sort(), readFileSync(at.path)] as const;
    const doing = run({ ...at, db }, progress(at));
    after();
    const code = await doing.then(
      () => "fine",
      (error: unknown) => (error instanceof EmdbError ? error.code : String(error)),
    );
    const isAsBefore =
      Bun.deepEquals(readdirSync(folder.path).sort(), before[0]) && readFileSync(at.path).equals(before[1]);
    return { code, isAsBefore };
  }

  test("that is aborted right behind the call leaves all as it was", async () => {
    for (let time = 0; time < TIMES; time++) {
      const control = new AbortController();
      const { code, isAsBefore } = await tried(
        () => ({ signal: control.signal }),
        () => control.abort(),
      );
      expect([code, isAsBefore]).toEqual(["EMDB_ABORTED", true]);
    }
  });
  test("that is aborted when it tells of itself for the first time leaves all as it was", async () => {
    for (let time = 0; time < TIMES; time++) {
      const control = new AbortController();
      const told: number[] = [];
      const onProgress: ProgressOptions["onProgress"] = ({ done, total }) => {
        told.push(done / total);
        control.abort();
      };
      const { code, isAsBefore } = await tried(() => ({ signal: control.signal, onProgress }));
      expect([code, isAsBefore, told]).toEqual(["EMDB_ABORTED", true, [0]]);
    }
  });
  test("goes from nothing to all, and what it makes is there at the last word", async () => {
    for (let time = 0; time < TIMES; time++) {
      const told: number[] = [];
      let isThere: boolean | undefined;
      const { code } = await tried(({ target }) => ({
        onProgress: ({ done, total }) => {
          told.push(done / total);
          isThere = existsSync(target);
        },
      }));
      expect(code).toBe("fine");
      expect([told[0], told.at(-1), told.toSorted((a, b) => a - b)]).toEqual([0, 1, told]);
      expect(told.filter((part) => part === 1)).toEqual([1]);
      expect(isThere).toBe(hasTarget === true);
    }
  });
});

test.each(["compact", "backupTo", "verify"])(
  "%s whose signal closes the database keeps no other thread from such work",
  async (name) => {
    let hasClosed = true;
    for (let asks = 1; hasClosed && asks < 100; asks++) {
      using folder = fastFolder();
      const at = { path: folder.file("data.emdb"), target: folder.file("target.emdb") };
      using db = Emdb.open(at.path);
      fill(db);
      const base = db.share() as unknown as SharedBase;
      const other = attachTo(
        { system: hostSystem(), defer: (work) => void setImmediate(work), hasWorkers: false },
        base,
      );
      const { signal } = new AbortController();
      let asked = 0;
      hasClosed = false;
      Object.defineProperty(signal, "aborted", {
        get: () => {
          hasClosed ||= ++asked === asks;
          if (asked === asks) db.closeSync();
          return false;
        },
      });
      const code = await calls[name]!.run({ ...at, db }, { signal }).then(
        () => "fine",
        (error: unknown) => (error instanceof EmdbError ? error.code : String(error)),
      );
      expect(["fine", "EMDB_CLOSED"]).toContain(code);
      expect(other.work.tryTake()).toBe(true);
      other.work.give();
      expect(other.engine.count(other.engine.defaultSpace)).toBe(10);
      other.leave();
    }
    expect(hasClosed).toBe(false);
  },
);
