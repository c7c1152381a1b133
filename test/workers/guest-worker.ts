/** A thread that attaches, does what it is told, and answers each order. */

import { Emdb, EmdbError, type EmdbShare } from "../../src/index.ts";

export type Order =
  | { readonly do: "attach"; readonly share: EmdbShare }
  | { readonly do: "open"; readonly path: string }
  | { readonly do: "insert"; readonly key: string; readonly value: string }
  | { readonly do: "flush" | "close" | "share" | "exit" | "throw" | "walk" };

let db: Emdb | undefined;
/** Held open, so that the database is left in the middle of a walk. */
let walk: IteratorObject<unknown, undefined> | undefined;

async function obey(order: Order): Promise<unknown> {
  switch (order.do) {
    case "attach":
      db = Emdb.attach(order.share);
      return "attached";
    case "open":
      db = Emdb.open(order.path);
      return "open";
    case "insert":
      db!.insert(order.key, order.value);
      return "inserted";
    case "walk":
      walk = db!.iter();
      walk.next();
      return "walking";
    case "flush":
      await db!.flush();
      return "flushed";
    case "close":
      db!.closeSync();
      return "closed";
    case "share":
      return db!.share();
    case "exit":
      return process.exit(0);
    case "throw":
      throw new Error("uncaught, as ordered");
  }
}

self.onmessage = ({ data }: MessageEvent<Order>): void => {
  const answered = obey(data).then(
    (answer) => postMessage(answer),
    (error: unknown) => {
      if (!(error instanceof EmdbError)) throw error;
      postMessage(error.code);
    },
  );
  void answered.catch((error: unknown) => reportError(error));
};
