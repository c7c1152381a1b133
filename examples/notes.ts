/**
 * Notes on the command line, with the database inside the program:
 *
 *   bun install && bun build --compile examples/notes.ts --outfile notes
 *   ./notes add "water the plants"
 *
 * The executable needs nothing beside it: no Bun, no node_modules, no server. The notes lie where the platform keeps
 * an application's data, or in the file that NOTES_FILE names. With NOTES_PASSPHRASE they are encrypted.
 */

import { Emdb, EmdbError, codec, type Namespace } from "emdb";

interface Note {
  readonly text: string;
  readonly writtenAtMs: number;
}

const USAGE = `notes add TEXT...     keeps a note
notes list            all of them, oldest first
notes find WORD       those that contain it
notes remove NUMBER   forgets one
notes where           the file that they are in`;

const COMMANDS: readonly string[] = ["add", "list", "find", "remove", "where"];

function openNotes(): Emdb {
  const file = process.env["NOTES_FILE"];
  const passphrase = process.env["NOTES_PASSPHRASE"];
  const options = { rangeScans: true, ...(passphrase ? { encryption: { passphrase } } : {}) };
  if (file) return Emdb.open(file, options);
  return Emdb.open({ appName: "emdb-notes", databaseName: "notes.emdb", ...options });
}

/** Numbers as keys: `uint32` keeps their order, so a range is in the order of writing. */
function notesOf(db: Emdb): Namespace<number, Note, number, Note> {
  return db.namespace("notes", { key: codec.uint32, value: codec.json<Note>() });
}

function add(db: Emdb, text: string): string {
  if (text === "") return USAGE;
  const notes = notesOf(db);
  const [last = 0] = [...notes.range({ reverse: true, limit: 1 })].map(([number]) => number);
  notes.insert(last + 1, { text, writtenAtMs: Date.now() });
  // A note counts as kept when it survives a loss of power; `close` flushes too.
  db.flushSync();
  return `kept as ${last + 1}`;
}

function list(db: Emdb, word = ""): string {
  const lines = [...notesOf(db).range()]
    .filter(([, note]) => note.text.includes(word))
    .map(([number, note]) => `${number}. ${note.text}`);
  return lines.length === 0 ? "nothing" : lines.join("\n");
}

function remove(db: Emdb, word: string): string {
  const number = Number(word);
  const isNumber = Number.isInteger(number) && number > 0 && number < 2 ** 32;
  if (isNumber && notesOf(db).remove(number) !== undefined) return `forgot ${number}`;
  process.exitCode = 1;
  return `there is no note ${word}`;
}

function answer(db: Emdb, [command = "", ...words]: readonly string[]): string {
  switch (command) {
    case "add":
      return add(db, words.join(" "));
    case "list":
      return list(db);
    case "find":
      return list(db, words.join(" "));
    case "remove":
      return remove(db, words[0] ?? "");
    case "where":
      return db.path ?? "";
    default:
      return USAGE;
  }
}

const words = process.argv.slice(2);
try {
  const [command = "help"] = words;
  if (command === "help") {
    console.log(USAGE);
  } else if (!COMMANDS.includes(command)) {
    console.error(`there is no command ${command}\n${USAGE}`);
    process.exitCode = 2;
  } else {
    using db = openNotes();
    console.log(answer(db, words));
  }
} catch (error) {
  // Another one is at it, the passphrase is wrong, the disk is full: the code says which.
  if (!(error instanceof EmdbError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
}
