/** A command-line program that opens its store, writes a record, reads one, closes and ends: what each start of it costs. */

import { symlinkSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { Folder } from "./lib/folder.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { fileUnavailable } from "./lib/peers-of.ts";
import { median } from "./lib/statistics.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

const emdb = (from: string, path: string): string => `
import { Emdb } from ${JSON.stringify(from)};
const db = Emdb.open(${JSON.stringify(path)});
db.insert("key", "value " + process.pid);
if (db.getText("key") === undefined) throw new Error("nothing was read");
db.closeSync();`;

const sqlite = (path: string): string => `
import { Database } from "bun:sqlite";
const db = new Database(${JSON.stringify(path)});
db.run("PRAGMA journal_mode = WAL");
db.run("PRAGMA synchronous = NORMAL");
db.run("CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID");
db.query("INSERT OR REPLACE INTO records VALUES ('key', ?)").run("value " + process.pid);
if (db.query("SELECT value FROM records WHERE key = 'key'").get() === null) throw new Error("nothing was read");
db.close();`;

const lmdb = (path: string): string => `
import { open } from ${JSON.stringify(import.meta.resolve("lmdb"))};
const db = open({ path: ${JSON.stringify(path)}, noSync: true });
db.putSync("key", "value " + process.pid);
if (db.get("key") === undefined) throw new Error("nothing was read");
await db.close();`;

interface Subject {
  readonly says: string;
  /** The program's text; what it imports is built in `folder` before. */
  readonly program: (folder: Folder) => string;
  /** Bun's options for an executable of it; without them Bun runs the text. */
  readonly executable?: readonly string[];
}

const ofPackage = (folder: Folder): string => emdb(folder.at("dist/index.js"), folder.at("store"));
const compiled = ["--compile", "--format=esm"];

const subjects: Readonly<Record<string, Subject>> = {
  none: { says: "an empty program", program: () => "" },
  emdb: { says: "the package as it is published", program: ofPackage },
  "emdb-source": {
    says: "a module for each source file",
    program: (folder) => emdb(`${root}/src/index.ts`, folder.at("store")),
  },
  "emdb-compiled": { says: "an executable", program: ofPackage, executable: compiled },
  "emdb-bytecode": { says: "an executable with bytecode", program: ofPackage, executable: [...compiled, "--bytecode"] },
  sqlite: { says: "WAL, synchronous = NORMAL", program: (folder) => sqlite(folder.at("store")) },
  "sqlite-compiled": {
    says: "an executable",
    program: (folder) => sqlite(folder.at("store")),
    executable: compiled,
  },
  lmdb: { says: "noSync", program: (folder) => lmdb(folder.at("store")) },
};

function bun(folder: Folder, ...args: readonly string[]): void {
  const child = Bun.spawnSync([process.execPath, ...args], { cwd: folder.path, stdout: "ignore", stderr: "pipe" });
  if (child.exitCode !== 0) throw new Error(`bun ${args.join(" ")}: ${child.stderr.toString()}`);
}

/** What starts the subject's program once it is built. */
function built({ program, executable }: Subject, folder: Folder): readonly string[] {
  if (program === ofPackage) {
    bun(folder, `${root}/scripts/build.ts`, folder.at("dist"));
    // The crypto packages, which an executable takes in.
    symlinkSync(`${root}/node_modules`, folder.at("node_modules"));
  }
  writeFileSync(folder.at("program.js"), program(folder));
  if (executable === undefined) return [process.execPath, "program.js"];
  bun(folder, "build", ...executable, "program.js", "--outfile", folder.at("program"));
  return [folder.at("program")];
}

async function run(name: string, options: Options): Promise<Outcome> {
  const subject = subjects[name];
  if (subject === undefined) throw new Error(`no subject "${name}"; there are ${Object.keys(subjects).join(", ")}`);
  using folder = new Folder();
  const command = [...built(subject, folder)];
  const samples: { readonly processor: number; readonly clock: number; readonly rss: number }[] = [];
  // The first start makes the store.
  for (let start = 0; start <= numberOption(options, "starts"); start++) {
    const began = Bun.nanoseconds();
    const child = Bun.spawnSync(command, { cwd: folder.path, stdout: "ignore", stderr: "pipe" });
    const clock = (Bun.nanoseconds() - began) / 1e6;
    if (child.exitCode !== 0) throw new Error(`${command.join(" ")}: ${child.stderr.toString()}`);
    const { cpuTime, maxRSS } = child.resourceUsage;
    if (start > 0) samples.push({ processor: Number(cpuTime.total) / 1e3, clock, rss: maxRSS / 2 ** 20 });
  }
  const row = (what: string, unit: string, of: (sample: (typeof samples)[number]) => number): Row => {
    return { row: what, value: median(samples.map(of)), unit, better: "lower" };
  };
  const rows = [
    row("processor time of a start", "ms", ({ processor }) => processor),
    row("time of a start", "ms", ({ clock }) => clock),
    row("peak RSS", "MiB", ({ rss }) => rss),
  ];
  return { rows, settings: subject.says };
}

const workload: Workload = {
  title: "Start of a command-line program",
  notes: [
    "Medians over the starts; the store is there already. emdb's close syncs the log and writes a checkpoint image.",
  ],
  defaults: { peers: Object.keys(subjects).join(","), starts: "30" },
  unavailable: async (name) => (name === "lmdb" ? fileUnavailable(name) : undefined),
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
