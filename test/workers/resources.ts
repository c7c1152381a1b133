/** What this process holds of the system: threads, open files, and mappings of files and of large memory. Linux only. */

import { existsSync, readFileSync, readdirSync, readlinkSync } from "node:fs";

export interface Resources {
  readonly threads: number;
  /** Open files below a folder. */
  readonly files: number;
  /** Their names below the folder, in order: which one is one too many. */
  readonly fileNames: readonly string[];
  /** The lines about these mappings. */
  readonly mappingLines: readonly string[];
  /** Mappings of files below a folder. */
  readonly fileMappings: number;
  /** Mappings of 1 GiB or more: each open database has one for its index, one in memory one more. */
  readonly largeMappings: number;
}

export const canCount = existsSync("/proc/self/maps") && process.env["EMDB_TEST_EMULATOR"] === undefined;

export function resourcesIn(folder: string): Resources {
  const maps = readFileSync("/proc/self/maps", "utf8").trim().split("\n");
  const bytesOf = (line: string): number => {
    const [from = "0", to = "0"] = line.split(" ")[0]!.split("-");
    return Number.parseInt(to, 16) - Number.parseInt(from, 16);
  };
  const files = readdirSync("/proc/self/fd")
    .map((fd) => linkOf(`/proc/self/fd/${fd}`))
    .filter((name) => name.startsWith(folder));
  const mapped = maps.filter((line) => line.includes(folder));
  return {
    threads: readdirSync("/proc/self/task").length,
    files: files.length,
    fileNames: files.map((name) => name.slice(folder.length + 1)).sort(),
    mappingLines: mapped,
    fileMappings: mapped.length,
    largeMappings: maps.filter((line) => line.includes(" 00:00 0") && bytesOf(line) >= 2 ** 30).length,
  };
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
