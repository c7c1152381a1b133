/**
 * A program for a folder with closed databases, `<folder> <count>`, `0.emdb` and so on: opens the n-th for reading while another
 * engine opens it and writes, just before the n-th call about a file. Says how many calls there were, and ends well if each
 * open shows what there was before or after.
 */

import { join } from "node:path";
import { hostSystem } from "../../src/ffi/host.ts";
import { EngineFixture, faulty } from "../engine/engine-fixture.ts";

const CALLS: ReadonlySet<string> = new Set(["open", "read", "size", "status", "statusOf", "map"]);
const [folder = "", countMax = "0"] = process.argv.slice(2);

function write(path: string): void {
  using writer = new EngineFixture(path, hostSystem());
  const { engine, sync } = writer;
  // Far more than the page in which the log ended.
  for (let index = 0; index < 100; index += 1) engine.insert(engine.defaultSpace, `new ${index}`, "x".repeat(1000), 0);
  sync.flush();
}

let calls = Infinity;
for (let at = 1; at <= calls; at += 1) {
  if (at > Number(countMax)) throw new Error("there are more calls than databases");
  const path = join(folder, `${at}.emdb`);
  let made = 0;
  const system = faulty(hostSystem(), (call) => {
    if (!CALLS.has(call)) return undefined;
    made += 1;
    if (made === at) write(path);
    return undefined;
  });
  using reader = new EngineFixture(path, system, { readOnly: true });
  calls = made;
  // Behind it the log of the reader's file may have grown in any case.
  if (at > calls) write(path);
  const { engine } = reader;
  const count = engine.count(engine.defaultSpace);
  if (count !== 1 && count !== 101) throw new Error(`${count} records before call ${at}`);
  // Walks and gets read through the map.
  reader.state();
}
console.log(calls);
