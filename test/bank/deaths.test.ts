/** Planted faults in what a dead thread leaves are found by deaths before any store. */

import { BANKS } from "./bank.ts";
import { huntFor } from "./hunt.ts";

huntFor(BANKS.deaths);
