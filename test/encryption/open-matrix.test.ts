/** What a file is against what is given for it: each pair its own answer, and the disk as it was. */

import { describe, expect, test } from "bun:test";
import { readFileSync, readdirSync } from "node:fs";
import { inspect } from "node:util";
import { Emdb, EmdbError } from "../../src/index.ts";
import type { OpenOptions } from "../../src/api/types.ts";
import { unlockPage, unlockPageLater } from "../../src/engine/sealed/unlock.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { decodeHeader } from "../../src/log/header.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";
import { temporaryFolder, type TemporaryFolder } from "../support/temporary-folder.ts";
import { KEY, OTHER } from "./rekey-fixture.ts";

const PASSPHRASE = "a passphrase, not long";
const BY_KEY: OpenOptions = { encryption: { key: KEY } };
const BY_PASSPHRASE: OpenOptions = { encryption: { passphrase: PASSPHRASE } };

function diskOf(folder: TemporaryFolder): string {
  return readdirSync(folder.path)
    .sort()
    .map((name) => `${name}:${readFileSync(folder.file(name)).toString("latin1")}`)
    .join("\n");
}

const FILES: readonly (readonly [string, OpenOptions])[] = [
  ["plain", {}],
  ["encrypted with a key", BY_KEY],
  ["encrypted with a passphrase", BY_PASSPHRASE],
  ["encrypted with ChaCha", { ...BY_KEY, cipher: "chacha20-poly1305" }],
];

/** What no type allows, and callers without types write. */
const BOTH = { encryption: { key: KEY, passphrase: PASSPHRASE } } as OpenOptions;

type Answer = "opens" | "EMDB_INVALID_CONFIG" | "EMDB_KEY_MISMATCH";

/** In the order of `FILES`. */
const CALLS: readonly (readonly [string, OpenOptions, readonly Answer[]])[] = [
  ["nothing", {}, ["opens", "EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG"]],
  ["the key", BY_KEY, ["EMDB_INVALID_CONFIG", "opens", "EMDB_INVALID_CONFIG", "opens"]],
  [
    "another key",
    { encryption: { key: OTHER } },
    ["EMDB_INVALID_CONFIG", "EMDB_KEY_MISMATCH", "EMDB_INVALID_CONFIG", "EMDB_KEY_MISMATCH"],
  ],
  ["the passphrase", BY_PASSPHRASE, ["EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG", "opens", "EMDB_INVALID_CONFIG"]],
  [
    "another passphrase",
    { encryption: { passphrase: "another one" } },
    ["EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG", "EMDB_KEY_MISMATCH", "EMDB_INVALID_CONFIG"],
  ],
  ["both", BOTH, ["EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG"]],
  [
    "the key and AES",
    { ...BY_KEY, cipher: "aes-256-gcm" },
    ["EMDB_INVALID_CONFIG", "opens", "EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG"],
  ],
  [
    "the key and ChaCha",
    { ...BY_KEY, cipher: "chacha20-poly1305" },
    ["EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG", "opens"],
  ],
  [
    "a cipher alone",
    { cipher: "aes-256-gcm" },
    ["EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG", "EMDB_INVALID_CONFIG"],
  ],
];

describe.each(FILES.map(([name, made], index) => ({ name, made, index })))(
  "a file that is $name",
  ({ made, index }) => {
    test.each(CALLS.map(([name, given, answers]) => ({ name, given, answer: answers[index]! })))(
      "given $name: $answer",
      ({ given, answer }) => {
        using folder = temporaryFolder();
        const path = folder.file("data.emdb");
        {
          using db = Emdb.open(path, made);
          db.insert("k", "v");
        }
        for (const readOnly of [false, true]) {
          const before = diskOf(folder);
          const open = (): Emdb => Emdb.open(path, { ...given, readOnly });
          if (answer === "opens") {
            using db = open();
            expect(db.getText("k")).toBe("v");
            expect(db.stats().encrypted).toBe(index > 0);
          } else {
            const error = expectCode(answer, open);
            const shown = `${inspect(error, { depth: 9, showHidden: true })} ${JSON.stringify(error)}`;
            for (const secret of [KEY.toHex(), OTHER.toHex(), PASSPHRASE]) expect(shown).not.toContain(secret);
            if (answer === "EMDB_KEY_MISMATCH") expect(error.path).toBe(path);
            expect(diskOf(folder)).toBe(before);
          }
        }
      },
      60_000,
    );
  },
);

test("a file that is to be made is encrypted when a secret is given, and needs it from then on", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path, { cipher: "aes-256-gcm" }));
  expectCode("EMDB_NOT_FOUND", () => Emdb.open(path, { ...BY_KEY, createIfMissing: false }));
  expect(readdirSync(folder.path)).toEqual([]);
  Emdb.open(path, BY_KEY).closeSync();
  expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path));
});

test("one more handle in the thread needs the secret too", () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path, BY_KEY);
  db.insert("k", "v");
  expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(path));
  expectCode("EMDB_KEY_MISMATCH", () => Emdb.open(path, { encryption: { key: OTHER } }));
  using second = Emdb.open(path, BY_KEY);
  expect(second.getText("k")).toBe("v");
  using plain = Emdb.open(folder.file("plain.emdb"));
  plain.insert("k", "v");
  expectCode("EMDB_INVALID_CONFIG", () => Emdb.open(folder.file("plain.emdb"), BY_KEY));
});

test("what a call of the system refuses while a secret is tried says which, and how", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  Emdb.open(path, BY_KEY).closeSync();
  const page = new Uint8Array(readFileSync(path).subarray(0, HEADER_PAGE_BYTES));
  const verdict = decodeHeader(page);
  if (verdict.kind !== "sound") throw new Error("the header is damaged");
  const refused = new EmdbError("EMDB_IO", "no descriptor is free", { syscall: "open", errno: "EMFILE" });
  const encryption = {
    get key(): never {
      throw refused;
    },
  };
  const found = { header: verdict.header, page };
  const asked = { encryption, cipher: undefined };
  const told = expect.objectContaining({ code: "EMDB_IO", path, syscall: "open", errno: "EMFILE" });
  expect(() => unlockPage(found, asked, path)).toThrow(told);
  expect(await unlockPageLater(found, asked, path).catch((error: unknown) => error)).toEqual(told);
});

test("the options keep their secret: what is given is not changed, and does not show in what is thrown", () => {
  const key = KEY.slice();
  using db = Emdb.openInMemory({ encryption: { key } });
  db.insert("k", "v");
  expect(db.getText("k")).toBe("v");
  expect(key).toEqual(KEY);
  expect(db.stats().encrypted).toBe(true);
  expect(inspect(db, { depth: 9, showHidden: true })).not.toContain(KEY.join(", "));
});

test("a zero-copy read of an encrypted record is a copy of its own", () => {
  using folder = temporaryFolder();
  using db = Emdb.open(folder.file("data.emdb"), BY_KEY);
  const value = new Uint8Array(700_000).map((_, index) => index % 251);
  db.insert("long", value);
  db.flushSync();
  const got = db.getZeroCopy("long")!;
  expect(Buffer.compare(got, value)).toBe(0);
  got.fill(0);
  expect(Buffer.compare(db.get("long")!, value)).toBe(0);
});

test("salvage needs the secret, and gives a database that is encrypted with it", async () => {
  using folder = temporaryFolder();
  const [path, target] = [folder.file("data.emdb"), folder.file("salvaged.emdb")];
  {
    using db = Emdb.open(path, BY_KEY);
    for (let index = 0; index < 20; index++) db.insert(`key ${index}`, "telltale value");
    db.namespace("named").insert("k", "v");
  }
  const file = readFileSync(path);
  file[4096 + 300]! ^= 4;
  await Bun.write(path, file);
  await expectRejects("EMDB_INVALID_CONFIG", Emdb.salvage(path, target));
  await expectRejects("EMDB_KEY_MISMATCH", Emdb.salvage(path, target, { encryption: { key: OTHER } }));
  const report = await Emdb.salvage(path, target, { encryption: { key: KEY } });
  expect(report.recoveredRecords).toBe(20);
  expect(report.lostRanges).toHaveLength(1);
  expect(readFileSync(target).includes("telltale")).toBe(false);
  expect(() => Emdb.open(target)).toThrow(EmdbError);
  using db = Emdb.open(target, BY_KEY);
  expect([db.len(), db.namespace("named").getText("k")]).toEqual([19, "v"]);
});
