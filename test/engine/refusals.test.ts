/** What cannot be opened is refused with the right code, and nothing on the disk has changed by it. */

import { expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, sep } from "node:path";
import { Emdb } from "../../src/index.ts";
import { EmdbError } from "../../src/errors.ts";
import { makeFolders } from "../../src/engine/door.ts";
import { realLogPath } from "../../src/engine/open/open.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { Result, System } from "../../src/ffi/system.ts";
import { childCommand, emulator, sampleOf } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Random } from "../sim/random.ts";
import { EngineFixture, faulty } from "./engine-fixture.ts";
import { EVERYTHING, expectCode, tell } from "./fixture.ts";
import { systemWith } from "./verify-frames.ts";

setDefaultTimeout(120_000);

/** Every file of a folder with what is in it. */
function contentsOf(folder: string): string {
  const names = readdirSync(folder).sort();
  return names.map((name) => `${name} ${Bun.hash(readFileSync(`${folder}/${name}`)).toString(16)}`).join("\n");
}

const foreign: readonly { readonly name: string; of(): Uint8Array }[] = [
  { name: "a text", of: () => new TextEncoder().encode("Dear diary,\ntoday I was not adopted as a database.\n") },
  { name: "one byte", of: () => new Uint8Array(1) },
  { name: "zeros", of: () => new Uint8Array(8192) },
  { name: "a SQLite database", of: () => new TextEncoder().encode("SQLite format 3\0".padEnd(4096, "\0")) },
  {
    name: "random bytes",
    of() {
      const bytes = new Uint8Array(20_000);
      new Random(111).randomize(bytes);
      return bytes;
    },
  },
];

test.each(foreign)("$name is EMDB_NOT_A_DATABASE, byte for byte untouched, with nothing beside it", ({ of }) => {
  using folder = temporaryFolder();
  const path = folder.file("notes.txt");
  writeFileSync(path, of());
  for (const options of [{}, { createIfMissing: false }, { readOnly: true }]) {
    expect(expectCode("EMDB_NOT_A_DATABASE", () => Emdb.open(path, options)).path).toBe(path);
  }
  expect(readdirSync(folder.path)).toEqual(["notes.txt"]);
  expect(Buffer.compare(readFileSync(path), of())).toBe(0);
});

test("a database from the future is EMDB_VERSION, which names both versions, and untouched", async () => {
  using folder = temporaryFolder();
  const { closed } = await tell(folder.file("made.emdb"), EVERYTHING);
  const path = folder.file("future.emdb");
  closed[8] = 9;
  writeFileSync(path, closed);
  const before = contentsOf(folder.path);
  for (const options of [{}, { readOnly: true }]) {
    expect(expectCode("EMDB_VERSION", () => Emdb.open(path, options)).message).toMatch(/9.*1/);
  }
  expect(contentsOf(folder.path)).toBe(before);
});

test("an empty file becomes a database, as a new one does", () => {
  using folder = temporaryFolder();
  const path = folder.file("empty.emdb");
  writeFileSync(path, "");
  const db = Emdb.open(path);
  db.insert("a", "b");
  db.closeSync();
  const again = Emdb.open(path, { createIfMissing: false });
  expect(again.getText("a")).toBe("b");
  again.closeSync();
});

test("a folder at the path, a missing folder above it, and a file as that folder are typed errors that create nothing", () => {
  using folder = temporaryFolder();
  mkdirSync(folder.file("folder"));
  writeFileSync(folder.file("file"), "text");
  expectCode("EMDB_NOT_A_DATABASE", () => Emdb.open(folder.file("folder")));
  expectCode("EMDB_NOT_FOUND", () => Emdb.open(folder.file("missing/data.emdb")));
  expectCode("EMDB_NOT_FOUND", () => Emdb.open(folder.file("data.emdb"), { createIfMissing: false }));
  expect(readdirSync(folder.path).sort()).toEqual(["file", "folder"]);
  expect(readdirSync(folder.file("folder"))).toEqual([]);
});

test("a file where a folder should be is EMDB_NOT_FOUND that names it, whatever is asked for and however deep below", async () => {
  using folder = temporaryFolder();
  const file = folder.file("file");
  writeFileSync(file, "text");
  const db = Emdb.open(folder.file("data.emdb"));
  db.insert("a", "b");
  const message = `${JSON.stringify(file)} is a file, not a folder; no database can be in it`;
  for (const path of [join(file, "data.emdb"), join(file, "deeper", "still", "data.emdb")]) {
    for (const options of [{}, { readOnly: true }, { createIfMissing: false }])
      expect(expectCode("EMDB_NOT_FOUND", () => Emdb.open(path, options)).message).toBe(message);
    const backup = await db.backupTo(path).catch((error: unknown) => error);
    expect(backup).toMatchObject({ code: "EMDB_NOT_FOUND", message });
    const secret = await Emdb.enableEncryption(path, { passphrase: "secret" }).catch((error: unknown) => error);
    expect(secret).toMatchObject({ code: "EMDB_NOT_FOUND", message });
    for (const [from, to] of [[path, folder.file("saved.emdb")] as const, [folder.file("data.emdb"), path] as const]) {
      const salvaged = await Emdb.salvage(from, to).catch((error: unknown) => error);
      expect(salvaged).toMatchObject({ code: "EMDB_NOT_FOUND", message });
    }
    expect(Emdb.lockHolder(path)).toBeUndefined();
    Emdb.breakLock(path);
  }
  for (const dataRoot of [file, join(file, "deeper")])
    expectCode("EMDB_NOT_FOUND", () => Emdb.open({ dataRoot, appName: "app", databaseName: "data.emdb" }));
  await db.close();
  expect(readdirSync(folder.path).sort()).toEqual(["data.emdb", "data.emdb.hint", "data.emdb.lock", "file"]);
});

test("a location whose names or options are refused, or that is to be there and is not, makes no folder", () => {
  using folder = temporaryFolder();
  const dataRoot = folder.file("root");
  const refused: object[] = [
    ...[".", "..", "NUL", "C:x", "a\0b", "a/b", ""].flatMap((name) => [{ appName: name }, { databaseName: name }]),
    { rangeScans: 1 },
    { cipher: "aes-256-gcm" },
    { encryption: { key: new Uint8Array(3) } },
  ];
  const open = (options: object) => Emdb.open({ dataRoot, appName: "app", databaseName: "data.emdb", ...options });
  for (const options of refused) expectCode("EMDB_INVALID_CONFIG", () => open(options));
  for (const options of [{ createIfMissing: false }, { readOnly: true }]) {
    expectCode("EMDB_NOT_FOUND", () => open(options));
  }
  expect(existsSync(dataRoot)).toBe(false);
  open({}).closeSync();
  expect(existsSync(join(dataRoot, "app", "data.emdb"))).toBe(true);
});

test.skipIf(process.platform === "win32")("a link into what is a file is EMDB_NOT_FOUND too", () => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("file"), "text");
  symlinkSync(folder.file("file/data.emdb"), folder.file("link"));
  const { message } = expectCode("EMDB_NOT_FOUND", () => Emdb.open(folder.file("link")));
  expect(message).toContain(`${JSON.stringify(folder.file("file"))} is a file`);
});

test("a file where a folder should be is told alike where the system calls it missing and passes its path on as real", () => {
  using folder = temporaryFolder();
  const [file, path] = [folder.file("file"), folder.file("file/data.emdb")];
  writeFileSync(file, "text");
  const host = hostSystem();
  const realPath = (name: string): string | Result =>
    name.startsWith(file + sep) ? -Errno.ENOENT : host.realPath(name);
  const { message } = expectCode("EMDB_NOT_FOUND", () => realLogPath(systemWith({ realPath }), path));
  expect(message).toStartWith(`${JSON.stringify(file)} is a file`);
});

test.skipIf(process.platform === "win32")("a pipe at the path is EMDB_NOT_A_DATABASE and not waited for", () => {
  using folder = temporaryFolder();
  const path = folder.file("pipe");
  if (Bun.spawnSync(["mkfifo", path]).exitCode !== 0) return;
  expectCode("EMDB_NOT_A_DATABASE", () => Emdb.open(path));
  expect(readdirSync(folder.path)).toEqual(["pipe"]);
});

/** Root may do everything: for the time of a call it becomes somebody who may not. */
function asNobody<T>(call: () => T): T {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65534);
  try {
    return call();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}

// qemu-user changes the user of the calling thread alone, as the bare system call does.
test.skipIf(process.platform === "win32" || emulator === "qemu")(
  "a folder that may not be written and a file that may not be read are EMDB_IO with EACCES, and stay as they are",
  async () => {
    using folder = temporaryFolder();
    mkdirSync(folder.file("locked"));
    const { closed } = await tell(folder.file("made.emdb"), EVERYTHING);
    writeFileSync(folder.file("locked/data.emdb"), closed);
    chmodSync(folder.path, 0o755);
    chmodSync(folder.file("locked/data.emdb"), 0o644);
    chmodSync(folder.file("locked"), 0o555);
    const refused = (name: string): string | undefined =>
      asNobody(() => expectCode("EMDB_IO", () => Emdb.open(folder.file(`locked/${name}`)))).errno;
    expect([refused("new.emdb"), refused("data.emdb")]).toEqual(["EACCES", "EACCES"]);
    asNobody(() => Emdb.open(folder.file("locked/data.emdb"), { readOnly: true }).closeSync());
    chmodSync(folder.file("locked/data.emdb"), 0);
    expect(refused("data.emdb")).toBe("EACCES");
    chmodSync(folder.file("locked"), 0o700);
    chmodSync(folder.file("locked/data.emdb"), 0o600);
    expect(readdirSync(folder.file("locked"))).toEqual(["data.emdb"]);
    expect(readFileSync(folder.file("locked/data.emdb")).equals(closed)).toBe(true);
  },
);

test("what the system refuses for want of permission or on a read-only file system is EMDB_IO and leaves nothing", () => {
  using folder = temporaryFolder();
  for (const errno of ["EACCES", "EPERM", "EROFS"] as const) {
    const system = faulty(hostSystem(), (call, args) =>
      call === "open" && args[1] !== "read" ? -Errno[errno] : undefined,
    );
    const error = expectCode("EMDB_IO", () => new EngineFixture(folder.file("data.emdb"), system));
    expect([error.syscall, error.errno]).toEqual(["open", errno]);
    expect(readdirSync(folder.path)).toEqual([]);
  }
});

/** Calls that an open may make and that may fail. */
const FALLIBLE = new Set<keyof System>([
  "open",
  "read",
  "write",
  "sync",
  "syncFolder",
  "truncate",
  "size",
  "status",
  "statusOf",
  "rename",
  "lock",
  "map",
  "reserve",
  "commit",
  "allocate",
]);

/** Opens again and again, the first time with the first call failing, then the second, until one open gets through. */
function failEachCall(path: string, errno: number, prepare: () => void, onFailure: () => void): number {
  for (let failing = 1; ; failing += 1) {
    prepare();
    let calls = 0;
    let failed = "";
    const system = faulty(hostSystem(), (call) => {
      if (!FALLIBLE.has(call)) return undefined;
      calls += 1;
      if (calls !== failing) return undefined;
      failed = call;
      return -errno;
    });
    try {
      using fixture = new EngineFixture(path, system);
      // Some failures are bridged: another size is tried, a missing sidecar is none.
      if (failed === "") return failing;
      fixture.engine.insert(fixture.engine.defaultSpace, "works", "all the same", 0);
      fixture.sync.flush();
    } catch (error) {
      if (!(error instanceof EmdbError)) throw new Error(`${failed} (call ${failing})`, { cause: error });
      // A lock file that could not be locked may be somebody else's by now: it stays, empty.
      if (failed === "lock") hostSystem().unlink(`${path}.lock`);
      try {
        onFailure();
      } catch (cause) {
        throw new Error(`after a failed ${failed} (call ${failing})`, { cause });
      }
    }
  }
}

test.each(sampleOf(["EIO", "EMFILE", "ENOMEM", "ENOSPC"] as const, 1))(
  "an open that fails at any call with %s leaves a database as it was",
  async (errno) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const story = await tell(folder.file("made.emdb"), EVERYTHING, 2);
    const whole = story.closed;
    const torn = story.crashed.slice(0, story.steps.at(-1)!.end - 3);
    for (const image of [whole, torn]) {
      let before = "";
      const callCount = failEachCall(
        path,
        Errno[errno],
        () => {
          removeSidecars(path);
          writeFileSync(path, image);
          before = contentsOf(folder.path);
        },
        () => {
          const now = contentsOf(folder.path);
          if (now === before) return;
          // The cut of the torn tail is the one thing that an open may have done before it failed.
          expect(image === torn && readFileSync(path).length < torn.length).toBe(true);
          expect(readdirSync(folder.path)).not.toContain("data.emdb.lock");
        },
      );
      expect(callCount).toBeGreaterThan(8);
    }
  },
);

test.each(sampleOf(["EIO", "EMFILE", "ENOMEM", "ENOSPC"] as const, 1))(
  "a database that cannot be made for %s at any call is not there, and neither is anything beside it",
  (errno) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const callCount = failEachCall(
      path,
      Errno[errno],
      () => {
        removeSidecars(path);
        if (existsSync(path)) hostSystem().unlink(path);
      },
      () => expect(readdirSync(folder.path)).toEqual([]),
    );
    expect(callCount).toBeGreaterThan(12);
  },
);

function removeSidecars(path: string): void {
  for (const sidecar of [".lock", ".hint", ".new"]) if (existsSync(path + sidecar)) hostSystem().unlink(path + sidecar);
}

test.skipIf(process.platform !== "linux")(
  "a process that is out of file handles gets EMDB_IO with EMFILE, and opens once it has some",
  () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    Emdb.open(path).closeSync();
    const script = `
    const { Emdb } = await import(${JSON.stringify(`${import.meta.dir}/../../src/index.ts`)});
    const { openSync, closeSync } = await import("node:fs");
    const path = ${JSON.stringify(path)};
    Emdb.open(path).closeSync();
    const taken = [];
    try { for (;;) taken.push(openSync("/dev/null", "r")); } catch {}
    let said = [];
    for (let free = 0; free < 3; free += 1) {
      try { Emdb.open(path).closeSync(); said.push("open"); } catch (error) { said.push(error.code + " " + error.errno); }
      closeSync(taken.pop());
    }
    for (const file of taken) closeSync(file);
    const db = Emdb.open(path);
    db.insert("a", "b");
    db.closeSync();
    console.log(said.join(", "));
  `;
    const child = Bun.spawnSync(["sh", "-c", `ulimit -n 64; exec "$0" "$@"`, ...childCommand(), "-e", script]);
    expect(child.stderr.toString()).toBe("");
    expect(child.stdout.toString().trim()).toMatch(
      /^EMDB_IO EMFILE, (EMDB_IO EMFILE, (EMDB_IO EMFILE|open)|open, open)$/,
    );
    const db = Emdb.open(path);
    expect(db.getText("a")).toBe("b");
    db.closeSync();
  },
);

test.skipIf(process.platform !== "linux")("opening and closing leaves no file handle and no mapping behind", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const holdings = (): number[] => {
    const maps = readFileSync("/proc/self/maps", "utf8")
      .split("\n")
      .filter((line) => line.includes(folder.path)).length;
    const probe = openSync("/dev/null", "r");
    closeSync(probe);
    return [maps, readdirSync("/proc/self/fd").length];
  };
  const round = (): void => {
    const db = Emdb.open(path);
    db.insert("a", "b");
    db.flushSync();
    const reader = Emdb.open(path, { readOnly: true });
    reader.closeSync();
    db.closeSync();
  };
  round();
  const before = holdings();
  for (let count = 0; count < 20; count += 1) round();
  writeFileSync(folder.file("bad.emdb"), "not one");
  for (let count = 0; count < 20; count += 1)
    expectCode("EMDB_NOT_A_DATABASE", () => Emdb.open(folder.file("bad.emdb")));
  expect(holdings()).toEqual(before);
});

test("a folder that cannot be made is told by its own call", () => {
  using folder = temporaryFolder();
  const system = faulty(hostSystem(), (call) => (call === "makeFolder" ? -Errno.EPERM : undefined));
  const environment = { system, defer: (work: () => void) => void setImmediate(work), hasWorkers: false };
  const error = expectCode("EMDB_IO", () => makeFolders(environment, folder.file("none/data.emdb")));
  expect([error.syscall, error.errno, error.path]).toEqual(["mkdir", "EPERM", folder.file("none")]);
});

test("a transaction's object shows nothing of what it works with", () => {
  using db = Emdb.openInMemory();
  db.transaction((tx) => {
    tx.insert("a", "1");
    const views = [tx, tx.namespace("b")];
    for (const view of views) {
      expect(JSON.stringify(view)).toBe("{}");
      expect(Bun.inspect(view).length).toBeLessThan(1000);
      expect(Object.keys(view)).toEqual([]);
    }
  });
});
