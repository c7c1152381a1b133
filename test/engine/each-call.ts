/**
 * What the tests share that crash or fail a job on whole files (a salvage, a change of encryption) at each of its system
 * calls: the simulated machine with a database on it, and the ways through the calls.
 */

import { expect, test } from "bun:test";
import type { EncryptionInput } from "../../src/api/types.ts";
import type { Environment, Opened } from "../../src/engine/assemble.ts";
import type { Space } from "../../src/engine/contract.ts";
import { openFile } from "../../src/engine/open/open.ts";
import { EmdbError } from "../../src/errors.ts";
import type { System } from "../../src/ffi/system.ts";
import { plausibleErrors } from "../sim/faults.ts";
import { Machine, type CrashPoint } from "../sim/machine.ts";
import type { SimulatedSystem } from "../sim/system.ts";
import { emulator } from "../support/platform.ts";

/** Calls whose refusal leaves something held. */
const GIVING_BACK: ReadonlySet<string> = new Set(["close", "unmap", "release"]);

/** Which calls a crash hits does not depend on the machine: an emulator would take half an hour to say the same. */
export const onHost = test.skipIf(emulator !== undefined);

/** The value of most records. */
export const TELLTALE = "telltale value";
/** Records in what `prepared` makes. */
export const PREPARED_RECORDS = 14;

type Job = (environment: Environment) => Promise<unknown>;

function environmentOf(system: System): Environment {
  return { system, defer: (work) => void queueMicrotask(work), hasWorkers: false };
}

export function openAt(
  system: System,
  path: string,
  encryption: EncryptionInput | undefined,
  createIfMissing = false,
): Opened {
  const config = {
    defaultTtlMs: 0,
    rangeScans: false,
    flushPlan: { kind: "on-each-flush" } as const,
    encryption,
    cipher: undefined,
    verifyReads: true,
    createIfMissing,
    readOnly: false,
    lockTimeoutMs: 0,
  };
  return openFile(environmentOf(system), { path, createFolders: false, config });
}

/** Namespaces in their order, the records of each sorted. */
export function stateOf({ engine }: Opened): string {
  const text = new TextDecoder();
  const recordsOf = (space: Space): string[] =>
    [...engine.snapshot(space)]
      .map(({ key, value, expiresAtMs }) => `${text.decode(key)}=${text.decode(value)}@${expiresAtMs}`)
      .sort();
  const spaces = [engine.defaultSpace, ...engine.spaces.list()];
  return JSON.stringify(spaces.map((space) => [space.name, recordsOf(space)]));
}

/** A machine with a database on it, closed. */
export function prepared(
  path: string,
  encryption: EncryptionInput | undefined,
  seed: number,
): { readonly point: CrashPoint; readonly state: string } {
  const machine = new Machine({ seed, journal: seed % 2 === 0 ? "strict" : "ordered" });
  const opened = openAt(machine.boot(), path, encryption, true);
  const { engine } = opened;
  for (let index = 0; index < PREPARED_RECORDS - 2; index++)
    engine.insert(engine.defaultSpace, `key ${index}`, TELLTALE, 0);
  for (const name of ["b", "a"]) engine.insert(engine.spaceNamed(name), "k", name, 4_000_000_000_000);
  const state = stateOf(opened);
  opened.leave();
  const point = machine.capture();
  machine.dispose();
  return { point, state };
}

/** Does a job; what a crash could see before each of its calls that finds something changed, and at the end. */
export async function crashPoints(point: CrashPoint, job: Job): Promise<CrashPoint[]> {
  const machine = Machine.restore(point, { kind: "all" });
  const system = machine.boot();
  const points: CrashPoint[] = [];
  let lastCount = -1;
  system.onPoint = () => {
    if (machine.changeCount !== lastCount) points.push(machine.capture());
    lastCount = machine.changeCount;
  };
  await job(environmentOf(system));
  points.push(machine.capture());
  expect(system.held()).toEqual([]);
  machine.dispose();
  return points;
}

/** What an error at one call has led to. */
export interface Refused {
  readonly name: string;
  /** The call and the error, for messages. */
  readonly what: readonly unknown[];
  readonly failure: unknown;
  readonly machine: Machine;
  readonly system: SimulatedSystem;
}

/** Does a job once for each error of each of its calls: it ends well or with an EmdbError, and holds nothing. */
export async function failEach(point: CrashPoint, job: Job, judge: (refused: Refused) => void): Promise<void> {
  const first = Machine.restore(point, { kind: "all" });
  const traced = first.boot();
  await job(environmentOf(traced));
  first.dispose();
  for (const [atCall, { call }] of traced.trace.calls.entries()) {
    const { name } = call;
    for (const errno of plausibleErrors(name)) {
      const machine = Machine.restore(point, { kind: "all" });
      const system = machine.boot({ faults: [{ atCall, errno, repeat: "once" }] });
      let failure: unknown;
      await job(environmentOf(system)).catch((error: unknown) => (failure = error));
      if (failure !== undefined) expect(failure).toBeInstanceOf(EmdbError);
      // What the system refuses to take back stays held.
      if (!GIVING_BACK.has(name)) expect(system.held()).toEqual([]);
      judge({ name, what: [name, atCall, errno], failure, machine, system });
      machine.dispose();
    }
  }
}
