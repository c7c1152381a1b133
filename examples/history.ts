/**
 * A shell's history, for a command that each prompt of each terminal starts: `bun examples/history.ts add TEXT`, and
 * `list`. With HISTORY_ROOT it lies there, otherwise where the platform keeps an application's data.
 *
 * One process at a time has a database open, and a prompt does not wait for another. So an entry goes into a small
 * file of its own, and who gets the database takes all that lie there. The file's name is the entry's key: one that is
 * taken twice, because a process ended between its flush and the removal, is there once. What `add` has answered
 * survives the end of every process, and a loss of power once it was taken.
 */

import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Emdb, EmdbError, codec, type Namespace } from "emdb";

const root = process.env["HISTORY_ROOT"];
const where = { appName: "emdb-history", databaseName: "history.emdb", ...(root ? { dataRoot: root } : {}) };
const folder = join(dirname(Emdb.resolvePath(where)), "new");
/** How many entries wait before a prompt asks for the database: opening and closing it costs some syncs. */
const WAITING_MAX = 8;

function keep(text: string): void {
  const name = `${Date.now()}-${crypto.randomUUID()}`;
  const draft = join(folder, `.${name}`);
  writeFileSync(draft, text, { mode: 0o600 });
  renameSync(draft, join(folder, name)); // whole, or not there
}

const waiting = (): string[] => readdirSync(folder).filter((name) => !name.startsWith("."));

function entriesOf(db: Emdb): Namespace<string, string, string, string> {
  return db.namespace("entries", { key: codec.text, value: codec.text });
}

/** Only who has the database open takes, so no two take the same. */
function takeAll(db: Emdb): void {
  const names = waiting();
  entriesOf(db).insertMany(names.map((name) => [name, readFileSync(join(folder, name), "utf8")] as const));
  db.flushSync(); // before the files go
  for (const name of names) rmSync(join(folder, name));
}

/** The database, or undefined while another process has it. */
function openIfFree(): Emdb | undefined {
  try {
    return Emdb.open({ ...where, rangeScans: true });
  } catch (error) {
    if (error instanceof EmdbError && error.code === "EMDB_LOCKED") return undefined;
    throw error;
  }
}

function add(text: string): string {
  keep(text);
  using db = waiting().length > WAITING_MAX ? openIfFree() : undefined;
  if (db !== undefined) takeAll(db);
  return "kept";
}

/** Somebody looks at it, so it waits. */
function list(): string {
  using db = Emdb.open({ ...where, rangeScans: true, lockTimeoutMs: Number.POSITIVE_INFINITY });
  takeAll(db);
  const lines = entriesOf(db).range();
  return lines
    .map(([, text]) => text)
    .toArray()
    .join("\n");
}

mkdirSync(folder, { recursive: true });
const [command, ...words] = process.argv.slice(2);
if (command === "add" && words.length > 0) console.log(add(words.join(" ")));
else if (command === "list") console.log(list());
else {
  console.error("history add TEXT, or history list");
  process.exitCode = 2;
}
