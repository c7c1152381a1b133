/** A process whose end is tested: `<what> <path>`. */

import { dlopen } from "bun:ffi";
import { openSync, readdirSync, readlinkSync } from "node:fs";
import { Emdb, EmdbError } from "../../src/index.ts";

const [what, path = ""] = process.argv.slice(2);

/** Puts a device that cannot be synced in the place of the open log: what was mapped stays, no sync succeeds any more. */
function breakSync(): void {
  const { symbols } = dlopen("libc.so.6", { dup2: { args: ["i32", "i32"], returns: "i32" } });
  const log = readdirSync("/proc/self/fd").find((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  });
  symbols.dup2(openSync("/dev/null", "r+"), Number(log));
}

function codeOf(error: unknown): string {
  return error instanceof EmdbError ? error.code : String(error);
}

async function poison(): Promise<void> {
  const db = Emdb.open(path);
  db.insert("durable", "before");
  await db.flush();
  db.insert("in the file", "unsynced");
  // What is pending goes to the file when the loop turns.
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  breakSync();
  const pending = [db.flush(), db.flush(), db.flush()].map(async (flush) =>
    flush.then(
      () => "resolved",
      (error: EmdbError) => `${error.code} ${error.syscall} ${error.errno}`,
    ),
  );
  console.log((await Promise.all(pending)).join(", "));
  console.log(await db.flush().catch(codeOf));
  for (const write of [
    () => db.insert("a", "b"),
    () => db.flushSync(),
    () => db.transaction((tx) => tx.remove("durable")),
  ]) {
    try {
      write();
      console.log("written");
    } catch (error) {
      console.log(codeOf(error));
    }
  }
  console.log(db.getText("durable"), db.getText("in the file"), db.len());
  try {
    db.closeSync();
    console.log("closed");
  } catch (error) {
    console.log(`closed with ${codeOf(error)}`);
  }
}

/** Starts a Worker on a database, and waits until it has what it is there for. */
async function startOther(file: string, db: Emdb): Promise<Worker> {
  const other = new Worker(new URL(file, import.meta.url).href);
  const share = db.share();
  await new Promise((resolve) => {
    other.addEventListener("message", resolve);
    other.postMessage(share);
  });
  return other;
}

switch (what) {
  case "idle": {
    const db = Emdb.open(path);
    db.insert("a", "b");
    await db.flush();
    console.log("flushed");
    break;
  }
  case "pending": {
    const db = Emdb.open(path);
    db.insert("a", "b");
    void db.flush().then(() => console.log("flushed"));
    break;
  }
  case "code": {
    const db = Emdb.open(path);
    db.insert("a", "b");
    void db.flush().then(() => process.exit(7));
    break;
  }
  case "exit behind flush":
  case "exit behind flushSync": {
    const db = Emdb.open(path);
    db.insert("key", "acknowledged");
    if (what === "exit behind flush") await db.flush();
    else db.flushSync();
    process.exit(7);
    break;
  }
  case "held": {
    const db = Emdb.open(path);
    db.insert("a", "b");
    db.flushSync();
    await startOther("holding-worker.ts", db);
    process.exit(7);
    break;
  }
  case "poison":
    await poison();
    break;
  case "waiting": {
    const db = Emdb.open(path);
    // Another Worker has the place of long work, holds no process, and dies some time later.
    const other = await startOther("waiting-worker.ts", db);
    (other as { unref?: () => void }).unref?.();
    setTimeout(() => other.terminate(), 300).unref();
    void db.compact().then(() => console.log("compacted"));
    break;
  }
  default:
    throw new Error(`no such child: ${what}`);
}
