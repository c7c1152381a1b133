/** Planted faults in batches, reads and memory are found. */

import { BANKS } from "./bank.ts";
import { huntFor } from "./hunt.ts";

huntFor(BANKS.engine);
