/** The ways to open: wrong arguments are refused before the engine is asked, and nothing shows a secret. */

import { describe, expect, test } from "bun:test";
import { Emdb } from "../../src/index.ts";
import { expectCode, expectRejects } from "../contract/fixture.ts";

describe("opening", () => {
  test("in memory gives an Emdb that is open, without a path, and says so", () => {
    using db = Emdb.openInMemory();
    expect(db).toBeInstanceOf(Emdb);
    expect(db.path).toBeUndefined();
    expect(db.isOpen).toBe(true);
    db.insert("key", "value");
    expect(db.getText("key")).toBe("value");
    expect(Bun.inspect(db)).toStartWith("Emdb {");
  });

  test("with wrong arguments is refused", () => {
    for (const path of [undefined, null, 5, "", "a\0b", ":memory:", new URL("https://example.org/")]) {
      expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.open(path as string));
    }
    expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.open({} as never, {}));
    expectCode("EMDB_INVALID_CONFIG", () => Emdb.open("never.emdb", { rangeScan: true } as never));
    expectCode("EMDB_INVALID_CONFIG", () => Emdb.open("never.emdb", { appName: "x" } as never));
    expectCode("EMDB_INVALID_CONFIG", () => Emdb.open({ appName: ".." }));
    expectCode("EMDB_INVALID_CONFIG", () => Emdb.open({ databaseName: "NUL.emdb" }));
    expectCode("EMDB_INVALID_CONFIG", () => Emdb.openInMemory({ readOnly: true } as never));
    expectCode("EMDB_INVALID_CONFIG", () => Emdb.resolvePath({ appName: "a/b" }));
    for (const share of [undefined, null, 5, {}, { kind: "another" }]) {
      expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.attach(share as never));
    }
    expectCode("EMDB_INVALID_ARGUMENT", () => new (Emdb as unknown as new (path: string) => Emdb)("path"));
  });

  test("resolvePath names a file in the root it was given", () => {
    expect(Emdb.resolvePath({ dataRoot: "/data", appName: "app", databaseName: "db" })).toEndWith("db");
  });
});

describe("calls about a file", () => {
  test("with wrong arguments are refused", async () => {
    expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.lockHolder(5 as never));
    expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.breakLock(""));
    expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.breakLock("never.emdb", { force: 1 } as never));
    expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.breakLock("never.emdb", { forced: true } as never));
    const key = new Uint8Array(32);
    await expectRejects("EMDB_INVALID_ARGUMENT", Emdb.enableEncryption("", { key }));
    await expectRejects("EMDB_INVALID_CONFIG", Emdb.enableEncryption("never.emdb", {} as never));
    await expectRejects("EMDB_INVALID_CONFIG", Emdb.enableEncryption("never.emdb", { key, cipher: "rot13" as never }));
    await expectRejects("EMDB_INVALID_CONFIG", Emdb.disableEncryption("never.emdb", { passphrase: "" }));
    await expectRejects("EMDB_INVALID_CONFIG", Emdb.rotateEncryptionKey("never.emdb", { key }, "next" as never));
    await expectRejects("EMDB_INVALID_CONFIG", Emdb.salvage("never.emdb", "never.emdb"));
    await expectRejects("EMDB_INVALID_ARGUMENT", Emdb.salvage("never.emdb", "to.emdb", { onprogress: 1 } as never));
    await expectRejects("EMDB_ABORTED", Emdb.salvage("never.emdb", "to.emdb", { signal: AbortSignal.abort() }));
  });
});
