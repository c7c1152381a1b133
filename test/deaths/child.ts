/**
 * A process of its own for threads that die, in which the database's modules are changed as they are loaded: small limits, so that
 * short scripts reach all of them, and every access to shared memory counted.
 *
 *     bun test/deaths/child.ts seeds FIRST COUNT    prints one line of JSON: what there was, and what was found
 *     bun test/deaths/child.ts background ...       the same with commit Workers and a sweep in the background
 *     bun test/deaths/child.ts syncs                 a commit Worker that stands still, or dies, before each of its steps
 *     bun test/deaths/child.ts scenes COUNT         the same of so many deaths in each scene
 *     bun test/deaths/child.ts case JSON            lives one case again, and tells of each step; EMDB_CALLS=1: of each system call as well
 */

import { Death } from "../steps/baton.ts";
import { changeModule, expectChanged, instrument, placeOf } from "../steps/instrument.ts";
import type { CommitOrders } from "../../src/log/commit-script.ts";
import { TurnPacer } from "./pacer.ts";
import type { DeathCase } from "./script.ts";

const pacer = new TurnPacer();

function changeModules(): void {
  const limits = /src[\\/]limits\.ts$/;
  changeModule(limits, "RING_BYTES = 8 * MIB", "RING_BYTES = 512 * KIB");
  changeModule(limits, "RING_FRAME_BYTES_MAX = MIB", "RING_FRAME_BYTES_MAX = 128 * KIB");
  changeModule(limits, "STRIDE_BYTES = 2 * MIB", "STRIDE_BYTES = 64 * KIB");
  changeModule(/src[\\/]log[\\/]tail\.ts$/, "const CLAIM_AHEAD_BYTES = 65_536;", "const CLAIM_AHEAD_BYTES = 1024;");
  changeModule(/src[\\/]ordered[\\/]node\.ts$/, "{ capacity: 63,", "{ capacity: 6,");
  changeModule(/src[\\/]ordered[\\/]ordered\.ts$/, "const PURGE_STEP = 8;", "const PURGE_STEP = 2;");
  changeModule(
    /src[\\/]engine[\\/]sealed[\\/]vault\.ts$/,
    "const BLOCKS_PER_SESSION = BLOCKS_MAX / 2;",
    "const BLOCKS_PER_SESSION = 3;",
  );
  changeModule(limits, "SWEEP_RECORDS_PER_SLICE = 1024;", "SWEEP_RECORDS_PER_SLICE = 3;");
  changeModule(limits, "SPACES_PER_LOOK = 4096;", "SPACES_PER_LOOK = 2;");
  // Of what was taken to see whether it is to be had, a death leaves one.
  changeModule(
    /src[\\/]engine[\\/]threads[\\/]text-worker\.ts$/,
    "const WORKER_DESCRIPTORS = 16;",
    "const WORKER_DESCRIPTORS = 1;",
  );
  changeModule(/src[\\/]crypto[\\/]nonce-counter\.ts$/, "BLOCK_COUNTERS = 4096;", "BLOCK_COUNTERS = 8;");
  changeModule(
    /src[\\/]engine[\\/]copy[\\/]catch-up\.ts$/,
    "const LAST_BYTES_MAX = 128 * 1024;",
    "const LAST_BYTES_MAX = 512;",
  );
  changeModule(
    /src[\\/]engine[\\/]copy[\\/]compaction\.ts$/,
    "const ROUND_BYTES_MIN = 1024 * 1024;",
    "const ROUND_BYTES_MIN = 512;",
  );
  // All threads are one here, and each has scratch memory of its own.
  (globalThis as { emdbOwner?: () => number }).emdbOwner = () => pacer.owner;
  const memory = /src[\\/]ffi[\\/]memory\.ts$/;
  changeModule(memory, "let memory: Pinned | undefined;", "const own: Pinned[] = [];");
  changeModule(memory, "(memory ??= pinned(bytes))", "(own[globalThis.emdbOwner()] ??= pinned(bytes))");
  changeModule(memory, "let last: WeakRef<Pinned> | undefined;", "const own: WeakRef<Pinned>[] = [];");
  changeModule(memory, "const held = last?.deref();", "const held = own[globalThis.emdbOwner()]?.deref();");
  changeModule(memory, "last = new WeakRef(memory);", "own[globalThis.emdbOwner()] = new WeakRef(memory);");
  // A death never comes in the middle of a copy.
  instrument(pacer, { cutsCopies: false });
  // Nobody else would ever wake who waits in the event loop.
  const atomics = Atomics as unknown as Record<string, unknown>;
  const { load } = Atomics;
  atomics["waitAsync"] = (array: Int32Array, index: number, value: number): unknown => {
    if (load(array, index) !== value) return { async: false, value: "not-equal" };
    return { async: true, value: pacer.sleepLater(placeOf(array, index) | 0) };
  };
}

/** What the package starts from text: the commit Worker's program, a step at a time (`commit-workers.ts`). */
class SimulatedWorker {
  readonly #listeners = new Map<string, (event: object) => void>();

  addEventListener(name: string, listener: (event: object) => void): void {
    // Whoever is told first only lets go of the text.
    this.#listeners.set(name, listener);
  }

  unref(): void {}

  postMessage(orders: CommitOrders): void {
    pacer.startWorker(orders, () => this.#tell("error"));
    this.#tell("message");
  }

  #tell(name: string): void {
    this.#listeners.get(name)?.({ preventDefault: () => undefined });
  }
}

async function main(): Promise<void> {
  changeModules();
  // No clock.
  globalThis.setInterval = (() => ({ unref: () => undefined })) as never;
  globalThis.clearInterval = () => undefined;
  globalThis.Worker = SimulatedWorker as unknown as typeof Worker;
  // What a dead thread's promises come to is never heard of.
  process.on("unhandledRejection", () => undefined);
  process.on("uncaughtException", (error) => {
    if (error instanceof Death) return;
    console.error(error);
    process.exit(1);
  });
  const { live, search } = await import("./search.ts");
  const { dieInScenes } = await import("./scenes.ts");
  const { standInSyncs } = await import("./commit-scenes.ts");
  expectChanged();
  const [mode, first = "1", count = "1"] = process.argv.slice(2);
  if (mode === "case") {
    pacer.tellsCalls = process.env["EMDB_CALLS"] !== undefined;
    const { log, found } = live(pacer, JSON.parse(first) as DeathCase);
    console.log([...log, found ?? "nothing is found"].join("\n"));
  } else if (mode === "syncs") console.log(JSON.stringify(standInSyncs(pacer)));
  else if (mode === "scenes") console.log(JSON.stringify(dieInScenes(pacer, Number(first))));
  else {
    const hasBackground = mode === "background";
    console.log(JSON.stringify(search(pacer, { first: Number(first), count: Number(count), hasBackground })));
  }
  process.exit(0);
}

await main();
