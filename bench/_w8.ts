import { crew } from "./lib/crew.ts";
import { Folder } from "./lib/folder.ts";
import { openStore } from "./lib/peers-of.ts";
const who = process.argv[2] ?? "emdb",
  calls = Number(process.argv[3] ?? 2000),
  n = Number(process.argv[4] ?? 8);
using folder = new Folder();
const settings = { durability: "group", isOrdered: false } as const;
const store = await openStore(who, folder, "group", settings);
for (let r = 0; r < 2; r++) {
  const result = await crew(n, {
    task: "commit",
    subject: who,
    path: folder.at("group"),
    settings,
    seed: 1,
    records: 0,
    calls,
    share: store.share!(),
  });
  console.log(
    who,
    n,
    "per second",
    result.callsPerSecond.toFixed(0),
    "cpu us per call",
    (result.cpuNsPerCall / 1000).toFixed(1),
  );
}
await store.close();
