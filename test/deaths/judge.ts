/** What a thread shows of its database, and what is wrong with that: gets, walks, ranges, counts and indexes against each other. */

import type { Opened } from "../../src/engine/assemble.ts";
import { recount } from "../../src/engine/threads/audit.ts";
import { AUDIT, LONG_WORK, MUTEX } from "../../src/engine/threads/control.ts";
import type { SpaceState } from "../../src/engine/spaces.ts";
import type { StoreRecord } from "../sim/store.ts";
import { indexFaults } from "../support/index-faults.ts";
import { orderingFaults } from "../support/ordering-faults.ts";
import { Found, type DyingProcess } from "./process.ts";

const TEXT = new TextDecoder();
/** Keys that are asked for whether they are there or not. */
const ASKED = 30;

export function spaceOf({ engine }: Opened, name: string): SpaceState {
  return name === "" ? engine.defaultSpace : engine.findSpace(name)!;
}

export function recordsOf(opened: Opened): StoreRecord[] {
  const { engine } = opened;
  return ["", ...engine.spaceNames()].flatMap((space) =>
    [...engine.snapshot(spaceOf(opened, space))].map(({ key, value, expiresAtMs }) => {
      return { space, key: TEXT.decode(key), value: TEXT.decode(value), expiresAtMs };
    }),
  );
}

/** A record as one text, without its key space. */
export function pairText({ key, value }: { readonly key: Uint8Array; readonly value: Uint8Array }): string {
  return `${TEXT.decode(key)}=${TEXT.decode(value)}`;
}

/** Whether nobody is at a change, and none was left half done. */
export function isSettled({ engine }: Opened): boolean {
  const { core } = engine;
  const { flags } = core.control;
  return core.tail.end === core.visible && flags[AUDIT] === 0 && flags[MUTEX] === 0;
}

/** Whether somebody who lives compacts, backs up or checks. */
export function isWorkTaken(opened: Opened, living: DyingProcess["living"]): boolean {
  const holder = opened.engine.core.control.flags[LONG_WORK]!;
  return holder !== 0 && living.some((other) => other.opened.engine.core.row + 1 === holder);
}

/** Holds what a thread shows against itself. @throws {Found} */
export function checkEngine(opened: Opened, records: readonly StoreRecord[]): void {
  const { engine } = opened;
  for (const { space, key, value, expiresAtMs } of records) {
    const state = spaceOf(opened, space);
    const got = engine.get(state, key);
    if (got === undefined || TEXT.decode(got) !== value)
      throw new Found(`get of ${space}/${key} disagrees with the walk`);
    if (engine.expiresAt(state, key) !== expiresAtMs) throw new Found(`the deadline of ${space}/${key} is another one`);
  }
  for (const name of ["", ...engine.spaceNames()]) {
    const own = records.filter(({ space }) => space === name);
    const keys = new Set(own.map(({ key }) => key));
    for (let index = 0; index < ASKED; index += 1) {
      const key = `k${index}`;
      if (engine.has(spaceOf(opened, name), key) !== keys.has(key)) throw new Found(`has of ${name}/${key} is wrong`);
    }
    if (engine.hasRangeScans) checkRanges(opened, name, own);
  }
  if (isSettled(opened)) checkIndexes(opened);
}

function checkRanges(opened: Opened, name: string, own: readonly StoreRecord[]): void {
  const wanted = own.map(({ key, value }) => ({ key, text: `${key}=${value}` }));
  wanted.sort((one, other) => (one.key < other.key ? -1 : 1));
  for (const isReverse of [false, true]) {
    const ranged = [...opened.engine.range(spaceOf(opened, name), { isReverse })].map(pairText);
    if (isReverse) ranged.reverse();
    const texts = wanted.map(({ text }) => text);
    if (!Bun.deepEquals(ranged, texts))
      throw new Found(`a range of "${name}" shows ${short(ranged)} for ${short(texts)}`);
  }
}

function checkIndexes({ engine }: Opened): void {
  const { core, spaces } = engine;
  const all = [spaces.default, ...spaces.list()];
  const counts = (): string => JSON.stringify(all.map((space) => spaces.counts(space)));
  const kept = counts();
  recount(core, spaces);
  if (kept !== counts()) throw new Found(`records and bytes were kept as ${kept} and are ${counts()}`);
  const faults = [...indexFaults(core, spaces), ...orderingFaults(core, spaces)];
  if (faults.length > 0) throw new Found(`the index: ${faults.slice(0, 4).join("; ")}`);
}

export function short(texts: readonly string[]): string {
  return texts.map((text) => text.slice(0, 12)).join(" ");
}

/**
 * What is left where nobody has the database open: handles, mappings, memory, files beside it. A thread that dies takes with it
 * what it was about to write down, or had just forgotten to let go of it: one thing each.
 */
export function leftovers(process: DyingProcess): string[] {
  const { system, machine, hasRefused, tally, lostMax } = process;
  const left = system.held();
  for (const [path, { kind }] of machine.names.current) {
    const name = path.slice(path.lastIndexOf("/") + 1);
    const isOwn = ["store", "store.hint", "store.lock", "copy", "copy.lock"].includes(name);
    // A backup that was cut off leaves its own beside its target until the next one.
    if (kind !== "file" || isOwn || hasRefused || (tally.crashes > 0 && name.startsWith("copy."))) continue;
    left.push(`file ${path}`);
  }
  return left.length > lostMax ? [...system.misuses, ...left] : system.misuses;
}
