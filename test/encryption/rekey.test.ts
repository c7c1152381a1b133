/** Enabling, disabling and changing encryption on real files: what is kept, what is refused, what is left. */

import { describe, expect, test } from "bun:test";
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { Emdb } from "../../src/index.ts";
import type { EncryptionInput } from "../../src/api/types.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";
import { rob } from "../engine/processes.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { KEY, make, openWith, OTHER, stateWith, TELLTALES } from "./rekey-fixture.ts";

const PASSPHRASE = { passphrase: "correct horse battery staple" };

function filesIn(folder: string): string[] {
  return readdirSync(folder).sort();
}

/** The names of files in a folder that hold a text. */
function filesWith(folder: { readonly path: string; file(name: string): string }, text: string): string[] {
  return filesIn(folder.path).filter((name) => readFileSync(folder.file(name)).includes(text));
}

describe("enableEncryption", () => {
  test.each<[string, EncryptionInput & { cipher?: "chacha20-poly1305" }]>([
    ["a raw key", { key: KEY }],
    ["a passphrase", PASSPHRASE],
    ["another cipher", { key: KEY, cipher: "chacha20-poly1305" }],
  ])("keeps every record, deadline and namespace in order, under %s", async (_, target) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const state = make(path);
    await Emdb.enableEncryption(path, target);
    const { cipher = "aes-256-gcm", ...secret } = target;
    expect(filesIn(folder.path)).toEqual(["data.emdb", "data.emdb.lock"]);
    for (const text of TELLTALES) expect(filesWith(folder, text)).toEqual([]);
    expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path));
    expect(stateWith(path, secret)).toBe(state);
    using db = Emdb.open(path, { encryption: secret, cipher });
    expect(db.listNamespaces()).toEqual(["zebra", "telltale namespace", "ant", "empty one"]);
    expect(db.stats().encrypted).toBe(true);
    expect((await db.verify()).problems).toEqual([]);
  });
  test("is refused for a file that is encrypted, missing, open or no database, which stays as it was", async () => {
    using folder = temporaryFolder();
    const [encrypted, plain, text] = ["encrypted", "plain", "text"].map((name) => folder.file(name));
    make(encrypted!, { key: KEY });
    make(plain!);
    writeFileSync(text!, "no database");
    const before = filesIn(folder.path).map((name) => readFileSync(folder.file(name)).toString("latin1"));
    const already = await expectRejects("EMDB_INVALID_CONFIG", Emdb.enableEncryption(encrypted!, { key: OTHER }));
    expect(already.message).toContain("encrypted already; rotateEncryptionKey");
    await expectRejects("EMDB_NOT_FOUND", Emdb.enableEncryption(folder.file("none"), { key: OTHER }));
    await expectRejects("EMDB_NOT_A_DATABASE", Emdb.enableEncryption(text!, { key: OTHER }));
    await expectRejects("EMDB_INVALID_CONFIG", Emdb.enableEncryption(plain!, { key: KEY.subarray(1) }));
    expect(filesIn(folder.path).map((name) => readFileSync(folder.file(name)).toString("latin1"))).toEqual(before);
    using db = Emdb.open(plain!);
    await expectRejects("EMDB_LOCKED", Emdb.enableEncryption(plain!, { key: OTHER }));
    expect(db.getText("alpha")).toBe("third");
  });
});

describe("disableEncryption", () => {
  test("gives a plain database with every record, deadline and namespace in order", async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const state = make(path, { key: KEY });
    await Emdb.disableEncryption(path, { key: KEY });
    expect(filesIn(folder.path)).toEqual(["data.emdb", "data.emdb.lock"]);
    expect(stateWith(path)).toBe(state);
    expectCode("EMDB_INVALID_CONFIG", () => openWith(path, { key: KEY }));
    using db = Emdb.open(path);
    expect(db.stats().encrypted).toBe(false);
    expect((await db.verify()).problems).toEqual([]);
  });
  test("is refused with another secret, one of the other kind, and for a plain file", async () => {
    using folder = temporaryFolder();
    const [encrypted, plain] = ["encrypted", "plain"].map((name) => folder.file(name));
    const state = make(encrypted!, { key: KEY });
    make(plain!);
    await expectRejects("EMDB_KEY_MISMATCH", Emdb.disableEncryption(encrypted!, { key: OTHER }));
    await expectRejects("EMDB_INVALID_CONFIG", Emdb.disableEncryption(encrypted!, PASSPHRASE));
    const needless = await expectRejects("EMDB_INVALID_CONFIG", Emdb.disableEncryption(plain!, { key: KEY }));
    expect(needless.message).toContain("is not encrypted; there is nothing to disable");
    expect(stateWith(encrypted!, { key: KEY })).toBe(state);
  });
});

describe("enable and disable", () => {
  test("tell how far they are, up to the whole, and leave the file as it was when aborted", async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    make(path);
    const before = readFileSync(path);
    const abort = new AbortController();
    const told: number[] = [];
    const options = {
      signal: abort.signal,
      onProgress: ({ done }: { readonly done: number }) => {
        told.push(done);
        abort.abort();
      },
    };
    await expectRejects("EMDB_ABORTED", Emdb.enableEncryption(path, { key: KEY }, options));
    expect(told.length).toBe(1);
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(filesIn(folder.path)).toEqual(["data.emdb", "data.emdb.hint", "data.emdb.lock"]);
    const all: { done: number; total: number }[] = [];
    await Emdb.enableEncryption(path, { key: KEY }, { onProgress: (one) => all.push({ ...one }) });
    expect(all.at(-1)?.done).toBe(all.at(-1)!.total);
    expect(all.map(({ done }) => done)).toEqual(all.map(({ done }) => done).toSorted((a, b) => a - b));
  });
  test("go round: plain, encrypted, another secret, another cipher, plain, each time the same", async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const state = make(path);
    await Emdb.enableEncryption(path, { key: KEY });
    await Emdb.rotateEncryptionKey(path, { key: KEY }, { key: OTHER });
    expect(stateWith(path, { key: OTHER })).toBe(state);
    await Emdb.disableEncryption(path, { key: OTHER });
    await Emdb.enableEncryption(path, { key: KEY, cipher: "chacha20-poly1305" });
    expect(stateWith(path, { key: KEY })).toBe(state);
    await Emdb.disableEncryption(path, { key: KEY });
    expect(stateWith(path)).toBe(state);
  });
  test("make a new data key: a slot kept from before opens nothing afterwards", async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    make(path, { key: KEY });
    const slot = readFileSync(path).subarray(512, 1024);
    await Emdb.disableEncryption(path, { key: KEY });
    await Emdb.enableEncryption(path, { key: OTHER });
    const file = readFileSync(path);
    slot.copy(file, 1024);
    writeFileSync(path, file);
    expectCode("EMDB_CORRUPTED", () => openWith(path, { key: KEY }));
  });
});

describe("rotateEncryptionKey", () => {
  test.each<[string, EncryptionInput, EncryptionInput]>([
    ["a key to a key", { key: KEY }, { key: OTHER }],
    ["a key to a passphrase", { key: KEY }, PASSPHRASE],
    ["a passphrase to a key", PASSPHRASE, { key: OTHER }],
  ])("changes %s, and nothing but the key slots", async (_, current, next) => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    const state = make(path, current);
    const before = readFileSync(path);
    await Emdb.rotateEncryptionKey(path, current, next);
    const after = readFileSync(path);
    expect(after.subarray(0, 512).equals(before.subarray(0, 512))).toBe(true);
    expect(after.subarray(1536).equals(before.subarray(1536))).toBe(true);
    const isOtherKind = "key" in current !== "key" in next;
    expectCode(isOtherKind ? "EMDB_INVALID_CONFIG" : "EMDB_KEY_MISMATCH", () => openWith(path, current));
    expect(stateWith(path, next)).toBe(state);
  });
  test("refuses another secret, an open database and a plain one, each untouched", async () => {
    using folder = temporaryFolder();
    const [encrypted, plain] = ["encrypted", "plain"].map((name) => folder.file(name));
    make(encrypted!, { key: KEY });
    make(plain!);
    const before = [encrypted!, plain!].map((path) => readFileSync(path).toString("latin1"));
    await expectRejects("EMDB_KEY_MISMATCH", Emdb.rotateEncryptionKey(encrypted!, { key: OTHER }, { key: KEY }));
    const needless = await expectRejects(
      "EMDB_INVALID_CONFIG",
      Emdb.rotateEncryptionKey(plain!, { key: OTHER }, { key: KEY }),
    );
    expect(needless.message).toContain("is not encrypted; enableEncryption gives it a secret");
    expect([encrypted!, plain!].map((path) => readFileSync(path).toString("latin1"))).toEqual(before);
    using db = openWith(encrypted!, { key: KEY });
    await expectRejects("EMDB_LOCKED", Emdb.rotateEncryptionKey(encrypted!, { key: KEY }, { key: OTHER }));
    expect(db.getText("alpha")).toBe("third");
  });
  test("keeps the checkpoint, which goes with the old file where records are sealed or opened anew", async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    make(path);
    const usesCheckpoint = (secret?: EncryptionInput): boolean => {
      using db = Emdb.open(path, secret === undefined ? {} : { encryption: secret });
      return db.recovery.usedCheckpoint;
    };
    await Emdb.enableEncryption(path, { key: KEY });
    expect([usesCheckpoint({ key: KEY }), usesCheckpoint({ key: KEY })]).toEqual([false, true]);
    await Emdb.rotateEncryptionKey(path, { key: KEY }, { key: OTHER });
    expect(usesCheckpoint({ key: OTHER })).toBe(true);
    await Emdb.disableEncryption(path, { key: OTHER });
    expect([usesCheckpoint(), usesCheckpoint()]).toEqual([false, true]);
  });
  test("writes a kilobyte, whatever the size of the file", async () => {
    using folder = temporaryFolder();
    const path = folder.file("data.emdb");
    {
      using db = openWith(path, { key: KEY });
      for (let index = 0; index < 20; index++) db.insert(`k${index}`, new Uint8Array(400_000));
    }
    const bytes = statSync(path).size;
    const before = readFileSync(path);
    await Emdb.rotateEncryptionKey(path, { key: KEY }, { key: OTHER });
    const after = readFileSync(path);
    let changed = 0;
    for (let index = 0; index < bytes; index++) if (after[index] !== before[index]) changed += 1;
    expect(after.length).toBe(bytes);
    expect(changed).toBeLessThanOrEqual(1024);
  });
});

describe.skipIf(process.platform === "win32").each(["enable", "disable", "rotate"] as const)(
  "%s, robbed on its way,",
  (what) => {
    test("is EMDB_LOCKED, and what the other one has written is there", async () => {
      using folder = temporaryFolder();
      const path = folder.file("data.emdb");
      const secret = what === "enable" ? {} : { encryption: { key: KEY } };
      {
        using db = Emdb.open(path, secret);
        db.insert("mine", "1");
      }
      let robbed: number | null | undefined;
      const onProgress = (): void => {
        robbed ??= rob(path, 1, secret);
      };
      const other = { key: OTHER };
      const doing =
        what === "enable"
          ? Emdb.enableEncryption(path, other, { onProgress })
          : what === "disable"
            ? Emdb.disableEncryption(path, { key: KEY }, { onProgress })
            : Emdb.rotateEncryptionKey(path, { key: KEY }, other, { onProgress });
      await expectRejects("EMDB_LOCKED", doing);
      expect(robbed).toBe(0);
      using db = Emdb.open(path, secret);
      expect([db.getText("mine"), db.getText("key 0")]).toEqual(["1", "by the robber"]);
    });
  },
);
