/** The engine beside the obvious twin, in every configuration: both answer the same, and show the same. */

import { describe, expect, test } from "bun:test";
import { EMULATED_SHARE } from "../sim/ring-run.ts";
import { CONFIGURATIONS, runModel } from "./run.ts";

const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8].slice(0, Math.max(1, Math.ceil(8 * EMULATED_SHARE)));
const STEP_COUNT = EMULATED_SHARE === 1 ? 700 : 200;

describe.each(CONFIGURATIONS.map((configuration) => [configuration.name, configuration] as const))(
  "%s",
  (_, configuration) => {
    test.each(SEEDS)(
      "every operation answers as the twin does, and what is seen stays the same (seed %d)",
      (seed) => expect(runModel({ configuration, seed, stepCount: STEP_COUNT })).toBeUndefined(),
      120_000,
    );
  },
);
