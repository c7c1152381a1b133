/** Planted faults between the engine and the disk are found. */

import { expect, test } from "bun:test";
import { BANKS } from "./bank.ts";
import { huntFor } from "./hunt.ts";

test("the bank holds at least 25 faults, each with a name of its own", () => {
  const names = Object.values(BANKS).flatMap((faults) => faults.map((fault) => fault.name));
  expect(new Set(names).size).toBe(names.length);
  expect(names.length).toBeGreaterThanOrEqual(25);
});

huntFor(BANKS.disk);
