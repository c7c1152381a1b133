/**
 * Every planted fault is found: the rings, the model and the tests do see what they are there to see.
 *
 * Left out under an emulator: which faults are found does not depend on the machine, and forty processes of
 * rings would take the whole of its time.
 */

import { afterAll, expect, test } from "bun:test";
import { emulator } from "../support/platform.ts";
import { BANK } from "./bank.ts";
import { Garden } from "./plant.ts";

const garden = emulator === undefined ? new Garden() : undefined;

afterAll(() => garden?.[Symbol.dispose]());

test("the bank holds at least 25 faults, each with a name of its own", () => {
  expect(new Set(BANK.map((fault) => fault.name)).size).toBe(BANK.length);
  expect(BANK.length).toBeGreaterThanOrEqual(25);
});

// Without a fault the probes find nothing: the other test files say so, since they run the same rings.
test.skipIf(garden === undefined).each(BANK.map((fault) => [fault.name, fault] as const))(
  "found: %s",
  async (_, fault) => {
    const { crashes, findings, detail } = await garden!.probe(fault);
    const where = crashes > 0 ? ` in ${findings} of ${crashes} crashes` : "";
    if (findings > 0) console.log(`found by ${fault.probe}${where}: ${detail?.slice(0, 120) ?? ""}`);
    expect(findings).toBeGreaterThan(0);
  },
  120_000,
);
