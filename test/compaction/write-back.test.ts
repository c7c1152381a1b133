/** What a compaction and a checkpoint write goes to the disk bit by bit, and an error of that is one of a sync. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, openSync, readFileSync, readdirSync, writeSync } from "node:fs";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { EngineFixture, faulty } from "../engine/engine-fixture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(60_000);

const PIECE_BYTES = 4 * 1024 * 1024;
const system = hostSystem();

type Span = { readonly position: number; readonly bytes: number };

/** A database of 20 MiB whose system says what `answer` gives to each wish to write back; what was asked, and the syncs. */
class Disk implements Disposable {
  readonly folder = temporaryFolder();
  readonly path = this.folder.file("data.emdb");
  readonly spans: Span[] = [];
  readonly calls: string[] = [];
  answer: number | undefined = 0;
  readonly fixture: EngineFixture;

  constructor() {
    const spied = faulty(system, (call, args) => {
      if (call === "sync" || call === "writeBack") this.calls.push(call);
      if (call !== "writeBack") return undefined;
      this.spans.push(args[1] as Span);
      return this.answer;
    });
    this.fixture = new EngineFixture(this.path, spied);
    const { engine, sync } = this.fixture;
    for (let index = 0; index < 200; index++)
      engine.insert(engine.defaultSpace, `key ${index}`, Buffer.alloc(100_000, index), 0);
    sync.flush();
    this.calls.length = this.spans.length = 0;
  }

  async codeOfCompaction(): Promise<unknown> {
    return this.fixture.opened.compaction.run({}).then(
      () => "fine",
      ({ code, syscall }: { code: string; syscall: string }) => [code, syscall],
    );
  }

  [Symbol.dispose](): void {
    this.fixture[Symbol.dispose]();
    this.folder[Symbol.dispose]();
  }
}

test("a part of a file is written back, or the system says that it cannot", () => {
  using folder = temporaryFolder();
  const path = folder.file("data");
  const file = openSync(path, "w+");
  writeSync(file, Buffer.alloc(3 * 4096, 7));
  for (const span of [
    { position: 0, bytes: 4096 },
    { position: 4096, bytes: 4096 },
    { position: 4096, bytes: 8192 },
    { position: 2 ** 33, bytes: 4096 },
  ])
    expect([0, -Errno.EOPNOTSUPP, undefined]).toContain(system.writeBack?.(file, span));
  expect(readFileSync(path)).toEqual(Buffer.alloc(3 * 4096, 7));
  closeSync(file);
  if (system.writeBack !== undefined)
    expect([-Errno.EBADF, -Errno.EOPNOTSUPP]).toContain(system.writeBack(file, { position: 0, bytes: 4096 }));
});

// kernel32 has no such call: there the syncs are made.
const hasCall = system.writeBack !== undefined;

test.if(hasCall)(
  "a compaction asks for one part after the other, in whole pages, and syncs at its end alone",
  async () => {
    using disk = new Disk();
    const state = disk.fixture.state();
    expect(await disk.codeOfCompaction()).toBe("fine");
    expect(disk.calls.filter((call) => call === "sync")).toHaveLength(1);
    expect(disk.calls.at(-1)).toBe("sync");
    let end = disk.spans[0]!.position;
    expect(end).toBeLessThanOrEqual(4096);
    for (const { position, bytes } of disk.spans) {
      expect([position, bytes % 4096]).toEqual([end, 0]);
      expect(bytes).toBeGreaterThanOrEqual(PIECE_BYTES - 4096);
      end = position + bytes;
    }
    expect(20_000_000 - end).toBeLessThan(PIECE_BYTES + 200_000);
    expect(disk.fixture.state()).toBe(state);
  },
);

test("where the system cannot, it syncs as often", async () => {
  using disk = new Disk();
  disk.answer = -Errno.EOPNOTSUPP;
  expect(await disk.codeOfCompaction()).toBe("fine");
  expect(disk.calls.filter((call) => call === "sync").length).toBeGreaterThanOrEqual(5);
});

test.if(hasCall)("an error of it ends the compaction, the log goes on in service, and the next one works", async () => {
  using disk = new Disk();
  const state = disk.fixture.state();
  disk.answer = -5;
  expect(await disk.codeOfCompaction()).toEqual(["EMDB_IO", "sync_file_range"]);
  expect(disk.calls).toEqual(["writeBack"]);
  expect(disk.fixture.state()).toBe(state);
  expect(readdirSync(disk.folder.path).sort()).toEqual(["data.emdb", "data.emdb.lock"]);
  disk.answer = 0;
  expect(await disk.codeOfCompaction()).toBe("fine");
  expect(disk.fixture.state()).toBe(state);
});
