/** Planted faults between the engine and the disk are found. */

import { BANKS } from "./bank.ts";
import { huntFor } from "./hunt.ts";

huntFor(BANKS.disk);
