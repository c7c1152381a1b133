/**
 * Which files this process has mapped, and where: /proc/self/maps, proc_pid_maps(5). A line is
 *
 *     7eddd8000000-7ee1d8000000 r--s 00000000 fe:00 10166674    /path     addresses, rights, offset, device, inode, name
 *
 * where all but the inode is in hexadecimal. On a file system that gives a file other numbers there than statx(2) does
 * (btrfs, and overlays before Linux 6.8) nothing is found.
 */

import { nodeFs } from "./node-fs.ts";
import { attempt, identityOf } from "./surroundings.ts";
import type { FileMapping } from "./system.ts";

const LINE = /^([\da-f]+)-([\da-f]+) \S+ [\da-f]+ ([\da-f]+):([\da-f]+) (\d+)/gmu;
const LOW_BITS = 32n;

/** What is mapped of the file with an identity; undefined where the system does not tell. */
export function mappingsOf(identity: string): readonly FileMapping[] | undefined {
  const text = attempt(() => nodeFs().readFileSync("/proc/self/maps", "utf8"));
  if (typeof text === "number") return undefined;
  const found: FileMapping[] = [];
  for (const [, from, to, major, minor, inode] of text.matchAll(LINE)) {
    const number = BigInt(inode!);
    const file = {
      major: Number.parseInt(major!, 16),
      minor: Number.parseInt(minor!, 16),
      inode: [Number(number >> LOW_BITS), Number(BigInt.asUintN(32, number))],
    } as const;
    if (identityOf(file) !== identity) continue;
    const address = Number.parseInt(from!, 16);
    found.push({ address, bytes: Number.parseInt(to!, 16) - address });
  }
  return found;
}
