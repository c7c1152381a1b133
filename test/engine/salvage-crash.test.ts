/** A power loss or a kill at every system call of a salvage, and an error at each. */

import { expect, test } from "bun:test";
import type { EncryptionInput } from "../../src/api/types.ts";
import type { Environment, Opened } from "../../src/engine/assemble.ts";
import { openFile } from "../../src/engine/open.ts";
import { salvageFile } from "../../src/engine/salvage.ts";
import { EmdbError } from "../../src/errors.ts";
import type { System } from "../../src/ffi/system.ts";
import { standardDraws } from "../sim/draw.ts";
import { plausibleErrors } from "../sim/faults.ts";
import { Machine, type CrashPoint } from "../sim/machine.ts";
import { emulator } from "../support/platform.ts";

const SOURCE = "/db/store";
const TARGET = "/db/salvaged";
const GIVING_BACK: ReadonlySet<string> = new Set(["close", "unmap", "release"]);
const KEY = { key: new Uint8Array(32).fill(9) };

/** Which calls a crash hits does not depend on the machine: an emulator would take half an hour to say the same. */
const onHost = test.skipIf(emulator !== undefined);

const WAYS: readonly { readonly name: string; readonly encryption: EncryptionInput | undefined }[] = [
  { name: "a plain log", encryption: undefined },
  { name: "an encrypted log", encryption: KEY },
];

function environmentOf(system: System): Environment {
  return { system, defer: (work) => void queueMicrotask(work), hasWorkers: false };
}

function open(system: System, path: string, encryption: EncryptionInput | undefined, createIfMissing = false): Opened {
  const config = {
    defaultTtlMs: 0,
    rangeScans: false,
    flushPlan: { kind: "on-each-flush" } as const,
    encryption,
    cipher: undefined,
    verifyReads: true,
    createIfMissing,
    readOnly: false,
  };
  return openFile(environmentOf(system), { path, createFolders: false, config });
}

function stateOf({ engine }: Opened): string {
  const text = new TextDecoder();
  const spaces = [engine.defaultSpace, ...engine.spaces.list()];
  const linesOf = (space: (typeof spaces)[number]): string[] =>
    [...engine.snapshot(space)]
      .map(({ key, value, expiresAtMs }) => `${text.decode(key)}=${text.decode(value)}@${expiresAtMs}`)
      .sort();
  return JSON.stringify(spaces.map((space) => [space.name, linesOf(space)]));
}

/** A machine with a database on it, closed. */
function prepared(encryption: EncryptionInput | undefined, seed: number): { point: CrashPoint; state: string } {
  const machine = new Machine({ seed, journal: seed % 2 === 0 ? "strict" : "ordered" });
  const opened = open(machine.boot(), SOURCE, encryption, true);
  const { engine } = opened;
  for (let index = 0; index < 12; index++) engine.insert(engine.defaultSpace, `key ${index}`, "value", 0);
  for (const name of ["b", "a"]) engine.insert(engine.spaceNamed(name), "k", name, 4_000_000_000_000);
  const state = stateOf(opened);
  opened.leave();
  const point = machine.capture();
  machine.dispose();
  return { point, state };
}

/** Whether the target is there, whole then. Beside it there may be a draft, which a crash has left. */
function judge(
  machine: Machine,
  { encryption, state }: { readonly encryption: EncryptionInput | undefined; readonly state: string },
): "there" | "not there" {
  const system = machine.boot();
  const hasTarget = typeof system.status(TARGET) !== "number";
  for (const path of hasTarget ? [TARGET, SOURCE] : [SOURCE]) {
    const opened = open(system, path, encryption);
    expect(opened.base.recovery).toMatchObject({ missingBytes: 0, tornBytes: 0 });
    expect(stateOf(opened)).toBe(state);
    opened.leave();
  }
  expect(system.held()).toEqual([]);
  return hasTarget ? "there" : "not there";
}

onHost.each(WAYS)(
  "at every call of a salvage of $name, a crash leaves no target or a whole one",
  async ({ encryption }) => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 4; seed++) {
      const { point, state } = prepared(encryption, seed);
      const machine = Machine.restore(point, { kind: "all" });
      const system = machine.boot();
      const points: CrashPoint[] = [];
      let lastCount = -1;
      system.onPoint = () => {
        if (machine.changeCount !== lastCount) points.push(machine.capture());
        lastCount = machine.changeCount;
      };
      const report = await salvageFile(environmentOf(system), { path: SOURCE, target: TARGET, encryption }, {});
      expect(report).toEqual({ recoveredRecords: 14, lostRanges: [] });
      points.push(machine.capture());
      expect(system.held()).toEqual([]);
      machine.dispose();
      for (const [index, crash] of points.entries()) {
        for (const draw of standardDraws({ seed: seed * 1000 + index, randomCount: 3 })) {
          const after = Machine.restore(crash, draw);
          const outcome = judge(after, { encryption, state });
          seen.add(outcome);
          if (index === points.length - 1) expect(outcome).toBe("there");
          after.dispose();
        }
      }
    }
    expect([...seen].sort()).toEqual(["not there", "there"]);
  },
  120_000,
);

onHost.each(WAYS)(
  "an error at any call of a salvage of $name is an EmdbError, and leaves no target and nothing beside it, or a whole one",
  async ({ encryption }) => {
    const { point, state } = prepared(encryption, 1);
    const request = { path: SOURCE, target: TARGET, encryption };
    const first = Machine.restore(point, { kind: "all" });
    const traced = first.boot();
    await salvageFile(environmentOf(traced), request, {});
    first.dispose();
    for (const [atCall, { name }] of traced.trace.calls.entries()) {
      for (const errno of plausibleErrors(name)) {
        const machine = Machine.restore(point, { kind: "all" });
        const system = machine.boot({ faults: [{ atCall, errno, repeat: "once" }] });
        let failure: unknown;
        await salvageFile(environmentOf(system), request, {}).catch((error: unknown) => (failure = error));
        if (failure !== undefined) expect(failure).toBeInstanceOf(EmdbError);
        // What the system refuses to take back stays held.
        if (!GIVING_BACK.has(name)) expect(system.held()).toEqual([]);
        const names = system.list("/db") as readonly string[];
        const strange = names.filter((one) => !/^(?:store|salvaged)(?:\.hint|\.lock)?$/.test(one));
        if (name !== "unlink") expect([name, atCall, errno, strange]).toEqual([name, atCall, errno, []]);
        const outcome = judge(machine, { encryption, state });
        if (failure === undefined) expect(outcome).toBe("there");
        // Its name may not be durable; nothing else that fails behind the rename is a failure.
        else if (name !== "syncFolder")
          expect([name, atCall, errno, outcome]).toEqual([name, atCall, errno, "not there"]);
        machine.dispose();
      }
    }
  },
  120_000,
);
