/** A thread that writes and flushes so many times when it is told to begin, from so many callers at once. */

import { Emdb, type EmdbShare } from "../../src/index.ts";

export interface Orders {
  readonly share: EmdbShare;
  readonly index: number;
  readonly callers: number;
  readonly writes: number;
}

async function caller(db: Emdb, name: string, writes: number): Promise<void> {
  for (let write = 0; write < writes; write += 1) {
    db.insert(`${name} ${write}`, "flushed");
    await db.flush();
  }
}

self.onmessage = ({ data }: MessageEvent<Orders | "begin">): void => {
  if (data === "begin") return;
  const db = Emdb.attach(data.share);
  self.onmessage = (): void => {
    const names = Array.from({ length: data.callers }, (_, index) => `${data.index} ${index}`);
    void Promise.all(names.map(async (name) => caller(db, name, data.writes))).then(() => {
      db.closeSync();
      postMessage("done");
    });
  };
  postMessage("ready");
};
