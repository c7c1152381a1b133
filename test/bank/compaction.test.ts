/** Planted faults in compactions are found. */

import { BANKS } from "./bank.ts";
import { huntFor } from "./hunt.ts";

huntFor(BANKS.compaction);
