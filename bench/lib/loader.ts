/** Run as a process of its own: fills a database and closes it, so that the heap of the load is not in the process measured. */

import { peerNamed } from "../peers/registry.ts";
import { Data } from "./data.ts";
import { load } from "./load.ts";
import { numberOption, parseOptions } from "./options.ts";
import { unsynced } from "./peers-of.ts";

const options = parseOptions(process.argv.slice(2));
const valueBytes = numberOption(options, "value-bytes");
const data = new Data({ seed: numberOption(options, "seed"), valueBytes });
const store = await peerNamed(options["subject"] ?? "emdb").open(options["path"] ?? "", { ...unsynced, valueBytes });
await load(store, data, numberOption(options, "records"));
await store.flush?.();
await store.close();
process.exit(0);
