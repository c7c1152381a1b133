/** The notes are one executable file with its database inside: it runs in an empty folder, with no node_modules anywhere. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync } from "node:fs";
import { basename, join } from "node:path";
import { childCommand, childText, emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Forms, executables, type ExecutableName } from "../workers/forms.ts";

setDefaultTimeout(240_000);
const folder = temporaryFolder();
/** Built beforehand where Bun is emulated. */
const prebuilt = process.env["EMDB_TEST_FORMS"];
const forms = new Forms(prebuilt ?? folder.path, process.platform === "win32");
const all = Object.keys(executables) as ExecutableName[];
/** Where a start takes a second, the last is all that the two before it are. */
const names = emulator === undefined ? all : [all[0]!, all.at(-1)!];

beforeAll(() => {
  if (prebuilt !== undefined) return;
  forms.makeProject();
  for (const name of names) forms.buildExecutable("notes", name);
  renameSync(join(forms.project, "node_modules"), folder.file("hidden"));
}, 240_000);

afterAll(() => folder[Symbol.dispose]());

interface Said {
  readonly said: string;
  readonly errors: string;
  readonly exitCode: number | null;
}

/** A copy of the executable in an empty folder, and what it answers to commands. */
function installed(name: ExecutableName): { readonly place: string; notes(command: string, env?: object): Said } {
  const place = folder.file(`clean-${crypto.randomUUID()}`);
  mkdirSync(place);
  const executable = forms.executable("notes", name);
  const copy = join(place, basename(executable));
  cpSync(executable, copy);
  return {
    place,
    notes(command, env = {}) {
      const child = Bun.spawnSync([...childCommand(copy), ...command.split(" ")], {
        cwd: place,
        env: { ...process.env, NOTES_FILE: join(place, "notes.emdb"), ...env },
      });
      return { said: childText(child.stdout).trim(), errors: childText(child.stderr).trim(), exitCode: child.exitCode };
    },
  };
}

const fine = (said: string): Said => ({ said, errors: "", exitCode: 0 });

test.each(names)("compiled %s, it keeps, finds and forgets notes over its runs", (name) => {
  const { place, notes } = installed(name);
  expect(notes("list")).toEqual(fine("nothing"));
  expect(notes("add water the plants")).toEqual(fine("kept as 1"));
  expect(notes("add buy bread")).toEqual(fine("kept as 2"));
  expect(notes("find plants")).toEqual(fine("1. water the plants"));
  expect(notes("remove 1")).toEqual(fine("forgot 1"));
  expect(notes("remove 1")).toEqual({ ...fine("there is no note 1"), exitCode: 1 });
  expect(notes("add sleep")).toEqual(fine("kept as 3"));
  expect(notes("list")).toEqual(fine("2. buy bread\n3. sleep"));
  expect(notes("help").said).toContain("notes add TEXT");
  expect(notes("sing")).toMatchObject({ said: "", errors: expect.stringContaining("no command sing"), exitCode: 2 });
  const files = readdirSync(place).filter((file) => !file.startsWith("notes.emdb"));
  expect(files).toEqual([basename(forms.executable("notes", name))]);
});

test("it makes its own folder where the platform keeps application data", () => {
  const { place, notes } = installed("plainly");
  const env = { NOTES_FILE: "", HOME: place, XDG_DATA_HOME: join(place, "data"), LOCALAPPDATA: join(place, "data") };
  expect(notes("add hello", env)).toEqual(fine("kept as 1"));
  expect(existsSync(notes("where", env).said)).toBe(true);
});

test.each(names)("compiled %s, it keeps an encrypted database, which opens with its passphrase alone", (name) => {
  const { place, notes } = installed(name);
  const right = { NOTES_PASSPHRASE: "correct horse" };
  expect(notes("add a secret that nobody may read", right)).toEqual(fine("kept as 1"));
  expect(notes("list", right)).toEqual(fine("1. a secret that nobody may read"));
  expect(notes("list", { NOTES_PASSPHRASE: "wrong" })).toMatchObject({
    exitCode: 1,
    errors: expect.stringMatching(/^EMDB_KEY_MISMATCH/),
  });
  expect(notes("list")).toMatchObject({ exitCode: 1, errors: expect.stringMatching(/^EMDB_INVALID_CONFIG/) });
  expect(readFileSync(join(place, "notes.emdb")).includes("secret that nobody")).toBe(false);
});
