/** A Worker that writes one batch after the other, with a turn of its event loop between two, until it is told to end. */

import { Data } from "./data.ts";
import { Emdb, type EmdbShare } from "../../src/index.ts";

declare const self: Worker;

/** What it is told first. */
export interface BatchWork {
  readonly share: EmdbShare;
  readonly seed: number;
  readonly records: number;
  /** Records of each batch. */
  readonly batch: number;
}

let isEnding = false;

async function write({ share, seed, records, batch }: BatchWork): Promise<void> {
  const db = Emdb.attach(share);
  const entries = new Data({ seed }).entries(0, Math.min(records, batch));
  let batches = 0;
  do {
    db.insertMany(entries);
    if (batches++ === 0) self.postMessage("writing");
    await new Promise((resolve) => setImmediate(resolve));
  } while (!isEnding);
  await db.close();
  self.postMessage(batches);
}

self.onmessage = ({ data }: MessageEvent<BatchWork | "end">) => {
  if (data === "end") isEnding = true;
  else void write(data);
};
