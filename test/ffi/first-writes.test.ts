/** Which file systems record the first write to a block of reserved space, and so get zeros ahead of a log. */

import { expect, test } from "bun:test";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { hostSystem } from "../../src/ffi/host.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

function answerFor(folder: string): boolean {
  const file = openSync(join(folder, "file"), "w");
  try {
    return hostSystem().recordsFirstWrites?.(file) ?? false;
  } finally {
    closeSync(file);
  }
}

test.skipIf(process.platform !== "linux")("on Linux the answer is that of the file system: ext4 and XFS do", () => {
  using folder = temporaryFolder();
  const { type } = statfsSync(folder.path);
  expect(answerFor(folder.path)).toBe([0xef53, 0x58465342].includes(type));
});

test.skipIf(process.platform !== "linux" || emulator !== undefined || !existsSync("/dev/shm"))(
  "a file system in memory does not",
  () => {
    const folder = mkdtempSync("/dev/shm/emdb-");
    try {
      expect(answerFor(folder)).toBe(false);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);

test.skipIf(process.platform !== "win32")("nor does Windows", () => {
  expect(hostSystem().recordsFirstWrites).toBeUndefined();
});
