/** Zeros ahead of the log, into which small syncs write: where they go, when there are none, and what depends on them: nothing. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { LOG_BASE, LOG_RESERVED, LOG_TAIL, LOG_TOUCHED, LOG_ZEROED } from "../../src/log/log-words.ts";
import { HEADER_PAGE_BYTES, ZEROED_BYTES, ZEROED_SYNC_BYTES_MAX } from "../../src/limits.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { EngineFixture, faulty, type Fault } from "./engine-fixture.ts";

// Hundreds of syncs of a disk that others may use.
setDefaultTimeout(60_000);
/** Records of which a piece of zeros takes two hundred. */
const LARGER_BYTES = 1200;

interface Span {
  readonly position: number;
  readonly bytes: number;
}

/** An open database, and the writes of zeros that it made. */
class Subject implements Disposable {
  readonly #folder = temporaryFolder();
  readonly path = this.#folder.file("data.emdb");
  readonly fixture: EngineFixture;
  /** Each with where the log ended in the file then. */
  readonly zeros: (Span & { readonly end: number })[] = [];
  fault: Fault = () => undefined;

  constructor(recordsFirstWrites = true) {
    const system = faulty(hostSystem(), (call, args) => this.#note(call, args) ?? this.fault(call, args));
    const claiming = new Proxy(system, {
      get: (target, name) =>
        name === "recordsFirstWrites" ? () => recordsFirstWrites : (Reflect.get(target, name) as unknown),
    });
    this.fixture = new EngineFixture(this.path, claiming);
  }

  #note(call: keyof System, args: readonly unknown[]): undefined {
    const span = args[2] as Span;
    if (call === "write" && this.areZeros(span)) this.zeros.push({ ...span, end: this.end });
  }

  /** Nothing else is written behind the tail in whole blocks. */
  areZeros({ position, bytes }: Span): boolean {
    return position >= this.end && position % 4096 === 0 && bytes % 4096 === 0;
  }

  get numbers(): Float64Array {
    return this.fixture.engine.core.control.log.numbers;
  }

  /** Where the log ends in the file. */
  get end(): number {
    return this.fixture === undefined ? Infinity : this.numbers[LOG_TAIL]! - this.numbers[LOG_BASE]!;
  }

  insert(key: string, bytes = 150): void {
    const { engine } = this.fixture;
    engine.insert(engine.defaultSpace, key, "v".repeat(bytes), 0);
  }

  /** So many records, a sync for each. */
  insertAndFlush(count: number, bytes = 150): void {
    for (let index = 0; index < count; index += 1) {
      this.insert(`key ${index}`, bytes);
      this.fixture.sync.flush();
    }
  }

  /** The records that an open of the file finds. */
  recordsAfterReopen(): number {
    this.fixture.close();
    using again = new EngineFixture(this.path, hostSystem());
    return again.engine.count(again.engine.defaultSpace);
  }

  [Symbol.dispose](): void {
    this.fixture[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

test("small syncs write into zeros, a piece at a time, from the first whole block behind the log", () => {
  using subject = new Subject();
  subject.insertAndFlush(600, LARGER_BYTES);
  expect(subject.zeros.length).toBeGreaterThanOrEqual(3);
  let before = HEADER_PAGE_BYTES;
  for (const { position, bytes, end } of subject.zeros) {
    expect(position % 4096).toBe(0);
    expect(position - end).toBeWithin(0, 4096);
    expect(bytes).toBeLessThanOrEqual(ZEROED_BYTES);
    // Not before the log had come to the end of the piece before, and by one record at most behind it.
    expect(end).toBeWithin(before + 1, before + 4096);
    before = position + bytes;
  }
  expect(subject.recordsAfterReopen()).toBe(600);
});

test("they stay inside what is reserved, and the file is as long as that", () => {
  using subject = new Subject();
  // The first of them reserves for both.
  subject.insert("large", 100_000);
  subject.insert("large", 100_000);
  subject.fixture.sync.flush();
  expect(subject.zeros).toEqual([]);
  subject.insertAndFlush(1);
  const reserved = subject.numbers[LOG_RESERVED]! - subject.numbers[LOG_BASE]!;
  expect(subject.zeros.map(({ position, bytes }) => position + bytes)).toEqual([reserved]);
  expect(hostSystem().size(subject.fixture.opened.engine.core.file!.handle)).toBe(reserved);
});

test("behind the log and its mark the file has nothing but zeros", () => {
  using subject = new Subject();
  subject.insertAndFlush(10);
  expect(subject.zeros.length).toBe(1);
  const image = subject.fixture.image();
  expect(image.subarray(subject.end + 64).every((byte) => byte === 0)).toBe(true);
});

test.skipIf(!hostSystem().canMapPastEnd)(
  "what was given back to a full disk is not theirs any more: they are written anew",
  () => {
    using subject = new Subject();
    subject.insertAndFlush(5);
    expect(subject.zeros.length).toBe(1);
    const [before] = subject.zeros;
    expect(subject.fixture.engine.core.tail.giveBack()).toBe(true);
    expect(subject.numbers[LOG_ZEROED]).toBe(subject.numbers[LOG_RESERVED]);
    expect(subject.numbers[LOG_ZEROED]).toBeLessThan(before!.position + before!.bytes);
    while (subject.zeros.length < 2) subject.insertAndFlush(1);
    expect(subject.zeros[1]!.position).toBeLessThan(before!.position + before!.bytes);
  },
);

test("where much is written between two syncs there are none", () => {
  using subject = new Subject();
  for (let round = 0; round < 5; round += 1) {
    subject.insert("large", ZEROED_SYNC_BYTES_MAX);
    subject.insert("small", 20_000);
    subject.fixture.sync.flush();
  }
  expect(subject.zeros).toEqual([]);
});

test("nor where the system does not say that they pay", () => {
  using subject = new Subject(false);
  subject.insertAndFlush(100);
  expect(subject.zeros).toEqual([]);
});

test.each([
  ["it does", Errno.EOPNOTSUPP],
  ["the system does", Errno.ENOSYS],
])("nor where the file system reserves nothing, as %s not know how to: they would make the file longer", (_, errno) => {
  using subject = new Subject();
  subject.fault = (call) => (call === "allocate" ? -errno : undefined);
  subject.insertAndFlush(100);
  expect(subject.zeros).toEqual([]);
  // Nor does what gives room back, where none was taken.
  const { core } = subject.fixture.engine;
  const size = hostSystem().size(core.file!.handle);
  expect([core.tail.giveBack(), hostSystem().size(core.file!.handle)]).toEqual([false, size]);
});

test("nor there behind a compaction, which may let the log grow longer", () => {
  using subject = new Subject();
  subject.fault = (call) => (call === "allocate" ? -Errno.EOPNOTSUPP : undefined);
  subject.insertAndFlush(100);
  subject.fixture.opened.compaction.runSync();
  subject.fixture.opened.compaction.release("at once");
  subject.insertAndFlush(100);
  expect(subject.zeros).toEqual([]);
});

test("when they cannot be written nothing is lost, and no write is refused", () => {
  using subject = new Subject();
  subject.fault = (call, args) => (call === "write" && subject.areZeros(args[2] as Span) ? -Errno.ENOSPC : undefined);
  subject.insertAndFlush(450, LARGER_BYTES);
  expect(subject.zeros.length).toBeGreaterThan(1);
  expect(subject.recordsAfterReopen()).toBe(450);
});

test("they begin anew in the file of a compaction", () => {
  using subject = new Subject();
  subject.insertAndFlush(450, LARGER_BYTES);
  subject.numbers[LOG_ZEROED] = Infinity;
  subject.fixture.opened.compaction.runSync();
  const before = subject.zeros.length;
  subject.insertAndFlush(2);
  expect(subject.zeros.length).toBe(before + 1);
  expect(subject.recordsAfterReopen()).toBe(450);
});

test("what a write that failed may have left is not theirs to erase", () => {
  using subject = new Subject();
  subject.insertAndFlush(1);
  subject.zeros.length = 0;
  subject.fixture.opened.compaction.runSync();
  const touched = subject.end + 9000;
  subject.numbers[LOG_TOUCHED] = subject.numbers[LOG_BASE]! + touched;
  subject.insertAndFlush(1);
  expect(subject.zeros.length).toBe(1);
  expect(subject.zeros[0]!.position).toBeGreaterThanOrEqual(touched);
});
