/** A backup is one moment, whole, self-contained and put in place at once; what is in its way is refused, and nothing is left. */

import { expect, setDefaultTimeout, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import type { OpenedEngine } from "../engine/open-engine.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { EmdbErrorCode } from "../../src/errors.ts";
import { Emdb, type OpenOptions } from "../../src/index.ts";
import { EngineFixture, faulty, type Fault } from "../engine/engine-fixture.ts";
import { EVERYTHING, stateOf } from "../engine/fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { canCount, resourcesIn } from "../workers/resources.ts";

setDefaultTimeout(120_000);

const BEFORE = "what was there before";
const KEY = new Uint8Array(32).fill(3);

async function codeOf(work: Promise<unknown>): Promise<EmdbErrorCode | "fine"> {
  return work.then(
    () => "fine" as const,
    (error: unknown) => (error as { code: EmdbErrorCode }).code,
  );
}

function fill(db: Emdb, count = 4000): void {
  for (const step of EVERYTHING) step(db);
  db.insertMany(Array.from({ length: count }, (_, index) => [`key ${index}`, `of ${index}`.padEnd(100)] as const));
}

const ways: readonly (readonly [string, OpenOptions])[] = [
  ["plain", {}],
  ["with ranges", { rangeScans: true }],
  ["with aes-256-gcm", { encryption: { key: KEY } }],
  ["with chacha20-poly1305", { encryption: { key: KEY }, cipher: "chacha20-poly1305" }],
];

/** Options may be used up by an open. */
const fresh = (options: OpenOptions): OpenOptions =>
  options.encryption === undefined ? options : { ...options, encryption: { key: KEY.slice() } };

test.each(ways)(
  "a backup of a database %s opens by itself, with the same records, and is written on",
  async (_, options) => {
    using folder = temporaryFolder();
    using elsewhere = temporaryFolder();
    using db = Emdb.open(folder.file("data.emdb"), fresh(options));
    fill(db, 500);
    await db.backupTo(elsewhere.file("copy.emdb"));
    expect(readdirSync(elsewhere.path)).toEqual(["copy.emdb"]);
    const copy = Emdb.open(elsewhere.file("copy.emdb"), fresh(options));
    expect(copy.recovery.tornBytes).toBe(0);
    expect(stateOf(copy)).toBe(stateOf(db));
    expect((await copy.verify()).problems).toEqual([]);
    copy.insert("only", "in the copy");
    await copy.compact();
    copy.closeSync();
    const again = Emdb.open(elsewhere.file("copy.emdb"), fresh(options));
    expect(again.getText("only")).toBe("in the copy");
    expect(db.containsKey("only")).toBe(false);
    again.closeSync();
  },
);

test("a backup of a database in memory is a file that opens", async () => {
  using folder = temporaryFolder();
  using db = Emdb.openInMemory({ rangeScans: true });
  fill(db, 500);
  await db.backupTo(folder.file("copy.emdb"));
  using copy = Emdb.open(folder.file("copy.emdb"), { rangeScans: true });
  expect(stateOf(copy)).toBe(stateOf(db));
});

test("a backup of a database that is only read works, and compacting it is EMDB_READ_ONLY", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  {
    using db = Emdb.open(path);
    fill(db, 500);
  }
  const before = readFileSync(path);
  using db = Emdb.open(path, { readOnly: true });
  expect(await codeOf(db.compact())).toBe("EMDB_READ_ONLY");
  await db.backupTo(folder.file("copy.emdb"));
  expect(readFileSync(path).equals(before)).toBe(true);
  using copy = Emdb.open(folder.file("copy.emdb"));
  expect(stateOf(copy)).toBe(stateOf(db));
});

test("the source under any spelling, and every file of its own, is EMDB_INVALID_CONFIG and stays as it was", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const db = Emdb.open(path);
  fill(db, 100);
  await db.checkpoint();
  symlinkSync(path, folder.file("symbolic"));
  linkSync(path, folder.file("hard"));
  symlinkSync(folder.path, folder.file("folder"));
  linkSync(path, folder.file("victim.lock"));
  linkSync(path, folder.file("other.hint"));
  const names = readdirSync(folder.path).sort();
  // Under Wine `symlinkSync` makes nothing and says nothing.
  const links = names.includes("symbolic") ? ["symbolic", "folder/data.emdb", "folder/../data.emdb"] : [];
  const own = [".hint", ".lock", ".emdb-compact", ".emdb-compact-moves", ".emdb-replaced", ".emdb-new"];
  const spellings = ["data.emdb", "hard", "victim", "other", ...links];
  // Windows and macOS find a file under its name in capitals.
  const capitals = ["DATA.EMDB.HINT", "DATA.EMDB.LOCK", ...own.map((suffix) => `data.emdb${suffix.toUpperCase()}`)];
  for (const target of [...spellings, ...own.map((suffix) => `data.emdb${suffix}`), ...capitals]) {
    expect([target, await codeOf(db.backupTo(folder.file(target)))]).toEqual([target, "EMDB_INVALID_CONFIG"]);
    expect(readdirSync(folder.path).sort()).toEqual(names);
  }
  const state = stateOf(db);
  db.insert("afterwards", "written");
  db.remove("afterwards");
  db.closeSync();
  using again = Emdb.open(path);
  expect(stateOf(again)).toBe(state);
});

test("a target whose name is that of a file of the source's by another encoding of its letters is EMDB_INVALID_CONFIG", async () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("na\u00efve.emdb"));
  fill(db, 10);
  // macOS may find the one under the name of the other.
  for (const ending of [".hint", ".lock"])
    expect(await codeOf(db.backupTo(folder.file(`nai\u0308ve.emdb${ending}`)))).toBe("EMDB_INVALID_CONFIG");
  expect(await codeOf(db.backupTo(folder.file("nai\u0308ve 2.emdb")))).toBe("fine");
});

test("a target whose name differs from the source's in capitals alone is another file, where the system says so", async () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"));
  fill(db, 100);
  await db.checkpoint();
  const isOne = existsSync(folder.file("DATA.EMDB"));
  expect(await codeOf(db.backupTo(folder.file("DATA.EMDB")))).toBe(isOne ? "EMDB_INVALID_CONFIG" : "fine");
  await db.checkpoint();
  using copy = Emdb.open(folder.file("DATA.EMDB"));
  expect(stateOf(copy)).toBe(stateOf(db));
});

test.each([".hint", ".lock"])(
  "a target whose %s is the source is EMDB_INVALID_CONFIG and harms nothing",
  async (suffix) => {
    using folder = temporaryFolder();
    const path = folder.file(`data${suffix}`);
    const db = Emdb.open(path);
    fill(db, 100);
    const state = stateOf(db);
    expect(await codeOf(db.backupTo(folder.file("data")))).toBe("EMDB_INVALID_CONFIG");
    db.closeSync();
    using again = Emdb.open(path, { createIfMissing: false });
    expect(stateOf(again)).toBe(state);
    expect(existsSync(folder.file("data"))).toBe(false);
  },
);

test("a target that is open is EMDB_LOCKED, a missing folder EMDB_NOT_FOUND, a folder EMDB_INVALID_CONFIG", async () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"));
  fill(db, 100);
  using other = Emdb.open(folder.file("other.emdb"));
  other.insert("here", "still");
  mkdirSync(folder.file("folder"));
  const names = readdirSync(folder.path).sort();
  expect(await codeOf(db.backupTo(folder.file("other.emdb")))).toBe("EMDB_LOCKED");
  expect(await codeOf(db.backupTo(folder.file("none/copy.emdb")))).toBe("EMDB_NOT_FOUND");
  expect(await codeOf(db.backupTo(folder.file("folder")))).toBe("EMDB_INVALID_CONFIG");
  expect(readdirSync(folder.path).sort()).toEqual(names);
  expect(other.getText("here")).toBe("still");
});

test("a target that is open by the name that it had before is EMDB_LOCKED, and loses nothing", async () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"));
  fill(db, 100);
  const target = folder.file("moved.emdb");
  const other = Emdb.open(folder.file("other.emdb"));
  other.insert("here", "still");
  other.flushSync();
  if (process.platform === "win32") linkSync(folder.file("other.emdb"), target);
  else renameSync(folder.file("other.emdb"), target);
  const names = readdirSync(folder.path).sort();
  expect(await codeOf(db.backupTo(target))).toBe("EMDB_LOCKED");
  expect(readdirSync(folder.path).sort()).toEqual(names);
  other.insert("more", "of it");
  other.closeSync();
  const again = Emdb.open(target);
  expect([again.getText("here"), again.getText("more")]).toEqual(["still", "of it"]);
  again.closeSync();
  await db.backupTo(target);
  using copy = Emdb.open(target);
  expect(stateOf(copy)).toBe(stateOf(db));
});

test("a backup to where another process's is being written is EMDB_LOCKED, and takes nothing from that", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("copy.emdb")];
  // By its clock each step takes long: there is a turn of the event loop behind each.
  let nowMs = 0;
  const slow = faulty(hostSystem(), (call) => (call === "monotonic" ? (nowMs += 1000) : undefined));
  using fixture = new EngineFixture(path, slow);
  const { engine, opened } = fixture;
  for (let index = 0; index < 20_000; index++) engine.insert(engine.defaultSpace, `key ${index}`, "v".repeat(100), 0);
  opened.sync!.flush();
  using other = new EngineFixture(path, hostSystem(), { readOnly: true, createIfMissing: false });
  let second: Promise<unknown> | undefined;
  let isDone = false;
  const hasDraft = (): boolean => readdirSync(folder.path).some((name) => name.includes("emdb-backup"));
  const onProgress = (): void => {
    if (second === undefined && hasDraft())
      second = codeOf(other.opened.backup.run(target, {})).then((code) => [code, isDone, hasDraft()]);
  };
  await opened.backup.run(target, { onProgress });
  isDone = true;
  expect(await second).toEqual(["EMDB_LOCKED", false, true]);
  using copy = Emdb.open(target);
  expect(copy.len()).toBe(20_000);
});

test("an existing target is replaced at once, an image of it goes, and its lock file stays for whoever waits", async () => {
  using folder = temporaryFolder();
  const target = folder.file("copy.emdb");
  {
    using old = Emdb.open(target);
    old.insert("old", "content");
  }
  using db = Emdb.open(folder.file("data.emdb"));
  fill(db, 300);
  await db.backupTo(target);
  {
    using copy = Emdb.open(target);
    expect(stateOf(copy)).toBe(stateOf(db));
    expect(copy.recovery.usedCheckpoint).toBe(false);
  }
  db.insert("later", "too");
  await db.backupTo(target);
  using copy = Emdb.open(target);
  expect(copy.getText("later")).toBe("too");
});

test("a backup shows one moment while writers go on", async () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"));
  fill(db, 20_000);
  let written = 0;
  const pair = (): void => {
    written += 1;
    db.transaction((tx) => {
      tx.insert("left", `${written}`);
      tx.namespace("right").insert("right", `${written}`);
      tx.insert(`row ${written}`, "x".repeat(200));
    });
  };
  pair();
  await db.backupTo(folder.file("copy.emdb"), {
    onProgress: () => {
      for (let index = 0; index < 40; index++) pair();
    },
  });
  expect(written).toBeGreaterThan(40);
  using copy = Emdb.open(folder.file("copy.emdb"));
  const count = Number(copy.getText("left"));
  expect(copy.namespace("right").getText("right")).toBe(`${count}`);
  expect([...copy.keys()].filter((key) => Buffer.from(key).toString().startsWith("row ")).length).toBe(count);
  expect(copy.containsKey(`row ${count}`)).toBe(true);
  expect(copy.containsKey(`row ${count + 1}`)).toBe(false);
});

test("a backup that is put in the place of its source, which was compacted, misses nothing that the image there knows", async () => {
  using folder = temporaryFolder();
  using elsewhere = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), elsewhere.file("copy.emdb")];
  const db = Emdb.open(path);
  fill(db, 500);
  await db.compact();
  await db.backupTo(target);
  const state = stateOf(db);
  db.insert("later", "x".repeat(10_000));
  await db.close();
  copyFileSync(target, path);
  expect(existsSync(`${path}.hint`)).toBe(true);
  using restored = Emdb.open(path);
  expect(restored.recovery).toMatchObject({ usedCheckpoint: false, missingBytes: 0, tornBytes: 0 });
  expect(stateOf(restored)).toBe(state);
});

test("a backup that begins while the index still names the file before a compaction shows all of it", async () => {
  using folder = temporaryFolder();
  using elsewhere = temporaryFolder();
  using fixture = new EngineFixture(folder.file("data.emdb"), hostSystem());
  const { engine, opened } = fixture;
  const keys = Array.from({ length: 5000 }, (_, index) => `key ${index}`);
  engine.insertMany(engine.defaultSpace, keys, keys, 0);
  expect(opened.work.tryTake()).toBe(true);
  for (const _ of opened.compaction.copySteps());
  opened.compaction.relocationSteps().next();
  opened.work.give();
  expect(opened.relocation.isPending).toBe(true);
  expect(await runBackup(opened, elsewhere.file("copy.emdb"))).toBe("fine");
  using copy = new EngineFixture(elsewhere.file("copy.emdb"), hostSystem());
  expect(copy.state() === fixture.state()).toBe(true);
});

test.each(["compact", "backupTo"] as const)(
  "%s that is aborted leaves nothing, and the database as it was",
  async (name) => {
    using folder = temporaryFolder();
    using db = Emdb.open(folder.file("data.emdb"));
    fill(db, 20_000);
    const start = (signal: AbortSignal, onProgress?: () => void): Promise<void> => {
      const options = onProgress === undefined ? { signal } : { signal, onProgress };
      return name === "compact" ? db.compact(options) : db.backupTo(folder.file("copy.emdb"), options);
    };
    db.flushSync();
    const [state, size] = [stateOf(db), db.stats().logicalSizeBytes];
    const names = readdirSync(folder.path).sort();
    expect(await codeOf(start(AbortSignal.abort()))).toBe("EMDB_ABORTED");
    const control = new AbortController();
    expect(await codeOf(start(control.signal, () => control.abort()))).toBe("EMDB_ABORTED");
    expect(readdirSync(folder.path).sort()).toEqual(names);
    expect([stateOf(db), db.stats().logicalSizeBytes]).toEqual([state, size]);
    if (canCount) expect(resourcesIn(folder.path).files).toBe(2);
    await start(new AbortController().signal);
  },
);

test.each(["compact", "backupTo"] as const)(
  "a close while %s goes on rejects it with EMDB_CLOSED, and nothing is left",
  async (name) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const db = Emdb.open(path);
    fill(db, 20_000);
    const state = stateOf(db);
    const names = [...readdirSync(folder.path), "data.emdb.hint"].sort();
    let left: string[] = [];
    const options = {
      onProgress: () => {
        if (!db.isOpen) return;
        db.closeSync();
        left = readdirSync(folder.path).sort();
        if (canCount) expect([resourcesIn(folder.path).files, resourcesIn(folder.path).fileMappings]).toEqual([0, 0]);
      },
    };
    const work = name === "compact" ? db.compact(options) : db.backupTo(folder.file("copy.emdb"), options);
    expect(await codeOf(work)).toBe("EMDB_CLOSED");
    expect(left).toEqual(names);
    expect(readdirSync(folder.path).sort()).toEqual(names);
    using again = Emdb.open(path);
    expect(stateOf(again)).toBe(state);
  },
);

function runBackup({ work, backup }: OpenedEngine, target: string): Promise<EmdbErrorCode | "fine"> {
  expect(work.isOurs).toBe(false);
  return codeOf(backup.run(target, {}));
}

test("a backup that fails at any call of the system leaves the target as it was, nothing beside it, and goes again", async () => {
  using folder = temporaryFolder();
  using elsewhere = temporaryFolder();
  const target = elsewhere.file("copy.emdb");
  let fault: Fault = () => undefined;
  const system = faulty(hostSystem(), (call, args) => fault(call, args));
  using fixture = new EngineFixture(folder.file("data.emdb"), system);
  const { engine } = fixture;
  for (let index = 0; index < 400; index++) engine.insert(engine.defaultSpace, `key ${index}`, "v".repeat(50), 0);
  const state = fixture.state();
  const calls = ["open", "write", "sync", "syncFolder", "rename", "allocate", "map", "reserve", "truncate", "read"];
  for (const name of calls) {
    for (let at = 1; at < 20; at++) {
      let seen = 0;
      writeFileSync(target, BEFORE);
      fault = (call) => (call === name && ++seen === at ? -28 : undefined);
      const outcome = await runBackup(fixture.opened, target);
      fault = () => undefined;
      if (seen < at) break;
      const isReplaced = name === "syncFolder" || outcome === "fine";
      expect([name, at, readdirSync(elsewhere.path)]).toEqual([name, at, ["copy.emdb"]]);
      if (!isReplaced) expect([name, at, readFileSync(target, "latin1") === BEFORE]).toEqual([name, at, true]);
      expect(fixture.state()).toBe(state);
      if (canCount) expect(resourcesIn(elsewhere.path).files).toBe(0);
    }
  }
  expect(await runBackup(fixture.opened, target)).toBe("fine");
});
