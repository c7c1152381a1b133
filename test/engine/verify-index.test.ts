/** Verify against an index that is wrong: each planted mistake is found, and named. */

import { expect, test } from "bun:test";
import type { Opened } from "../../src/engine/assemble.ts";
import { verifyDatabase } from "../../src/engine/verify/verify.ts";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { giveUpBatch, systemWith } from "./verify-frames.ts";
import { openFile } from "./open-engine.ts";

/** A database of 1000 records of which ten have older versions, ten are removed, and ten are in a namespace. */
function open(path: string, system: System = hostSystem()): Opened {
  const opened = openFile(system, path, { rangeScans: true });
  const { engine } = opened;
  const { defaultSpace } = engine;
  for (let index = 0; index < 1000; index += 1) engine.insert(defaultSpace, `key ${index}`, `value ${index}`, 0);
  for (let index = 0; index < 10; index += 1) {
    engine.insert(defaultSpace, `key ${index}`, "second", 0);
    engine.remove(defaultSpace, `key ${index + 10}`);
    engine.insert(engine.spaceNamed("named"), `key ${index}`, "elsewhere", 0);
  }
  return opened;
}

/** Where the index and the log have a key. */
function find({ engine }: Opened, key: string): { readonly lsn: number; readonly prev: number; readonly slot: number } {
  const { core, spaces } = engine;
  const { lookup, heap, keydir } = core;
  core.key.load(key);
  const root = spaces.root(spaces.default);
  expect(lookup.findNewest(root)).toBe(true);
  const { lsn } = lookup;
  const words = [keydir.low, keydir.high >>> 0];
  const prev = lookup.prev();
  const bucket = keydir.bucketOf(root, core.key.hash);
  const page = bucket - (bucket % 4096);
  for (let slot = page; slot < page + 4096; slot += 8) {
    if (heap.read32(slot) === words[0] && heap.read32(slot + 4) === words[1]) return { lsn, prev, slot };
  }
  throw new Error(`no slot in the home page names ${key}`);
}

/** Plants a mistake in an open database and returns what verify says. */
async function plant(mistake: (opened: Opened) => void): Promise<readonly { offset: number; reason: string }[]> {
  using folder = temporaryFolder();
  const opened = open(folder.file("data.emdb"));
  try {
    expect((await verifyDatabase(opened, {})).problems).toEqual([]);
    mistake(opened);
    return (await verifyDatabase(opened, {})).problems;
  } finally {
    opened.leave();
  }
}

const mistakes: readonly {
  readonly what: string;
  readonly reason: RegExp;
  plant(opened: Opened): number | undefined;
}[] = [
  {
    what: "a slot that names an older version",
    reason: /the index names an older version of this record/,
    plant: (opened) => {
      const { lsn, prev } = find(opened, "key 3");
      opened.engine.core.keydir.replace(prev / 8, false);
      return lsn;
    },
  },
  {
    what: "a slot of another key's record",
    reason: /with another hash than its key's/,
    plant: (opened) => {
      const other = find(opened, "key 500").lsn;
      find(opened, "key 600");
      opened.engine.core.keydir.replace(other / 8, false);
      return other;
    },
  },
  {
    what: "a slot that takes a record for a removal",
    reason: /takes a removal for a record, or a record for a removal/,
    plant: (opened) => {
      const { lsn } = find(opened, "key 500");
      opened.engine.core.keydir.replace(lsn / 8, true);
      return lsn;
    },
  },
  {
    what: "a slot that names no record",
    reason: /where no record is|with another hash/,
    plant: (opened) => {
      const place = find(opened, "key 500").lsn + 8;
      opened.engine.core.keydir.replace(place / 8, false);
      return place;
    },
  },
  {
    what: "a slot that was lost",
    reason: /its index names 989/,
    plant: (opened) => {
      const { slot } = find(opened, "key 700");
      opened.engine.core.heap.writeNumber(slot, 0);
      return 0;
    },
  },
  {
    what: "a key that has two slots",
    reason: /names this key twice/,
    plant: (opened) => {
      const { lsn, prev } = find(opened, "key 3");
      const { core, spaces } = opened.engine;
      while (core.keydir.next());
      core.keydir.add(spaces.default.address, prev / 8, 0);
      expect(prev).toBeLessThan(lsn);
      return prev;
    },
  },
  {
    what: "a slot where no search comes by",
    reason: /an empty one stands before it|in another page than its home/,
    plant: (opened) => {
      const { engine } = opened;
      const { heap } = engine.core;
      const { lsn, slot } = find(opened, "key 700");
      const [low, high] = [heap.read32(slot), heap.read32(slot + 4)];
      const page = slot - (slot % 4096);
      let empty = page + ((slot - page + 2048) % 4096);
      while (heap.read32(empty) !== 0 || heap.read32(empty + 4) !== 0) empty = page + ((empty - page + 8) % 4096);
      heap.writeNumber(slot, 0);
      heap.write32(empty, low);
      heap.write32(empty + 4, high);
      return lsn;
    },
  },
  {
    what: "a record of another namespace",
    reason: /the index of namespace 0 names a record of namespace 1/,
    plant: (opened) => {
      const { core, spaces } = opened.engine;
      core.key.load("key 5");
      expect(core.lookup.findNewest(spaces.root(spaces.named("named")!))).toBe(true);
      const { lsn } = core.lookup;
      find(opened, "key 5");
      core.keydir.replace(lsn / 8, false);
      return lsn;
    },
  },
  {
    what: "a wrong count of records",
    reason: /counted are 991/,
    plant: (opened) => {
      const { spaces } = opened.engine;
      spaces.count(spaces.default, 1, 0);
      return 0;
    },
  },
  {
    what: "a wrong count of live bytes",
    reason: /990 records and \d+ bytes of the default key space, counted are 990/,
    plant: (opened) => {
      const { spaces } = opened.engine;
      spaces.count(spaces.default, 0, -8);
      return 0;
    },
  },
  {
    what: "a shard that counts wrong",
    reason: /a shard counts \d+ live slots and holds \d+/,
    plant: (opened) => {
      const { core, spaces } = opened.engine;
      const { unit } = core.keydir.shardOf(spaces.root(spaces.default), 0);
      const live = core.heap.unitAddress(unit) + 40;
      core.heap.write32(live, core.heap.read32(live) + 1);
      return 0;
    },
  },
];

const orderedMistakes: readonly {
  readonly what: string;
  readonly reason: RegExp;
  plant(opened: Opened): void;
}[] = [
  {
    what: "an ordered index that lost a record",
    reason: /the ordered index holds 989 records, the hash index 990/,
    plant: ({ engine: { core, spaces } }) => {
      core.key.load("key 500");
      expect(core.ordering!.index.find(spaces.tree(spaces.default), core.key, 0)).toBe(true);
      core.ordering!.index.erase();
    },
  },
  {
    what: "an ordered index that names an older version",
    reason: /the ordered index names this record, the hash index does not/,
    plant: (opened) => {
      const { core, spaces } = opened.engine;
      const { prev } = find(opened, "key 3");
      expect(core.ordering!.index.find(spaces.tree(spaces.default), core.key, 0)).toBe(true);
      core.ordering!.index.replace(prev / 8, false);
    },
  },
  {
    what: "an ordered index that is not there",
    reason: /the ordered index holds 0 records, the hash index 10$/m,
    plant: ({ engine: { spaces } }) => spaces.setTree(spaces.named("named")!, 0),
  },
];

test.each(orderedMistakes)("$what is found", async ({ plant: mistake, reason }) => {
  const problems = await plant(mistake);
  expect(problems.map((problem) => problem.reason).join("\n")).toMatch(reason);
});

test.each(mistakes)("$what is found", async ({ plant: mistake, reason }) => {
  let offset: number | undefined;
  const problems = await plant((opened) => (offset = mistake(opened)));
  expect(problems.map((problem) => problem.reason).join("\n")).toMatch(reason);
  expect(problems.filter((problem) => reason.test(problem.reason)).map((problem) => problem.offset)).toContain(offset!);
});

test("a batch that was given up is sound, and a slot that names a record of it is found", async () => {
  using folder = temporaryFolder();
  const opened = open(folder.file("data.emdb"));
  const given = giveUpBatch(opened, "key 500");
  const second = giveUpBatch(opened, "new key");
  expect((await verifyDatabase(opened, {})).problems).toEqual([]);
  find(opened, "key 500");
  opened.engine.core.keydir.replace(given / 8, false);
  const { problems } = await verifyDatabase(opened, {});
  expect(problems).toContainEqual({
    offset: given,
    reason: "the index names a record that was cleared, or never committed",
  });
  expect(second).toBeGreaterThan(given);
  opened.leave();
});

test("what the disk cannot read is told with its place, and the rest is still checked", async () => {
  if (emulator === "wine") return;
  using folder = temporaryFolder();
  const host = hostSystem();
  let isFailing = false;
  const system = systemWith({
    read(file, into, span) {
      const isBad = isFailing && span.position < 12_288 && span.position + span.bytes > 8192;
      return isBad ? -Errno.EIO : host.read(file, into, span);
    },
  });
  const opened = open(folder.file("data.emdb"), system);
  isFailing = true;
  const report = await verifyDatabase(opened, {});
  const unreadable = report.problems.filter(({ reason }) => reason.includes("EIO"));
  expect(unreadable).toEqual([{ offset: 8192, reason: "the disk cannot read 4096 bytes here (EIO)" }]);
  expect(report.problems.every(({ offset }) => offset > 8000 && offset < 12_288)).toBe(true);
  expect(report.records).toBeGreaterThan(900);
  opened.leave();
});
