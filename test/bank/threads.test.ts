/** Planted faults between threads are found by stepping the protocols of shared memory. */

import { BANKS } from "./bank.ts";
import { huntFor } from "./hunt.ts";

huntFor(BANKS.threads);
