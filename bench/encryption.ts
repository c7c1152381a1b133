/**
 * What encryption costs, plain and encrypted side by side in one process, in blocks that take turns: single inserts and
 * gets, bulk load, replay of the whole log, opening with the image, and opening with a passphrase.
 *
 * Times are those of the process's own work (user and system), which a busy machine stretches less than the clock's. A replay
 * of an encrypted log has helper threads, so for replays the clock's time stands beside it.
 */

import { rmSync, statSync } from "node:fs";

import { TAG_BYTES } from "../src/crypto/aead.ts";
import type { Cipher } from "../src/crypto/cipher.ts";
import { createAead, packageAead } from "../src/crypto/create-aead.ts";
import { SecretKey } from "../src/crypto/secret.ts";
import { Emdb } from "../src/index.ts";
import type { OpenOptions } from "../src/index.ts";
import { Data } from "./lib/data.ts";
import { Folder } from "./lib/folder.ts";
import { numberOption } from "./lib/options.ts";
import type { Options } from "./lib/options.ts";
import { median } from "./lib/statistics.ts";
import { runWorkload } from "./lib/workload.ts";
import type { Outcome, Row, Workload } from "./lib/workload.ts";

const key = new Uint8Array(32).fill(7);
const kinds: readonly (readonly [string, OpenOptions])[] = [
  ["plain", {}],
  ["AES", { encryption: { key }, cipher: "aes-256-gcm" }],
  ["ChaCha", { encryption: { key }, cipher: "chacha20-poly1305" }],
];
const blockRecords = 2000;
const rounds = 84;
/** Behind fewer operations part of what is measured is the compiler. */
const warmUpRounds = 60;
/** An image is sealed in pieces, most of them a shard of seven pages. */
const pieceBytes = 7 * 4096;

/** Microseconds of the process's own work. */
function cost(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

/** Microseconds by the clock as well: where helpers work at the same time, that is what somebody waits for. */
function timed(work: () => void): { readonly cost: number; readonly clock: number } {
  const began = performance.now();
  const spent = cost(work);
  return { cost: spent, clock: (performance.now() - began) * 1000 };
}

type Block = (round: number) => void;

/** Nanoseconds an operation, of blocks that take turns; the first rounds warm up. */
function inTurn(blocks: Readonly<Record<string, Block>>): Map<string, number> {
  const times = new Map<string, number[]>(Object.keys(blocks).map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const [name, block] of Object.entries(blocks)) {
      const spent = cost(() => block(round));
      if (round >= warmUpRounds) times.get(name)?.push((spent * 1000) / blockRecords);
    }
  }
  return new Map([...times].map(([name, values]) => [name, median(values)]));
}

/** What a cipher itself takes for a record, or for as many bytes at a time, as the engine calls it. */
interface BareCipher {
  readonly seal: Block;
  readonly open: Block;
  /** One message. */
  readonly opened: () => void;
}

function bareCipher(body: Uint8Array, createWith: typeof createAead, cipher: Cipher = "aes-256-gcm"): BareCipher {
  const aead = createWith(cipher, new SecretKey(key.slice()));
  const context = { nonce: new Uint8Array(12), associatedData: new Uint8Array(52) };
  const sealed = new Uint8Array(body.length + TAG_BYTES);
  const into = new Uint8Array(body.length);
  const span = { at: 0, bytes: sealed.length };
  const seal = (): void => aead.sealInto(body, context, { into: sealed, at: 0 });
  const opened = (): void => void aead.openInto(sealed, context, span, into);
  const often =
    (work: () => void): Block =>
    () => {
      for (let index = 0; index < blockRecords; index++) work();
    };
  seal();
  return { seal: often(seal), open: often(opened), opened };
}

/** The cipher that is used on this machine, and the one that is used where the system has no libcrypto. */
function bareCiphers(body: Uint8Array, cipher?: Cipher): Readonly<Record<"used" | "package", BareCipher>> {
  return { used: bareCipher(body, createAead, cipher), package: bareCipher(body, packageAead, cipher) };
}

const alone = [
  ["the cipher alone", "used"],
  ["the package's cipher alone", "package"],
] as const;

/** The plain time, what encryption adds to it, and that beside the cipher alone. */
function rowsOf(what: string, kind: string, times: ReadonlyMap<string, number>): Row[] {
  const timeOf = (name: string): number => times.get(name) ?? Number.NaN;
  const adds = timeOf(kind) - timeOf("plain");
  const rows: Row[] = [
    { row: `${what}: plain`, value: timeOf("plain"), unit: "ns", better: "lower" },
    { row: `${what}: ${kind} adds`, value: adds, unit: "ns", better: "lower" },
  ];
  for (const [name, cipher] of alone) {
    rows.push({ row: `${what}: ${kind}, ${name}`, value: timeOf(cipher), unit: "ns", better: "lower" });
  }
  const value = timeOf("package") / timeOf("used");
  rows.push({
    row: `${what}: ${kind}, the package's cipher over the one that is used`,
    value,
    unit: "x",
    better: "higher",
  });
  return rows;
}

/** Single operations, plain and encrypted in turn. */
function single([kind, options]: readonly [string, OpenOptions], data: Data, folder: Folder): Row[] {
  const plain = Emdb.open(folder.at(`single-plain-${kind}`));
  const sealed = Emdb.open(folder.at(`single-${kind}`), options);
  const keysOf = (round: number): Uint8Array[] =>
    Array.from({ length: blockRecords }, (_, index) => data.key(round * blockRecords + index));
  const blocks = Array.from({ length: rounds }, (_, round) => keysOf(round));
  const value = data.value(1);
  const over =
    (db: Emdb, work: (db: Emdb, one: Uint8Array) => void): Block =>
    (round) => {
      for (const one of blocks[round]!) work(db, one);
    };
  const bare = bareCiphers(value, options.cipher);
  const both = (work: (db: Emdb, one: Uint8Array) => void, call: "seal" | "open"): Map<string, number> => {
    const ciphers = { used: bare.used[call], package: bare.package[call] };
    return inTurn({ plain: over(plain, work), [kind]: over(sealed, work), ...ciphers });
  };
  const insert = (db: Emdb, one: Uint8Array): void => db.insert(one, value);
  const rows = rowsOf("insert", kind, both(insert, "seal"));
  const again = rowsOf("insert over a record", kind, both(insert, "seal"));
  plain.flushSync();
  sealed.flushSync();
  const gets = rowsOf(
    "get",
    kind,
    both((db, one) => void db.get(one), "open"),
  );
  plain.closeSync();
  sealed.closeSync();
  return [...rows, ...again, ...gets];
}

const opens = 5;

/** Bulk load of one kind; then replay and open of all kinds that were loaded, in turns with the cipher alone. */
function whole(data: Data, parts: { records: number; folder: Folder }): Row[] {
  const loaded = kinds.map((kind) => load(kind, data, parts));
  const records = bareCiphers(data.value(1));
  const pieces = bareCiphers(new Uint8Array(pieceBytes));
  const image = statSync(`${loaded.find(({ name }) => name === "AES")!.path}.hint`).size;
  const openPieces = (opened: () => void): void => {
    for (let at = 0; at < image; at += pieceBytes) opened();
  };
  const times = new Map<string, number[]>();
  const note = (row: string, value: number): void => void times.set(row, [...(times.get(row) ?? []), value]);
  for (let round = 0; round < opens; round++) {
    for (const { name, open } of loaded) note(`open, image: ${name}`, open().cost);
    for (const [name, cipher] of alone)
      note(
        `open, image: ${name}`,
        cost(() => openPieces(pieces[cipher].opened)),
      );
  }
  for (const { path } of loaded) rmSync(`${path}.hint`);
  for (let round = 0; round < opens; round++) {
    for (const { name, open } of loaded) {
      const { cost: spent, clock } = open();
      note(`open, replay: ${name}`, spent);
      note(`open, replay, by the clock: ${name}`, clock);
    }
    for (const [name, cipher] of alone) {
      const bare = cost(() => {
        for (let block = 0; block * blockRecords < parts.records; block++) records[cipher].open(block);
      });
      note(`open, replay: ${name}`, bare);
    }
  }
  const rows = [...times].map(([row, values]): Row => ({
    row,
    value: median(values) / 1000,
    unit: "ms",
    better: "lower",
  }));
  return [...loaded.map(({ bulk }) => bulk), ...rows];
}

interface Loaded {
  readonly name: string;
  readonly path: string;
  readonly bulk: Row;
  /** Opens it for reading, closes it, and says what that cost, and how long it took by the clock; both in microseconds. */
  readonly open: () => { readonly cost: number; readonly clock: number };
}

function load(
  [name, options]: readonly [string, OpenOptions],
  data: Data,
  parts: { readonly records: number; readonly folder: Folder },
): Loaded {
  const { records, folder } = parts;
  const path = folder.at(`whole-${name}`);
  let bulk = 0;
  const db = Emdb.open(path, options);
  for (let from = 0; from < records; from += 100_000) {
    const entries = data.entries(from, Math.min(records, from + 100_000));
    bulk += cost(() => void db.insertMany(entries));
  }
  db.closeSync();
  const open = (): ReturnType<Loaded["open"]> =>
    timed(() => Emdb.open(path, { ...options, readOnly: true }).closeSync());
  const row: Row = { row: `bulk load: ${name}`, value: (bulk / records) * 1000, unit: "ns", better: "lower" };
  return { name, path, bulk: row, open };
}

function secrets(folder: Folder): Row[] {
  const rows: Row[] = [];
  const all: readonly (readonly [string, OpenOptions])[] = [
    ["plain", {}],
    ["a key", { encryption: { key } }],
    ["a passphrase", { encryption: { passphrase: "correct horse battery staple" } }],
  ];
  for (const [name, options] of all) {
    const path = folder.at(`secret-${name}`);
    const open = (): number => cost(() => Emdb.open(path, options).closeSync());
    open();
    rows.push({
      row: `open and close, empty: ${name}`,
      value: median([open(), open(), open()]) / 1000,
      unit: "ms",
      better: "lower",
    });
  }
  return rows;
}

async function run(_: string, options: Options): Promise<Outcome> {
  const data = new Data({ seed: numberOption(options, "seed") });
  const records = numberOption(options, "records");
  using folder = new Folder();
  const rows = [
    ...single(kinds[1]!, data, folder),
    ...single(kinds[2]!, data, folder).filter(({ row }) => row.includes("ChaCha")),
    ...whole(data, { records, folder }),
    ...secrets(folder),
  ];
  const timeOf = (row: string): number => rows.find((one) => one.row === row)?.value ?? Number.NaN;
  for (const what of ["open, image", "open, replay", "open, replay, by the clock", "bulk load"]) {
    const hasBare = what === "open, image" || what === "open, replay";
    const others = hasBare ? ["AES", "ChaCha", ...alone.map(([name]) => name)] : ["AES", "ChaCha"];
    for (const kind of others) {
      const value = timeOf(`${what}: ${kind}`) / timeOf(`${what}: plain`);
      rows.push({ row: `${what}: ${kind} over plain`, value, unit: "x", better: "lower" });
    }
  }
  for (const what of ["open, image", "open, replay"]) {
    const floor = timeOf(`${what}: plain`) + timeOf(`${what}: the cipher alone`);
    const value = timeOf(`${what}: AES`) / floor;
    rows.push({ row: `${what}: AES over plain and the cipher together`, value, unit: "x", better: "lower" });
  }
  return { rows, settings: `${records} records in the bulk load; 24 B keys, 150 B values` };
}

const workload: Workload = {
  title: "What encryption costs",
  notes: [
    "CPU time of the process, unless a row says otherwise. 'adds' is the time beyond plain, for one record, in the same run.",
    "A passphrase is stretched with Argon2id on four threads: the CPU time is that of all of them.",
  ],
  defaults: { peers: "emdb", records: "1m", repeat: "1" },
  unavailable: async () => undefined,
  run,
};

if (import.meta.main) await runWorkload(workload, import.meta.path);
