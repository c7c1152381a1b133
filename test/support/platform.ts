/**
 * Where a test runs, and how it starts a child there.
 *
 * The suite also runs on Windows x64 under Wine and on Linux arm64 under qemu-user (`.ci/wine.sh`, `.ci/arm64.sh`).
 * The scripts set two variables: EMDB_TEST_EMULATOR names the emulator, and EMDB_TEST_EXEC is the command in front of
 * every program that a test starts (qemu-user cannot start a program of its own architecture by itself).
 */

import { test } from "bun:test";
import { statfsSync } from "node:fs";
import list from "../platform-exceptions.json" with { type: "json" };

export type Emulator = "wine" | "qemu";

export interface PlatformException {
  readonly emulators: readonly Emulator[];
  /** The test's file, from the repository's root. */
  readonly file: string;
  /** The test's title, word for word. */
  readonly title: string;
  /** What the emulator cannot do, as a sentence. */
  readonly reason: string;
}

export const platformExceptions = list.exceptions as readonly PlatformException[];

const named = process.env["EMDB_TEST_EMULATOR"];
export const emulator: Emulator | undefined = named === "wine" || named === "qemu" ? named : undefined;

/**
 * Under an emulator the first of them alone: of what runs the same on every platform, and takes many times as long there,
 * as many as show what the platform does.
 */
export function sampleOf<T>(all: readonly T[], count: number): readonly T[] {
  return emulator === undefined ? all : all.slice(0, count);
}

/** An overlay and a btrfs (linux/magic.h). */
const NAMES_OTHER_DEVICES: ReadonlySet<number> = new Set([0x794c7630, 0x9123683e]);

/** Whether a folder's file system names other devices in the list of what is mapped than where it is asked for a file. */
export function namesOtherDevices(folder: string): boolean {
  return process.platform === "linux" && NAMES_OTHER_DEVICES.has(statfsSync(folder).type);
}

/** The command line that starts `program` here: `Bun.spawn([...childCommand(), "script.ts"])` starts Bun. */
export function childCommand(program: string = process.execPath): string[] {
  const prefix = (process.env["EMDB_TEST_EXEC"] ?? "").split(" ").filter((word) => word !== "");
  return [...prefix, program];
}

/** What a child said on an output, as it would be said anywhere: Bun under Wine ends lines in CR LF, and begins by saying that its folders do not match. */
export function childText(output: string | Uint8Array): string {
  const text = typeof output === "string" ? output : Buffer.from(output).toString();
  return text.replaceAll("\r", "").replaceAll(/^Internal error: directory mismatch for .*\n/gm, "");
}

/** True when `test/platform-exceptions.json` says that this emulator cannot run the test with this title. */
export function isExcepted(title: string): boolean {
  return platformExceptions.some(
    (entry) => emulator !== undefined && entry.title === title && entry.emulators.includes(emulator),
  );
}

/** As `test`, for a test that `test/platform-exceptions.json` lists: skipped where its emulator cannot do it. */
export function testUnlessExcepted(title: string, body: () => void | Promise<void>, timeoutMs?: number): void {
  test.skipIf(isExcepted(title))(title, body, timeoutMs);
}
