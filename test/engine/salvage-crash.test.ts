/** A power loss or a kill at every system call of a salvage, and an error at each. */

import { expect } from "bun:test";
import type { EncryptionInput } from "../../src/api/types.ts";
import type { Environment } from "../../src/engine/assemble.ts";
import { salvageFile } from "../../src/engine/salvage/salvage.ts";
import { standardDraws } from "../sim/draw.ts";
import { Machine } from "../sim/machine.ts";
import { PREPARED_RECORDS, crashPoints, failEach, onHost, openAt, prepared, stateOf } from "./each-call.ts";

const SOURCE = "/db/store";
const TARGET = "/db/salvaged";
const KEY = { key: new Uint8Array(32).fill(9) };

const WAYS: readonly { readonly name: string; readonly encryption: EncryptionInput | undefined }[] = [
  { name: "a plain log", encryption: undefined },
  { name: "an encrypted log", encryption: KEY },
];

/** Whether the target is there, whole then. Beside it there may be a draft, which a crash has left. */
function judge(
  machine: Machine,
  { encryption, state }: { readonly encryption: EncryptionInput | undefined; readonly state: string },
): "there" | "not there" {
  const system = machine.boot();
  const hasTarget = typeof system.status(TARGET) !== "number";
  for (const path of hasTarget ? [TARGET, SOURCE] : [SOURCE]) {
    const opened = openAt(system, path, encryption);
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
      const { point, state } = prepared(SOURCE, encryption, seed);
      const points = await crashPoints(point, async (environment) => {
        const report = await salvageFile(environment, { path: SOURCE, target: TARGET, encryption }, {});
        expect(report).toEqual({ recoveredRecords: PREPARED_RECORDS, lostRanges: [] });
      });
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
    const { point, state } = prepared(SOURCE, encryption, 1);
    const salvage = (environment: Environment): Promise<unknown> =>
      salvageFile(environment, { path: SOURCE, target: TARGET, encryption }, {});
    await failEach(point, salvage, ({ name, what, failure, machine, system }) => {
      const names = system.list("/db") as readonly string[];
      const strange = names.filter((one) => !/^(?:store|salvaged)(?:\.hint|\.lock)?$/.test(one));
      if (name !== "unlink") expect([...what, strange]).toEqual([...what, []]);
      const outcome = judge(machine, { encryption, state });
      if (failure === undefined) expect(outcome).toBe("there");
      // Its name may not be durable; nothing else that fails behind the rename is a failure.
      else if (name !== "syncFolder") expect([...what, outcome]).toEqual([...what, "not there"]);
    });
  },
  120_000,
);
