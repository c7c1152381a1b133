/** The contract over an attached handle while the owner stays open: a second engine of this thread over one shared base. */

import { afterAll, expect, setSystemTime, test } from "bun:test";
import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import { stretch } from "../../src/crypto/argon2.ts";
import { unlock } from "../../src/crypto/key-area.ts";
import { callerSecret } from "../../src/crypto/open-matrix.ts";
import { Emdb, type EmdbShare } from "../../src/index.ts";
import { contractSuite } from "../contract/suite.ts";
import { heldClock } from "../support/held-clock.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { attachApart } from "./attach-apart.ts";
import { EngineWords } from "./engine-words.ts";

const lacks = ["checkpoint", "verify"] as const;
const SECRET = { key: new Uint8Array(32).fill(0x5e) };

afterAll(() => {
  setSystemTime();
});

test("an attached handle is an engine of its own, and goes on when the owner's has closed", () => {
  const owner = Emdb.openInMemory();
  const guest = attachApart(owner.share());
  guest.insert("by", "the guest");
  expect(owner.getText("by")).toBe("the guest");
  owner.closeSync();
  expect(() => owner.getText("by")).toThrow("closed");
  expect(guest.getText("by")).toBe("the guest");
  guest.closeSync();
});

test("closing one of several handles of a poisoned database is refused, and closes it", async () => {
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  const owner = Emdb.open(path);
  const handles = [Emdb.open(path), Emdb.open(path), attachApart(owner.share()), attachApart(owner.share())];
  for (const [index, handle] of handles.entries()) handle.insert(`of ${index}`, "not flushed");
  new EngineWords(owner).poison();
  for (const [index, handle] of handles.entries()) {
    const closed = index % 2 === 0 ? Promise.try(() => handle.closeSync()) : handle.close();
    expect(await closed.catch((error: unknown) => error)).toMatchObject({ code: "EMDB_POISONED" });
    expect(handle.isOpen).toBe(false);
    handle.closeSync();
  }
  expect(owner.getText("of 3")).toBe("not flushed");
  expect(() => owner.closeSync()).toThrow(expect.objectContaining({ code: "EMDB_POISONED" }));
});

/** Reserving address space takes qemu a second for each database; there the threads of the other tests have to do. */
const isQuick = emulator !== "qemu";

if (isQuick)
  contractSuite(
    "attached, in memory",
    (options) => {
      const owner = Emdb.openInMemory(options);
      return { db: attachApart(owner.share()), clock: heldClock(), end: () => owner.closeSync() };
    },
    { lacks },
  );

const inTurn = [
  ["attached, in a file, in turn with the owner and a third", {}],
  ["attached to an encrypted database in a file, in turn with the owner and a third", { encryption: SECRET }],
] as const;

for (const [name, more] of isQuick ? inTurn : [])
  contractSuite(
    name,
    (options) => {
      const folder = temporaryFolder();
      const owner = Emdb.open(folder.file("data.emdb"), { ...options, ...more });
      return {
        db: attachApart(owner.share()),
        clock: heldClock(),
        settle(db) {
          const next = attachApart(db.share());
          db.closeSync();
          return next;
        },
        end() {
          owner.closeSync();
          folder[Symbol.dispose]();
        },
      };
    },
    { lacks },
  );

test("neither inspection nor JSON of a share token, nor of a handle, shows a key", () => {
  const key = crypto.getRandomValues(new Uint8Array(32));
  using folder = temporaryFolder();
  const path = folder.file("data.emdb");
  using db = Emdb.open(path, { encryption: { key } });
  db.insert("a", "1");
  const page = new Uint8Array(readFileSync(path));
  const keyPage = { sector: page.subarray(0, 512), keyArea: page.subarray(512, 4096), cipher: "aes-256-gcm" as const };
  using secret = callerSecret({ key });
  using dataKey = unlock(keyPage, secret, stretch).dataKey;
  const share = db.share() as EmdbShare & { readonly buffer: SharedArrayBuffer };
  const shown = [share, db].flatMap((value) => [
    Bun.inspect(value, { depth: 20 }),
    inspect(value, { depth: 20, maxArrayLength: null, showHidden: true }),
    JSON.stringify(value),
  ]);
  const shared = Buffer.from(new Uint8Array(share.buffer));
  for (const bytes of [key, dataKey.bytes]) {
    const forms = [bytes.toHex(), bytes.join(","), bytes.join(", ")];
    for (const text of shown) for (const form of forms) expect(text.includes(form)).toBe(false);
    expect(shared.includes(Buffer.from(bytes))).toBe(false);
  }
});
