/** A power loss or a kill at every system call of enabling, disabling and changing encryption, and an error at each. */

import { expect, test } from "bun:test";
import type { EncryptionInput } from "../../src/api/types.ts";
import type { Environment, Opened } from "../../src/engine/assemble.ts";
import type { Space } from "../../src/engine/contract.ts";
import { openFile } from "../../src/engine/open.ts";
import { rewriteFile, rotateSecret } from "../../src/engine/rekey.ts";
import { EmdbError } from "../../src/errors.ts";
import type { System } from "../../src/ffi/system.ts";
import { standardDraws } from "../sim/draw.ts";
import { plausibleErrors } from "../sim/faults.ts";
import { Machine, type CrashPoint } from "../sim/machine.ts";
import { emulator } from "../support/platform.ts";
import { KEY, OTHER } from "./rekey-fixture.ts";

const PATH = "/db/store";
const EXPECTED: ReadonlySet<string> = new Set(["store", "store.hint", "store.lock"]);
const GIVING_BACK: ReadonlySet<string> = new Set(["close", "unmap", "release"]);
const TELLTALE = Buffer.from("telltale value");

/** Which calls a crash hits does not depend on the machine: an emulator would take half an hour to say the same. */
const onHost = test.skipIf(emulator !== undefined);

type Secret = EncryptionInput | undefined;

interface Change {
  readonly name: string;
  readonly current: Secret;
  readonly next: Secret;
  readonly run: typeof rewriteFile;
}

const CHANGES: readonly Change[] = [
  { name: "enabling", current: undefined, next: { key: KEY }, run: rewriteFile },
  { name: "disabling", current: { key: KEY }, next: undefined, run: rewriteFile },
  { name: "changing the key", current: { key: KEY }, next: { key: OTHER }, run: rotateSecret },
];

function environmentOf(system: System): Environment {
  return { system, defer: (work) => void queueMicrotask(work), hasWorkers: false };
}

function open(system: System, encryption: Secret): Opened {
  const config = openConfig(encryption);
  const opened = openFile(environmentOf(system), { path: PATH, createFolders: false, config });
  // Nobody has cut the file.
  expect(opened.base.recovery.missingBytes).toBe(0);
  return opened;
}

/** Namespaces in their order, the records of each sorted. */
function stateOf({ engine }: Opened): string {
  const text = new TextDecoder();
  const recordsOf = (space: Space): string[] =>
    [...engine.snapshot(space)]
      .map(({ key, value, expiresAtMs }) => `${text.decode(key)}=${text.decode(value)}@${expiresAtMs}`)
      .sort();
  const spaces = [engine.defaultSpace, ...engine.spaces.list()];
  return JSON.stringify(spaces.map((space) => [space.name, recordsOf(space)]));
}

/** A machine with a database on it, closed. */
function prepared(encryption: Secret, seed: number): { readonly point: CrashPoint; readonly state: string } {
  const machine = new Machine({ seed, journal: seed % 2 === 0 ? "strict" : "ordered" });
  const system = machine.boot();
  const config = { createIfMissing: true };
  const opened = openFile(environmentOf(system), {
    path: PATH,
    createFolders: false,
    config: { ...openConfig(encryption), ...config },
  });
  const { engine } = opened;
  for (let index = 0; index < 12; index++) engine.insert(engine.defaultSpace, `key ${index}`, "telltale value", 0);
  for (const name of ["b", "a"]) engine.insert(engine.spaceNamed(name), "k", name, 4_000_000_000_000);
  const state = stateOf(opened);
  opened.leave();
  const point = machine.capture();
  machine.dispose();
  return { point, state };
}

function openConfig(encryption: Secret) {
  return {
    defaultTtlMs: 0,
    rangeScans: false,
    flushPlan: { kind: "on-each-flush" } as const,
    encryption,
    cipher: undefined,
    verifyReads: true,
    createIfMissing: false,
    readOnly: false,
  };
}

/** Which of the secrets open the database, each in a machine of its own; the state is right wherever it opens. */
function judge(
  point: CrashPoint,
  draw: Parameters<typeof Machine.restore>[1],
  parts: Change & { state: string },
): string {
  const opens: string[] = [];
  for (const [name, secret] of [
    ["old", parts.current],
    ["new", parts.next],
  ] as const) {
    const machine = Machine.restore(point, draw);
    const system = machine.boot();
    try {
      const opened = open(system, secret);
      expect(stateOf(opened)).toBe(parts.state);
      opened.leave();
      opens.push(name);
      const names = system.list("/db") as readonly string[];
      expect(names.filter((one) => !EXPECTED.has(one))).toEqual([]);
      if (secret !== undefined) expectNoPlainText(machine, names);
    } catch (error) {
      if (!(error instanceof EmdbError)) throw error;
      expect(["EMDB_INVALID_CONFIG", "EMDB_KEY_MISMATCH"]).toContain(error.code);
      expect(system.held()).toEqual([]);
    } finally {
      machine.dispose();
    }
  }
  return opens.join();
}

function expectNoPlainText(machine: Machine, names: readonly string[]): void {
  for (const name of names) {
    expect(Buffer.from(machine.visibleBytes(`/db/${name}`) ?? []).includes(TELLTALE)).toBe(false);
  }
}

onHost.each(CHANGES)(
  "at every call of $name, a crash leaves a database that opens with the old secret or the new one, whole",
  async (change) => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 4; seed++) {
      const { point, state } = prepared(change.current, seed);
      const machine = Machine.restore(point, { kind: "all" });
      const system = machine.boot();
      const points: CrashPoint[] = [];
      let lastCount = -1;
      system.onPoint = () => {
        if (machine.changeCount !== lastCount) points.push(machine.capture());
        lastCount = machine.changeCount;
      };
      const request = { path: PATH, current: change.current, next: change.next, cipher: undefined };
      await change.run(environmentOf(system), request, {});
      points.push(machine.capture());
      expect(system.held()).toEqual([]);
      machine.dispose();
      expect(points.length).toBeGreaterThan(4);
      for (const [index, crash] of points.entries()) {
        for (const draw of standardDraws({ seed: seed * 1000 + index, randomCount: 3 })) {
          const opens = judge(crash, draw, { ...change, state });
          expect(opens).not.toBe("");
          seen.add(opens);
          if (index === points.length - 1) expect(opens).toBe("new");
        }
      }
    }
    expect(seen.has("old")).toBe(true);
    expect(seen.has("new")).toBe(true);
  },
  120_000,
);

onHost.each(CHANGES)(
  "an error at any call of $name is an EmdbError, and leaves the old secret or the new one",
  async (change) => {
    const { point, state } = prepared(change.current, 1);
    const request = { path: PATH, current: change.current, next: change.next, cipher: undefined };
    const first = Machine.restore(point, { kind: "all" });
    const traced = first.boot();
    await change.run(environmentOf(traced), request, {});
    first.dispose();
    for (const [atCall, { name }] of traced.trace.calls.entries()) {
      for (const errno of plausibleErrors(name)) {
        const machine = Machine.restore(point, { kind: "all" });
        const system = machine.boot({ faults: [{ atCall, errno, repeat: "once" }] });
        let failure: unknown;
        await change.run(environmentOf(system), request, {}).catch((error: unknown) => (failure = error));
        if (failure !== undefined) expect(failure).toBeInstanceOf(EmdbError);
        // What the system refuses to take back stays held.
        if (!GIVING_BACK.has(name)) expect(system.held()).toEqual([]);
        const opens = judge(machine.capture(), { kind: "kill" }, { ...change, state });
        expect(opens).not.toBe("");
        if (failure === undefined) expect(opens).toBe("new");
        machine.dispose();
      }
    }
  },
  120_000,
);
