/**
 * A process that runs a script on a database until it is through or something ends it:
 * `child.ts <database> <progress file> <seed> <length> <n> [async]`. It says on its output that its nth change has begun.
 */

import { writeSync } from "node:fs";
import { EmdbError } from "../../src/errors.ts";
import { changeOf } from "../sim/script.ts";
import { PublicStore } from "./public-store.ts";
import { ENDED, kernelScript, ProgressWords } from "./script.ts";

const [path = "", progressPath = "", seed = "1", length = "10", tellAt = "0", mode = ""] = process.argv.slice(2);
const progress = ProgressWords.open(progressPath);

function begin(): void {
  if (progress.begin() === Number(tellAt)) writeSync(1, "begun");
}

async function run(): Promise<void> {
  const store = new PublicStore(path, { isAsync: mode === "async" });
  for (const [index, operation] of kernelScript(Number(seed), Number(length)).entries()) {
    const change = changeOf(operation, { step: index + 1, nowMs: 0 });
    if (change !== undefined) begin();
    const { begun } = progress;
    if (await store.perform(operation, change)) progress.acknowledge(begun);
  }
  const { begun } = progress;
  store.close();
  progress.acknowledge(begun);
}

function end(error: unknown): void {
  progress.end(error instanceof EmdbError ? ENDED.typed : ENDED.untyped);
  if (!(error instanceof EmdbError)) console.error(error);
}

void run()
  .then(() => progress.end(ENDED.through), end)
  .then(() => process.exit(0));
