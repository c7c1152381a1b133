/**
 * A process that runs a script on a database until it is through or something ends it:
 * `child.ts <database> <progress file> <seed> <length> [async]`.
 */

import { EmdbError } from "../../src/errors.ts";
import { changeOf } from "../sim/script.ts";
import { PublicStore } from "./public-store.ts";
import { ENDED, kernelScript, ProgressWords } from "./script.ts";

const [path = "", progressPath = "", seed = "1", length = "10", mode = ""] = process.argv.slice(2);
const progress = ProgressWords.open(progressPath);

async function run(): Promise<void> {
  const store = new PublicStore(path, { isAsync: mode === "async" });
  for (const [index, operation] of kernelScript(Number(seed), Number(length)).entries()) {
    const change = changeOf(operation, { step: index + 1, nowMs: 0 });
    if (change !== undefined) progress.begin();
    const { begun } = progress;
    if (await store.perform(operation, change)) progress.acknowledge(begun);
  }
  const { begun } = progress;
  store.close();
  progress.acknowledge(begun);
}

try {
  await run();
  progress.end(ENDED.through);
} catch (error) {
  progress.end(error instanceof EmdbError ? ENDED.typed : ENDED.untyped);
  if (!(error instanceof EmdbError)) console.error(error);
}
process.exit(0);
