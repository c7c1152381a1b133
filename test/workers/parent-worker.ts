/** Started by parents.test.ts: starts a Worker from text, as the commit Worker is, and ends in the way that it is told. */

import { startFromText } from "../../src/engine/threads/text-worker.ts";
import { libraryNames } from "../../src/ffi/library-names.ts";
import { hostSystem } from "../../src/ffi/host.ts";

declare const self: Worker;

/** What it is told first: where the numbers of both threads go, and the file that the child reads, which keeps it as long as nobody writes there. */
export interface Family {
  readonly threads: Int32Array;
  readonly file: number;
}

export type Ending = "exit" | "throw";

const CHILD = `
import { dlopen } from "bun:ffi";

self.onmessage = ({ data }) => {
  const names = { gettid: { args: [], returns: "i32" }, read: { args: ["i32", "ptr", "u64"], returns: "i64" } };
  const calls = dlopen(data.library, names).symbols;
  Atomics.store(data.threads, 1, calls.gettid());
  Atomics.notify(data.threads, 1);
  calls.read(data.file, new Uint8Array(8), 8);
};
`;

self.addEventListener("message", ({ data }: MessageEvent<Family | Ending>) => {
  if (data === "exit") process.exit(0);
  if (data === "throw") throw new Error("the end");
  Atomics.store(data.threads, 0, hostSystem().threadId());
  const message = { ...data, library: libraryNames().system[0] };
  startFromText(CHILD, { message, onLost: () => undefined });
});
