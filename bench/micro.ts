/** Single operations under mitata, all peers in one process: for profiling a change, not for the tables. */

import { bench, group, run } from "mitata";

import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { load } from "./lib/load.ts";
import { listOption, numberOption, parseOptions } from "./lib/options.ts";
import { openStore, peerUnavailable } from "./lib/peers-of.ts";
import type { Store } from "./peers/peer.ts";

const options = {
  peers: "emdb,lmdb,sqlite,level,map",
  records: "100k",
  seed: "1",
  ...parseOptions(process.argv.slice(2)),
};
const records = numberOption(options, "records");
const data = new Data({ seed: numberOption(options, "seed") });
const keys = data.shuffledKeys(records, records);
using folder = new Folder();
const stores: Record<string, Store> = {};

for (const subject of listOption(options, "peers")) {
  const reason = await peerUnavailable(subject);
  if (reason !== undefined) {
    process.stderr.write(`${subject}: skipped, ${reason}\n`);
    continue;
  }
  const store = await openStore(subject, folder, `micro-${subject.replaceAll("/", "-")}`);
  await load(store, data, records);
  stores[subject] = store;
}

/** One key after another in the shuffled order. */
function ring(): () => Uint8Array {
  let at = 0;
  return () => keys[at++ % keys.length] ?? keys[0]!;
}

const missing = data.missingKeys(records, 1024);

group("get, hit", () => {
  for (const [subject, store] of Object.entries(stores)) {
    const next = ring();
    bench(subject, () => store.get(next()));
  }
});
group("get, view", () => {
  for (const [subject, { getView }] of Object.entries(stores)) {
    const next = ring();
    if (getView !== undefined) bench(subject, () => getView(next()));
  }
});
group("get, miss", () => {
  for (const [subject, store] of Object.entries(stores)) {
    let at = 0;
    bench(subject, () => store.get(missing[at++ & 1023] ?? missing[0]!));
  }
});
group("insert, overwrite", () => {
  for (const [subject, store] of Object.entries(stores)) {
    const next = ring();
    const value = data.value(7);
    bench(subject, () => store.insert(next(), value));
  }
});
await run();
for (const store of Object.values(stores)) await store.close();
// The exit would skip the `using` above.
folder[Symbol.dispose]();
process.exit(0);
