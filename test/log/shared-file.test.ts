/** Whoever finds a file in the shared words closes what its owner has left open, and nothing else. */

import { expect, test } from "bun:test";
import type { FileStatus, System } from "../../src/ffi/system.ts";
import {
  closeFile,
  copyFile,
  forgetFile,
  lendFile,
  nameFile,
  namedHandle,
  openHandle,
  type SharedFile,
} from "../../src/log/shared-file.ts";

/** A file by its identity, with when it was made behind an `@` if the system tells. */
function fileOf(file: string): FileStatus {
  const [identity = "", born] = file.split("@");
  return { kind: "file", bytes: 0, identity, ...(born === undefined ? {} : { born: Number(born) }) };
}

/** A process with files by handle; closing what is not open is an error. */
class Process {
  readonly open = new Map<number, string>();
  /** The thread dies right after it has closed something. */
  diesAfterClose = false;
  readonly system = {
    statusOf: (handle: number) => {
      const file = this.open.get(handle);
      return file === undefined ? -9 : fileOf(file);
    },
    close: (handle: number) => {
      if (!this.open.delete(handle)) throw new Error(`${handle} is not open`);
      if (this.diesAfterClose) throw new Error("dead");
      return 0;
    },
  } as unknown as System;
}

function words(): SharedFile {
  return { numbers: new Float64Array(2), handleAt: 0, stateAt: 1 };
}

test("a file that is named is closed once, and then nothing is named", () => {
  const process = new Process();
  const file = words();
  process.open.set(7, "1:2");
  nameFile(process.system, file, 7);
  expect([namedHandle(file), openHandle(file)]).toEqual([7, 7]);
  closeFile(process.system, file);
  closeFile(process.system, file);
  expect([process.open.size, namedHandle(file)]).toEqual([0, undefined]);
});

test.each(["nothing", "another file", "a later file with its inode", "the file itself"])(
  "who follows a thread that died while it closed a file finds %s at its number, and closes only the file itself",
  (what) => {
    const process = new Process();
    const file = words();
    process.open.set(7, "1:2@17.5");
    nameFile(process.system, file, 7);
    process.diesAfterClose = true;
    expect(() => closeFile(process.system, file)).toThrow("dead");
    process.diesAfterClose = false;
    expect([namedHandle(file), openHandle(file)]).toEqual([7, undefined]);
    if (what === "another file") process.open.set(7, "1:3@17.5");
    if (what === "a later file with its inode") process.open.set(7, "1:2@17.6");
    if (what === "the file itself") process.open.set(7, "1:2@17.5");
    closeFile(process.system, file);
    expect(process.open.size).toBe(what.startsWith("a") ? 1 : 0);
    expect(namedHandle(file)).toBe(undefined);
  },
);

test("a file that cannot be asked what it is is closed by its owner, and left alone by who follows a dead one", () => {
  const process = new Process();
  const file = words();
  nameFile(process.system, file, 7);
  process.open.set(7, "1:2");
  closeFile(process.system, file);
  expect(process.open.size).toBe(0);
  nameFile(process.system, file, 7);
  process.open.set(7, "1:2");
  process.diesAfterClose = true;
  expect(() => closeFile(process.system, file)).toThrow("dead");
  process.open.set(7, "1:2");
  closeFile(process.system, file);
  expect([process.open.size, namedHandle(file)]).toEqual([1, undefined]);
});

test("a file that was lent is closed only while it still is that file, and not once it was forgotten", () => {
  const process = new Process();
  const file = words();
  process.open.set(7, "1:2");
  lendFile(file, 7, fileOf("1:3"));
  closeFile(process.system, file);
  lendFile(file, 7, fileOf("1:2"));
  forgetFile(file);
  closeFile(process.system, file);
  expect(process.open.size).toBe(1);
  lendFile(file, 7, fileOf("1:2"));
  const other = words();
  copyFile(file, other);
  closeFile(process.system, other);
  expect(process.open.size).toBe(0);
});
