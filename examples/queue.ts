/**
 * A queue of jobs that survives a crash: `bun examples/queue.ts`.
 *
 * Every move is a transaction over three key spaces, so that a job is in exactly one of them at any moment: waiting,
 * or taken by a worker that has not said that it is done. What was taken when the process died waits again after
 * the next open, so a job is worked on at least once. Jobs leave in the order in which they came.
 */

import { mkdtempSync, rmSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Emdb, codec, type Transaction } from "emdb";

export interface Job {
  readonly id: number;
  readonly text: string;
}

const WAITING = "waiting";
const TAKEN = "taken";
const COUNTERS = "counters";

const idKey = (id: number) => codec.uint32.encode(id);
const decoder = new TextDecoder();

type Space = Omit<Transaction, "namespace">;

function counter(tx: Transaction, name: string): number {
  const bytes = tx.namespace(COUNTERS).get(name);
  return bytes === undefined ? 0 : codec.uint32.decode(bytes);
}

function setCounter(tx: Transaction, name: string, value: number): void {
  tx.namespace(COUNTERS).insert(name, codec.uint32.encode(value));
}

function move(from: Space, to: Space, id: number): string {
  const text = decoder.decode(from.remove(idKey(id)));
  to.insert(idKey(id), text);
  return text;
}

export class Queue {
  readonly #db: Emdb;

  /**
   * Opens the queue in a database; jobs that nobody finished wait again, before all others. So make one, where the
   * database is opened: a second one beside it would take for unfinished what the first has given out.
   */
  constructor(db: Emdb) {
    this.#db = db;
    const unfinished = [...db.namespace(TAKEN).keys()].map((key) => codec.uint32.decode(key));
    db.transaction((tx) => {
      for (const id of unfinished) move(tx.namespace(TAKEN), tx.namespace(WAITING), id);
      const first = Math.min(counter(tx, "first"), ...unfinished);
      setCounter(tx, "first", first);
    });
  }

  /** Adds a job; it is durable after a flush. */
  push(text: string): number {
    return this.#db.transaction((tx) => {
      const id = counter(tx, "next");
      tx.namespace(WAITING).insert(idKey(id), text);
      setCounter(tx, "next", id + 1);
      return id;
    });
  }

  /** Takes the job that waits longest. */
  take(): Job | undefined {
    return this.#db.transaction((tx) => {
      const next = counter(tx, "next");
      let id = counter(tx, "first");
      const waiting = tx.namespace(WAITING);
      // Behind jobs that came back there may be some that were done long ago.
      while (id < next && !waiting.containsKey(idKey(id))) id += 1;
      setCounter(tx, "first", id);
      if (id === next) return undefined;
      setCounter(tx, "first", id + 1);
      return { id, text: move(waiting, tx.namespace(TAKEN), id) };
    });
  }

  /** Says that a taken job is done; false when it was not taken. */
  done(id: number): boolean {
    return this.#db.namespace(TAKEN).remove(idKey(id)) !== undefined;
  }

  get waitingCount(): number {
    return this.#db.namespace(WAITING).len();
  }
}

function check(isTrue: boolean, what: string): void {
  if (!isTrue) throw new Error(`not so: ${what}`);
  console.log(what);
}

async function main(path: string): Promise<void> {
  {
    await using db = Emdb.open(path);
    const queue = new Queue(db);
    for (const text of ["wash", "rinse", "dry", "fold"]) queue.push(text);
    await db.flush();
    const first = queue.take();
    check(first?.text === "wash" && queue.done(first.id), "the first job is done");
    check(queue.take()?.text === "rinse", "the second is taken, and the program ends before it is done");
  }
  await using db = Emdb.open(path);
  const queue = new Queue(db);
  check(queue.waitingCount === 3, "after a restart three jobs wait");
  const rest: string[] = [];
  for (let job = queue.take(); job !== undefined; job = queue.take()) {
    rest.push(job.text);
    queue.done(job.id);
  }
  check(rest.join() === "rinse,dry,fold", "they leave in their order, the unfinished one first");
  check(queue.waitingCount === 0, "the queue is empty");
}

if (import.meta.main) {
  const folder = mkdtempSync(join(tmpdir(), "emdb-queue-"));
  try {
    await main(join(folder, "queue.emdb"));
  } finally {
    for (const name of ["queue.emdb", "queue.emdb.lock", "queue.emdb.hint"])
      rmSync(join(folder, name), { force: true });
    rmdirSync(folder);
  }
}
