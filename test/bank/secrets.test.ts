/** Planted faults in encryption are found. */

import { BANKS } from "./bank.ts";
import { huntFor } from "./hunt.ts";

huntFor(BANKS.secrets);
