/** Loading the packages while descriptors are short: refused as that, and no harm to what comes later. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { hashWasm, nobleArgon2, nobleChaCha, nobleHashes } from "../../src/crypto/packages.ts";
import { systemHmac } from "../../src/crypto/system-hmac.ts";
import { shortage } from "../../src/ffi/descriptors.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { childCommand } from "../support/platform.ts";

const system = hostSystem();
const refused = expect.objectContaining({ code: "EMDB_IO", syscall: "open", errno: "EMFILE" });

test("a shortage is told by its name, whatever else fails is none, and what was taken is given back", () => {
  for (const [errno, told] of [
    [Errno.EMFILE, "EMFILE"],
    [Errno.ENFILE, "ENFILE"],
    [Errno.EACCES, undefined],
  ] as const) {
    const open: number[] = [];
    const few = {
      open: (): number => (open.length === 3 ? -errno : open.push(open.length)),
      close: (): number => (open.pop(), 0),
    };
    expect([shortage(few, 3), open.length]).toEqual([undefined, 0]);
    expect([shortage(few, 4), open.length]).toEqual([told, 0]);
  }
  expect(shortage(system, 8)).toBeUndefined();
});

test("no package is looked up while descriptors are short", async () => {
  system.open = () => -Errno.EMFILE;
  try {
    expect(nobleArgon2).toThrow(refused);
    expect(await hashWasm().catch((error: unknown) => error)).toEqual(refused);
  } finally {
    Reflect.deleteProperty(system, "open");
  }
  expect(nobleArgon2().argon2id).toBeFunction();
  expect((await hashWasm()).argon2id).toBeFunction();
});

test("a package that is loaded is there also while descriptors are short, and is asked for without one", async () => {
  const loaded = [nobleChaCha(), nobleHashes(), nobleArgon2(), await hashWasm()];
  let opened = 0;
  system.open = () => ((opened += 1), -Errno.EMFILE);
  try {
    expect([nobleChaCha(), nobleHashes(), nobleArgon2(), await hashWasm()]).toEqual(loaded);
  } finally {
    Reflect.deleteProperty(system, "open");
  }
  expect(opened).toBe(0);
});

const index = join(import.meta.dir, "../../src/index.ts");
const SCRIPT = `
  const { Emdb } = await import(${JSON.stringify(index)});
  const { closeSync, openSync } = await import("node:fs");
  const open = (cipher) => {
    try {
      Emdb.openInMemory({ encryption: { key: new Uint8Array(32).fill(1) }, cipher }).closeSync();
      return "open";
    } catch (error) {
      return [error.name, error.code, error.errno].join(" ");
    }
  };
  const held = [];
  try { for (;;) held.push(openSync("/dev/null")); } catch {}
  for (let spare = 0; spare < Number(process.argv.at(-1)); spare += 1) closeSync(held.pop());
  const short = open("chacha20-poly1305");
  for (const file of held) closeSync(file);
  console.log(JSON.stringify([short, open("aes-256-gcm"), open("chacha20-poly1305")]));`;

test.skipIf(process.platform !== "linux").each([0, 2])(
  "an encrypted database that needs a package and has %i descriptors to spare is refused, and opens once there are more",
  (spare) => {
    const limited = ["sh", "-c", `ulimit -n 64; exec "$0" "$@"`, ...childCommand(), "-e", SCRIPT, String(spare)];
    const child = Bun.spawnSync(limited, { stderr: "inherit" });
    // Of the system's library one is enough.
    const needsPackage = spare === 0 || systemHmac() === undefined;
    const first = needsPackage ? "EmdbError EMDB_IO EMFILE" : "open";
    expect(JSON.parse(child.stdout.toString())).toEqual([first, "open", "open"]);
  },
);
