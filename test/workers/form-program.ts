/**
 * The program whose forms are tested: it flushes without holding its event loop, in this thread or in a Worker of its
 * own, and says how: `form-program <folder> [nested]`.
 */

import { Emdb } from "emdb";

interface Outcome {
  /** Commit Workers that started and came up. */
  readonly commitWorkers: number;
  /** Whether the event loop turned while flushes were pending. */
  readonly isLoopFree: boolean;
  readonly records: number;
}

let commitWorkers = 0;

/** Counts the Workers that say that they are ready, as the commit Worker does. */
function watchWorkers(): void {
  const Plain = Worker;
  globalThis.Worker = class extends Plain {
    constructor(url: string | URL, options?: WorkerOptions) {
      super(url, options);
      this.addEventListener("message", ({ data }: MessageEvent) => {
        if (data === "ready") commitWorkers += 1;
      });
    }
  };
}

async function flushMuch(folder: string): Promise<Outcome> {
  const path = `${folder}/${crypto.randomUUID()}.emdb`;
  const db = Emdb.open(path);
  let turns = 0;
  for (let round = 0; round < 20; round += 1) {
    let isPending = true;
    db.insert(`key ${round}`, "value");
    const flush = db.flush().finally(() => (isPending = false));
    while (isPending) {
      await new Promise((resolve) => setImmediate(resolve));
      turns += 1;
    }
    await flush;
  }
  await db.close();
  using again = Emdb.open(path);
  return { commitWorkers, isLoopFree: turns > 20, records: again.len() };
}

function say(outcome: Outcome): void {
  console.log(JSON.stringify(outcome));
}

watchWorkers();
if (Bun.isMainThread) {
  const [folder = "", mode] = process.argv.slice(-2)[1] === "nested" ? process.argv.slice(-2) : process.argv.slice(-1);
  if (mode === "nested") {
    const worker = new Worker(Bun.main);
    worker.addEventListener("message", ({ data }: MessageEvent<Outcome | "ready">) => {
      if (data === "ready") return;
      say(data);
      worker.terminate();
    });
    worker.postMessage(folder);
  } else void flushMuch(folder).then(say);
} else {
  self.onmessage = ({ data }: MessageEvent<string>): void =>
    void flushMuch(data).then((outcome) => postMessage(outcome));
}
