/** One death on a real kernel, by a seed: of a process, or of the file system under it; and what is found afterwards. */

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { compactPath, createPath, hintPath, lockPath, newHintPath } from "../../src/engine/files/siblings.ts";
import { Emdb } from "../../src/index.ts";
import { fileIdOf } from "../../src/log/header.ts";
import { Random } from "../sim/random.ts";
import { removeTree, type TemporaryFolder } from "../support/temporary-folder.ts";
import { expectSoundAfterDeath } from "./after-death.ts";
import { removeAll, type MortalDisk } from "./disk.ts";
import { KernelChild } from "./host.ts";
import { ENDED, kernelScript, oracleOf } from "./script.ts";

const SCRIPT_LENGTH = 400;
/** The files of a database that is there, the siblings that it makes included. */
function placesOf(path: string): string[] {
  const log = { path, fileId: fileIdOf(readFileSync(path)) };
  const compact = compactPath(log);
  return [path, hintPath(path), newHintPath(log), lockPath(path), compact, `${compact}-moves`];
}

/** A folder for the database. */
export function room(folder: TemporaryFolder, name: string): { readonly path: string; readonly inside: string } {
  const inside = folder.file(name);
  removeTree(inside);
  mkdirSync(inside);
  const path = join(inside, "data.emdb");
  return { path, inside };
}

/** A folder for a database, and paths that calls on it name. */
export interface Room {
  readonly path: string;
  readonly places: readonly string[];
}

/** The same, with the paths that the making of a database names. */
export function roomForDatabase(folder: TemporaryFolder, name: string): Room {
  const { path, inside } = room(folder, name);
  return { path, places: [inside, path, createPath(path), hintPath(path), lockPath(path)] };
}

/** The same with an empty database in it, and the paths of everything that may come to be there. */
export function roomWithDatabase(folder: TemporaryFolder, name: string): Room {
  const { path, inside } = room(folder, name);
  Emdb.open(path).closeSync();
  return { path, places: [inside, ...placesOf(path)] };
}

/** Kills a process at a moment that nobody chose. @throws when what it leaves is not right */
export async function killOnce(
  seed: number,
  { folder, program, lane }: { readonly folder: TemporaryFolder; readonly program: string; readonly lane: number },
): Promise<"midway" | "late"> {
  const { path } = room(folder, `lane ${lane}`);
  const mode = seed % 2 === 0 ? "async" : "";
  const progressPath = folder.file(`progress ${lane}`);
  const tellAt = 1 + (seed % 150);
  const child = new KernelChild({ program, path, progressPath, seed, length: SCRIPT_LENGTH, mode, tellAt });
  await child.hasBegun();
  child.kill();
  await child.ended();
  const { ended, progress } = child.progress;
  try {
    if (ended === ENDED.untyped || ended === ENDED.typed) throw new Error("an operation threw before the kill");
    expectSoundAfterDeath(path, { oracle: oracleOf(kernelScript(seed, SCRIPT_LENGTH)), progress });
  } catch (error) {
    throw new Error(`killed in script ${seed}: ${String(error)}`, { cause: error });
  }
  return ended === ENDED.running ? "midway" : "late";
}

/** Ends the file system under a process, brings it back, and leaves it empty. @throws when what is there is not right */
export async function dieOnce(
  seed: number,
  { folder, program, disk }: { readonly folder: TemporaryFolder; readonly program: string; readonly disk: MortalDisk },
): Promise<{ readonly acknowledged: number; readonly isMidway: boolean }> {
  const random = new Random(seed);
  const path = join(disk.at, "data.emdb");
  const mode = seed % 2 === 0 ? "async" : "";
  const progressPath = folder.file("progress");
  const tellAt = 1 + random.below(120);
  const child = new KernelChild({ program, path, progressPath, seed, length: SCRIPT_LENGTH, mode, tellAt });
  await child.hasBegun();
  // Before the end, so that nothing counts which was acknowledged too late.
  const { acknowledged } = child.progress;
  disk.die(random);
  child.kill();
  await child.ended();
  const { begun: issued, ended } = child.progress;
  disk.revive();
  try {
    if (ended === ENDED.untyped) throw new Error("an operation threw what no caller should see");
    expectSoundAfterDeath(path, {
      oracle: oracleOf(kernelScript(seed, SCRIPT_LENGTH)),
      progress: { acknowledged, issued },
    });
  } catch (error) {
    throw new Error(`the file system died in script ${seed}: ${String(error)}`, { cause: error });
  }
  removeAll(disk.at);
  return { acknowledged, isMidway: ended !== ENDED.through };
}
