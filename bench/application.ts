/** What an application does: transactions that read, counters, compare and swap, documents, texts, key spaces by name. */

import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { peerUnavailable, settingsOf } from "./lib/peers-of.ts";
import { perCall } from "./lib/time.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";
import { openApplication, type Application, type Document } from "./peers/application.ts";

/** Keys of a transaction. */
const SIZES = [1, 3, 10, 100];
/** What the texts are made of, so that some have characters of one byte and some of two. */
const TEXTS = {
  "20 characters, ASCII": "plain text ",
  "2000 characters, ASCII": "plain text ",
  "10000 characters, ASCII": "plain text ",
  "1000000 characters, ASCII": "plain text ",
  "2000, Cyrillic": "текст ",
};

/** Characters of texts that a row writes at most. */
const TEXT_UNITS_MAX = 100_000_000;
/** About as long as a key of lmdb's can be. */
const LONG_KEY_UNITS = 1900;

interface Sizes {
  readonly records: number;
  readonly calls: number;
  readonly spaces: number;
}

/** A key as applications have them. */
function keyOf(index: number): string {
  return `user:${String(index).padStart(10, "0")}`;
}

function documentOf(index: number): Document {
  const name = `person number ${index}`;
  return {
    id: index,
    name,
    mail: `${index}@example.org`,
    tags: ["new", "paying"],
    changedAtMs: 1_700_000_000_000 + index,
  };
}

/** Calls that are compiled by the time that a row begins. */
const WARM_UP_CALLS = 20_000;

/** Nanoseconds for each call of so many, behind others that warm it up. */
async function measured(calls: number, call: (index: number) => unknown): Promise<number> {
  await perCall(Math.min(calls, WARM_UP_CALLS), call);
  // What was garbage before is not this row's.
  Bun.gc(true);
  return perCall(calls, call);
}

function rowOf(row: string, nanoseconds: number): Row {
  return { row, value: nanoseconds / 1000, unit: "us", better: "lower" };
}

async function transactions(
  application: Application,
  data: Data,
  keys: readonly string[],
  calls: number,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const spaces of [1, 2] as const)
    for (const size of SIZES) {
      const count = Math.max(20, Math.floor(calls / size));
      const groups = Array.from({ length: count }, (_, group) =>
        Array.from({ length: size }, (__, at) => keys[(group * size + at) % keys.length]!),
      );
      const value = await measured(count, (index) =>
        application.transact(groups[index % count]!, data.value(index), spaces),
      );
      const where = spaces === 2 ? " in each of two key spaces" : "";
      rows.push(rowOf(`transaction of ${size} read and written${where}`, value));
    }
  return rows;
}

async function changes(application: Application, data: Data, keys: readonly string[], calls: number): Promise<Row[]> {
  let sum = 0;
  const increment = await measured(calls, (index) => (sum += application.increment(keys[index % 1000]!)));
  if (!(sum >= calls)) throw new Error("a counter does not count");
  for (const key of keys) application.transact([key], data.value(0), 1);
  const swap = await measured(calls, (index) => {
    const key = keys[index % keys.length]!;
    const current = application.get(key);
    if (current === undefined || !application.swap(key, current, data.value(index + 1)))
      throw new Error("what was just read is not there");
  });
  return [rowOf("counter, one more", increment), rowOf("get, then compare and swap", swap)];
}

async function documents(application: Application, keys: readonly string[], calls: number): Promise<Row[]> {
  const all = keys.map((_, index) => documentOf(index));
  const put = await measured(calls, (index) =>
    application.putDocument(keys[index % keys.length]!, all[index % keys.length]!),
  );
  for (const [index, key] of keys.entries()) application.putDocument(key, all[index]!);
  const get = await measured(calls, (index) => {
    const at = index % keys.length;
    if (application.getDocument(keys[at]!)?.id !== at) throw new Error("another document was read than was written");
  });
  return [rowOf("document, write", put), rowOf("document, read", get)];
}

async function texts(application: Application, keys: readonly string[], calls: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [title, words] of Object.entries(TEXTS)) {
    const length = Number.parseInt(title, 10);
    const few = Math.min(calls, Math.ceil(TEXT_UNITS_MAX / length));
    const some = keys.slice(0, Math.min(1000, few));
    const text = words.repeat(Math.ceil(length / words.length)).slice(0, length);
    const put = await measured(few, (index) => application.putText(some[index % some.length]!, text));
    const get = await measured(few, (index) => {
      if (application.getText(some[index % some.length]!) !== text)
        throw new Error("another text was read than was written");
    });
    rows.push(rowOf(`text of ${title}, write`, put), rowOf(`text of ${title}, read`, get));
  }
  return rows;
}

async function longKeys(application: Application, data: Data, keys: readonly string[], calls: number): Promise<Row[]> {
  const long = keys.map((key) => key.padStart(LONG_KEY_UNITS, "prefix "));
  for (const key of long) application.transact([key], data.value(0), 1);
  const get = await measured(calls, (index) => {
    if (application.get(long[index % long.length]!) === undefined) throw new Error("a record is missing");
  });
  return [rowOf(`get by a key of ${LONG_KEY_UNITS} characters`, get)];
}

async function keySpaces(application: Application, data: Data, sizes: Sizes): Promise<Row[]> {
  const names = Array.from({ length: sizes.spaces }, (_, index) => `tenant ${index}`);
  const nameAt = (index: number): string => names[(index * 7919) % names.length]!;
  for (const name of names) application.putIn(name, "settings", data.value(0));
  const put = await measured(sizes.calls, (index) => application.putIn(nameAt(index), "settings", data.value(index)));
  const get = await measured(sizes.calls, (index) => {
    if (application.getIn(nameAt(index), "settings") === undefined) throw new Error("a record is missing");
  });
  return [
    rowOf(`write to one of ${names.length} key spaces by name`, put),
    rowOf(`read from one of ${names.length} key spaces by name`, get),
  ];
}

async function run(subject: string, options: Options): Promise<Outcome> {
  using folder = new Folder();
  const data = new Data({ seed: numberOption(options, "seed") });
  const sizes = {
    records: numberOption(options, "records"),
    calls: numberOption(options, "calls"),
    spaces: numberOption(options, "spaces"),
  };
  const keys = data.shuffled(sizes.records, sizes.records).map(keyOf);
  const application = await openApplication(subject, folder.at("application"));
  for (let from = 0; from < keys.length; from += 1000)
    application.transact(keys.slice(from, from + 1000), data.value(from), 2);
  const rows = [
    ...(await transactions(application, data, keys, sizes.calls)),
    ...(await changes(application, data, keys, sizes.calls)),
    ...(await documents(application, keys.slice(0, 10_000), sizes.calls)),
    ...(await texts(application, keys, sizes.calls)),
    ...(await longKeys(application, data, keys.slice(0, 10_000), sizes.calls)),
    ...(await keySpaces(application, data, sizes)),
  ];
  await application.close();
  return { rows, settings: settingsOf(subject, "none") };
}

const workload: Workload = {
  title: "What an application does",
  notes: [
    "Keys are text of 15 characters, values 150 bytes unless a row says otherwise; nothing is synced, everything is visible to all readers on return.",
    "A transaction reads each of its keys and then writes it. lmdb: transactionSync; sqlite: a prepared immediate transaction.",
    "Documents have five fields: codec.json, lmdb's own encoding (MessagePack), and JSON text in sqlite. Counters: update of codec.uint32, transactionSync, an upsert with RETURNING.",
    "Key spaces by name: emdb's namespace(name) for each call, lmdb's databases opened once and kept in a Map, a key of two columns in sqlite.",
  ],
  defaults: { peers: "emdb,lmdb,sqlite,sqlite-exclusive", records: "100k", calls: "50k", spaces: "1000" },
  unavailable: async (subject) =>
    ["level", "map"].includes(subject) ? "it has no transactions that read" : peerUnavailable(subject),
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
