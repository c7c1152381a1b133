/** Options of opening, paths, secrets: what is refused, what is filled in, and that no secret is ever shown. */

import { describe, expect, spyOn, test } from "bun:test";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { runInNewContext } from "node:vm";
import { checkedEngineOptions, checkedOpenOptions, requireLocation } from "../../src/api/open-options.ts";
import { checkedPath, checkedProgress } from "../../src/api/paths.ts";
import { checkedSecret } from "../../src/api/secrets.ts";
import { Emdb, EmdbError } from "../../src/index.ts";
import { GROUP_BATCH_MAX, PASSPHRASE_BYTES_MAX } from "../../src/limits.ts";
import { expectCode } from "../contract/fixture.ts";

const open = (options: unknown): ReturnType<typeof checkedOpenOptions> =>
  checkedOpenOptions(options as never, { hasLocation: false });

describe("open options", () => {
  test("none give the defaults", () => {
    expect(open(undefined)).toEqual({
      defaultTtlMs: 0,
      sweepIntervalMs: 0,
      rangeScans: false,
      flushPlan: { kind: "group", waitMsMax: 0, batchMax: GROUP_BATCH_MAX },
      encryption: undefined,
      cipher: undefined,
      verifyReads: false,
      createIfMissing: true,
      readOnly: false,
      lockTimeoutMs: 0,
    });
    expect(open({ readOnly: true }).createIfMissing).toBe(false);
    expect(open({ defaultTtlMs: Number.POSITIVE_INFINITY }).defaultTtlMs).toBe(0);
    expect(open({ sweepIntervalMs: Number.POSITIVE_INFINITY }).sweepIntervalMs).toBe(0);
    expect(open({ sweepIntervalMs: 2 ** 31 - 1 }).sweepIntervalMs).toBe(2 ** 31 - 1);
    for (const lockTimeoutMs of [0, 0.5, Number.POSITIVE_INFINITY])
      expect(open({ lockTimeoutMs }).lockTimeoutMs).toBe(lockTimeoutMs);
    expect(open({ flushPolicy: { group: { maxWaitMs: 2, maxBatch: 8 } } }).flushPlan).toEqual({
      kind: "group",
      waitMsMax: 2,
      batchMax: 8,
    });
    expect(open({ flushPolicy: "write-through" }).flushPlan).toEqual({ kind: "write-through" });
  });

  test("everything wrong is EMDB_INVALID_CONFIG", () => {
    const key = new Uint8Array(32);
    const wrong: readonly unknown[] = [
      null,
      5,
      "fast",
      [],
      { defaultTtlMs: 0 },
      { defaultTtlMs: -1 },
      { defaultTtlMs: Number.NaN },
      { defaultTtlMs: "5" },
      { autoCompact: 1 },
      { autoCompact: { ratio: 0 } },
      { autoCompact: { ratio: 1 } },
      { autoCompact: { ratio: Number.NaN } },
      { autoCompact: { minBytes: 0 } },
      { autoCompact: { minBytes: 1.5 } },
      { autoCompact: { ratios: 0.5 } },
      { lockTimeoutMs: -1 },
      { lockTimeoutMs: Number.NaN },
      { lockTimeoutMs: "5" },
      { sweepIntervalMs: 0 },
      { sweepIntervalMs: -1 },
      { sweepIntervalMs: 1.5 },
      { sweepIntervalMs: Number.NaN },
      { sweepIntervalMs: 2 ** 31 },
      { sweepIntervalMs: "5" },
      { rangeScans: 1 },
      { rangeScans: "true" },
      { verifyReads: null },
      { createIfMissing: "no" },
      { readOnly: 0 },
      { flushPolicy: "groop" },
      { flushPolicy: null },
      { flushPolicy: {} },
      { flushPolicy: { group: null } },
      { flushPolicy: { group: {} } },
      { flushPolicy: { group: { maxWaitMs: -1, maxBatch: 1 } } },
      { flushPolicy: { group: { maxWaitMs: Number.NaN, maxBatch: 1 } } },
      { flushPolicy: { group: { maxWaitMs: 1, maxBatch: 0 } } },
      { flushPolicy: { group: { maxWaitMs: 1, maxBatch: 1.5 } } },
      { flushPolicy: { group: { maxWaitMs: 1, maxBatch: 1, extra: 1 } } },
      { flushPolicy: { group: { maxWaitMs: 1, maxBatch: 1 }, extra: 1 } },
      { cipher: "aes-256-gcm" },
      { cipher: "rot13", encryption: { key } },
      { encryption: null },
      { encryption: "hunter2" },
      { encryption: key },
      { encryption: {} },
      { encryption: { key, passphrase: "both" } },
      { encryption: { key: new Uint8Array(31) } },
      { encryption: { key: new Uint8Array(33) } },
      { encryption: { key: "0".repeat(32) } },
      { encryption: { key: key.buffer } },
      { encryption: { passphrase: "" } },
      { encryption: { passphrase: 5 } },
      { encryption: { passphrase: "\ud800" } },
      { encryption: { key, cipher: "aes-256-gcm" } },
      { appName: "mine" },
      { rangeScan: true },
    ];
    for (const options of wrong) expectCode("EMDB_INVALID_CONFIG", () => open(options));
    for (const options of [{ createIfMissing: true }, { readOnly: true }]) {
      expectCode("EMDB_INVALID_CONFIG", () => checkedEngineOptions(options as never));
    }
    expectCode("EMDB_TOO_LARGE", () => open({ encryption: { passphrase: "x".repeat(PASSPHRASE_BYTES_MAX + 1) } }));
  });

  test("an unknown name is told the nearest known one", () => {
    const message = (options: object): string => expectCode("EMDB_INVALID_CONFIG", () => open(options)).message;
    expect(message({ rangescan: true })).toContain("did you mean rangeScans?");
    expect(message({ readonly: true })).toContain("did you mean readOnly?");
    expect(message({ completelyElse: true })).toContain("known are");
    expect(message({ appName: "x" })).toContain("Emdb.open(options)");
  });

  test("location options stand beside them only without a path", () => {
    expect(checkedOpenOptions({ appName: "x", readOnly: true } as never, { hasLocation: true }).readOnly).toBe(true);
    requireLocation({ appName: "x", rangeScans: true });
    expectCode("EMDB_INVALID_CONFIG", () => requireLocation({ appname: "x" }));
    expectCode("EMDB_INVALID_CONFIG", () => requireLocation("x"));
  });
});

describe("secrets", () => {
  const key = new Uint8Array(32).fill(65);

  test("are copied, usable, and shown by nothing", () => {
    const given = new Uint8Array(key);
    const config = open({ encryption: { key: given }, cipher: "chacha20-poly1305" });
    given.fill(0);
    const kept = config.encryption;
    if (kept === undefined || !("key" in kept)) throw new Error("the key is lost");
    expect(kept.key).toEqual(key);
    const phrase = open({ encryption: { passphrase: "hunter2" } });
    const shown = [config, phrase].flatMap((one) => [
      Bun.inspect(one),
      JSON.stringify(one),
      Bun.inspect(one.encryption),
    ]);
    shown.push(JSON.stringify({ ...phrase.encryption }), JSON.stringify(structuredClone({ ...config.encryption })));
    for (const text of shown) {
      expect(text).not.toContain("hunter2");
      expect(text).not.toContain("65, 65");
      expect(text).not.toContain("AAAA");
    }
    expect(Bun.inspect(config)).toContain("[redacted]");
  });

  test("are wiped where a call copied them and was refused before it began", async () => {
    const given = new Uint8Array(key);
    const wrong = { key: new Uint8Array(3) };
    const encryption = { key: given };
    const aborted = { signal: AbortSignal.abort() };
    const calls: readonly (() => unknown)[] = [
      () => Emdb.open("", { encryption }),
      () => Emdb.open({ encryption, databaseName: "" }),
      () => Emdb.openInMemory({ encryption, verifyReads: 1 as never }),
      () => Emdb.openInMemory({ encryption, cipher: "none" as never }),
      () => Emdb.enableEncryption("x", { key: given, cipher: "none" as never }),
      () => Emdb.enableEncryption("x", encryption, aborted),
      () => Emdb.disableEncryption("x", encryption, aborted),
      () => Emdb.rotateEncryptionKey("x", encryption, wrong),
      () => Emdb.rotateEncryptionKey("x", encryption, encryption, aborted),
      () => Emdb.salvage("x", "y", { encryption, ...aborted }),
    ];
    const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as Uint8Array;
    for (const [index, call] of calls.entries()) {
      using set = spyOn(typedArray, "set");
      const refused = await Promise.try(call).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(EmdbError);
      const copies = set.mock.contexts.filter((_, at) => set.mock.calls[at]?.[0] === given);
      expect([index, ...copies.map((copy) => (copy as Uint8Array).toHex())]).toEqual([
        index,
        ...copies.map(() => "00".repeat(32)),
      ]);
    }
    expect(given).toEqual(key);
  });

  test("of another realm are keys as well", () => {
    const foreign = runInNewContext("new Uint8Array(32).fill(65)") as Uint8Array;
    expect(foreign instanceof Uint8Array).toBe(false);
    expect(open({ encryption: { key: foreign } }).encryption).toMatchObject({ key });
  });

  test("are in no message", () => {
    const wrong: readonly unknown[] = [
      "hunter2",
      { passphrase: ["hunter2"] },
      { key: "hunter2" },
      { key, passphrase: "hunter2" },
      { passphrase: "hunter2\ud800" },
      { password: "hunter2" },
    ];
    for (const input of wrong) {
      const error = expectCode("EMDB_INVALID_CONFIG", () => checkedSecret(input));
      expect(error.message).not.toContain("hunter2");
    }
  });
});

describe("paths", () => {
  test("a string or a file: URL becomes absolute", () => {
    expect(checkedPath("a/b.emdb")).toBe(resolve("a/b.emdb"));
    expect(checkedPath(pathToFileURL(resolve("with space & \u00e9.emdb")))).toBe(resolve("with space & \u00e9.emdb"));
  });

  test("anything else is EMDB_INVALID_ARGUMENT", () => {
    const wrong: readonly unknown[] = [
      undefined,
      null,
      5,
      {},
      "",
      "a\0b",
      "folder/",
      ":memory:",
      "\ud800",
      new Uint8Array(3),
      new URL("https://example.org/db"),
      new URL("file:///a%00b"),
      new URL("file:///a%2fb"),
      new URL("file:///folder/"),
    ];
    for (const path of wrong) expectCode("EMDB_INVALID_ARGUMENT", () => checkedPath(path));
    expect(expectCode("EMDB_INVALID_ARGUMENT", () => checkedPath(":memory:")).message).toContain("openInMemory");
  });

  test("on Windows no path names a device, a stream of another file, or what Windows drops a part of; elsewhere all are names", () => {
    for (const name of ["NUL", "com1.emdb", "data:stream", "data.emdb:$DATA", "dot.", "space ", "what?"]) {
      const path = `folder/${name}`;
      if (process.platform === "win32") expectCode("EMDB_INVALID_ARGUMENT", () => checkedPath(path));
      else expect(checkedPath(path)).toBe(resolve(path));
    }
    for (const name of ["nuls", "console.emdb", ".emdb", "a.b c"])
      expect(checkedPath(`folder/${name}`)).toBe(resolve(`folder/${name}`));
  });

  test("what only passes for a URL or a signal is refused as what it is", async () => {
    const url = pathToFileURL("/tmp/x");
    const { signal } = new AbortController();
    for (const wrong of [new Proxy(url, {}), Object.create(URL.prototype), Object.create(url)] as URL[]) {
      expectCode("EMDB_INVALID_ARGUMENT", () => checkedPath(wrong));
      expectCode("EMDB_INVALID_ARGUMENT", () => Emdb.lockHolder(wrong));
      expect(await Emdb.salvage(wrong, "y").catch((error: unknown) => error)).toBeInstanceOf(EmdbError);
    }
    for (const wrong of [new Proxy(signal, {}), Object.create(AbortSignal.prototype)] as AbortSignal[])
      expectCode("EMDB_INVALID_ARGUMENT", () => checkedProgress({ signal: wrong }));
    class Own extends URL {}
    expect(checkedPath(new Own(url))).toBe(checkedPath(url));
    expect(checkedProgress({ signal })).toEqual({ signal });
  });

  test("progress options are reduced to what they are", () => {
    const { signal } = new AbortController();
    const onProgress = (): undefined => undefined;
    expect(checkedProgress({ signal, onProgress })).toEqual({ signal, onProgress });
    expect(checkedProgress(undefined)).toEqual({});
    expectCode("EMDB_ABORTED", () => checkedProgress({ signal: AbortSignal.abort() }));
    expectCode("EMDB_INVALID_ARGUMENT", () => checkedProgress({ signal: {} as AbortSignal }));
  });
});
