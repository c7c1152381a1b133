/**
 * The contract, as a suite that every way to open a database must pass: `contractSuite(name, openFresh)`.
 * A case names a claim of the public types; the files beside this one hold them by subject.
 */

import { describe } from "bun:test";
import { batchCases } from "./batch-cases.ts";
import { type Features, type OpenFresh, onFresh } from "./fixture.ts";
import { focusCases } from "./focus-cases.ts";
import { lifeCases } from "./life-cases.ts";
import { namespaceCases } from "./namespace-cases.ts";
import { rangeCases } from "./range-cases.ts";
import { recordCases } from "./record-cases.ts";
import { swapCases } from "./swap-cases.ts";
import { transactionCases } from "./transaction-cases.ts";
import { ttlCases } from "./ttl-cases.ts";
import { typedCases } from "./typed-cases.ts";
import { walkCases } from "./walk-cases.ts";

/** Declares the whole suite for one way to open. */
export function contractSuite(name: string, openFresh: OpenFresh, features: Features = {}): void {
  const on = onFresh(openFresh, features);
  describe(name, () => {
    describe("records", () => recordCases(on));
    describe("batches", () => batchCases(on));
    describe("walks", () => walkCases(on));
    if (features.lacks?.includes("range") !== true) describe("ranges", () => rangeCases(on, features));
    describe("time to live", () => ttlCases(on));
    describe("compareAndSwap and update", () => swapCases(on));
    describe("namespaces", () => namespaceCases(on));
    describe("transactions", () => transactionCases(on));
    describe("groups and focus", () => focusCases(on, features));
    describe("typed views", () => typedCases(on));
    describe("the handle", () => lifeCases(on));
  });
}
