/** A power loss or a kill at every system call of enabling, disabling and changing encryption, and an error at each. */

import { expect } from "bun:test";
import type { EncryptionInput } from "../../src/api/types.ts";
import type { Environment, Opened } from "../../src/engine/assemble.ts";
import { rewriteFile, rotateSecret } from "../../src/engine/copy/rekey.ts";
import { EmdbError } from "../../src/errors.ts";
import type { System } from "../../src/ffi/system.ts";
import { TELLTALE, crashPoints, failEach, onHost, openAt, prepared, stateOf } from "../engine/each-call.ts";
import { standardDraws } from "../sim/draw.ts";
import { Machine, type CrashPoint } from "../sim/machine.ts";
import { KEY, OTHER } from "./rekey-fixture.ts";

const PATH = "/db/store";
const EXPECTED: ReadonlySet<string> = new Set(["store", "store.hint", "store.lock"]);

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

function open(system: System, encryption: Secret): Opened {
  const opened = openAt(system, PATH, encryption);
  // Nobody has cut the file.
  expect(opened.base.recovery.missingBytes).toBe(0);
  return opened;
}

/** The change as a job. */
function jobOf({ current, next, run }: Change): (environment: Environment) => Promise<unknown> {
  return (environment) => run(environment, { path: PATH, current, next, cipher: undefined }, {});
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
      const { point, state } = prepared(PATH, change.current, seed);
      const points = await crashPoints(point, jobOf(change));
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
    const { point, state } = prepared(PATH, change.current, 1);
    await failEach(point, jobOf(change), ({ failure, machine }) => {
      const opens = judge(machine.capture(), { kind: "kill" }, { ...change, state });
      expect(opens).not.toBe("");
      if (failure === undefined) expect(opens).toBe("new");
    });
  },
  120_000,
);
