/** Hunts for one part of the bank: each planted fault is a test, which passes when the fault is found. */

import { afterAll, expect, test } from "bun:test";
import { libcryptoCipher } from "../../src/ffi/libcrypto.ts";
import { isSkipped, whyNoMounting, whyNoTracing } from "../kernel/host.ts";
import { emulator } from "../support/platform.ts";
import { readFinders } from "./finders.ts";
import { Garden, HUNT_TIMEOUT_MS } from "./plant.ts";
import type { PlantedFault } from "./fault.ts";

const REASONS: Readonly<Record<NonNullable<PlantedFault["needs"]>, () => string | undefined>> = {
  ext4: () => whyNoMounting("ext4"),
  overlay: () => whyNoMounting("overlay"),
  strace: whyNoTracing,
  libcrypto: () => (libcryptoCipher("AES-256-GCM") === undefined ? "the system has no libcrypto" : undefined),
};

/**
 * Left out under an emulator: which faults are found does not depend on the machine, and forty processes of
 * rings would take the whole of its time.
 */
export function huntFor(faults: readonly PlantedFault[]): void {
  const garden = emulator === undefined ? new Garden() : undefined;
  const finders = readFinders();
  // Said at the end: the suite shows the first lines of a file, and those are for finders that find nothing any more.
  const found: string[] = [];
  afterAll(() => {
    garden?.[Symbol.dispose]();
    if (found.length > 0) console.log(found.join("\n"));
  });
  const isPossible = ({ name, needs }: PlantedFault): boolean => {
    if (needs === undefined) return true;
    return !isSkipped(name, REASONS[needs]());
  };
  // Without a fault the probes find nothing: the other test files say so, since they run the same rings.
  test.skipIf(garden === undefined).each(faults.filter(isPossible).map((fault) => [fault.name, fault] as const))(
    "found: %s",
    async (_, fault) => {
      if (garden === undefined) return;
      const { crashes, findings, detail, note } = await garden.hunt(fault, finders.get(fault.name));
      if (note !== undefined) console.log(note);
      const where = crashes > 0 ? ` in ${findings} of ${crashes} crashes` : "";
      if (findings > 0) found.push(`"${fault.name}": found by ${fault.probe}${where}: ${detail?.slice(0, 120) ?? ""}`);
      expect([findings > 0, findings > 0 || detail]).toEqual([true, true]);
    },
    HUNT_TIMEOUT_MS,
  );
}
