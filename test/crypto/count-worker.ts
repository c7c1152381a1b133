/** A thread that takes counters through the shared word it is sent, and sends them back. */

import { NonceCounter, sharedClaim } from "../../src/crypto/nonce-counter.ts";

declare const self: Worker;

self.addEventListener("message", ({ data }: MessageEvent<Int32Array>) => {
  const counter = new NonceCounter(sharedClaim(data, { index: 2 }));
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a Worker has no origin
  postMessage(Array.from({ length: 20_000 }, () => counter.next()));
});
