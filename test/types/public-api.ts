/**
 * The public types as a user meets them: this file only has to type-check, here against the source (`bun check`) and
 * in `test/package` against the packed tarball, in a project as strict as TypeScript can be.
 *
 * Each `@ts-expect-error` is a mistake that must not compile.
 */

import {
  codec,
  Emdb,
  EmdbError,
  type BytesLike,
  type Codec,
  type EmdbErrorCode,
  type EmdbShare,
  type EmdbStats,
  type FlushPolicy,
  type Focus,
  type Keyspace,
  type LockHolder,
  type Namespace,
  type OpenOptions,
  type RecoveryReport,
  type Transaction,
} from "emdb";

/** Compiles only when the two types are the same one. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function claim<T extends true>(): T | undefined {
  return undefined;
}

export function opening(path: string | URL): void {
  const options: OpenOptions = { createIfMissing: false, readOnly: true, rangeScans: true, verifyReads: true };
  using db = Emdb.open(path, options);
  using located = Emdb.open({ appName: "app", databaseName: "data.emdb", defaultTtlMs: 1000 });
  using memory = Emdb.openInMemory({ encryption: { key: new Uint8Array(32) }, cipher: "chacha20-poly1305" });
  using attached = Emdb.attach(db.share());
  const policies: FlushPolicy[] = ["group", "on-each-flush", "write-through", { group: { maxWaitMs: 1, maxBatch: 8 } }];
  claim<Same<typeof db.path, string | undefined>>();
  claim<Same<typeof db.recovery, RecoveryReport>>();
  claim<Same<ReturnType<typeof db.share>, EmdbShare>>();
  claim<Same<ReturnType<typeof Emdb.lockHolder>, LockHolder | undefined>>();
  const name: string = Emdb.resolvePath({ appName: "app" });
  void [located, memory, attached, policies, name];

  // @ts-expect-error the option has another name
  Emdb.open(path, { create: true });
  // @ts-expect-error a database in memory has no file to be read-only
  Emdb.openInMemory({ readOnly: true });
  // @ts-expect-error a key is bytes
  Emdb.open(path, { encryption: { key: "secret" } });
  // @ts-expect-error there is no such policy
  Emdb.open(path, { flushPolicy: "never" });
  // @ts-expect-error undefined is not the same as left out
  Emdb.open(path, { defaultTtlMs: undefined });
}

export function records(db: Emdb, key: BytesLike): void {
  db.insert("key", "value");
  db.insert(new Uint8Array(3), new ArrayBuffer(8), { ttlMs: Infinity });
  const count: number = db.insertMany([
    ["a", "b"],
    [new Uint8Array(1), "c"],
  ]);
  const removed: number = db.removeMany(new Set(["a"]));
  claim<Same<ReturnType<typeof db.get>, Uint8Array | undefined>>();
  claim<Same<ReturnType<typeof db.getMany>, (Uint8Array | undefined)[]>>();
  claim<Same<ReturnType<typeof db.getText>, string | undefined>>();
  claim<Same<ReturnType<typeof db.expiresAt>, number | undefined>>();
  claim<Same<ReturnType<typeof db.stats>, EmdbStats>>();
  for (const [foundKey, value] of db) claim<Same<[typeof foundKey, typeof value], [Uint8Array, Uint8Array]>>();
  const firstTen: Uint8Array[] = db.keys().take(10).toArray();
  const swapped: boolean = db.compareAndSwap(key, undefined, "next");
  const updated = db.update(key, (current) => (current === undefined ? "1" : undefined));
  claim<Same<typeof updated, Uint8Array | undefined>>();
  void [count, removed, firstTen, swapped];

  // @ts-expect-error a value may be absent
  db.get(key).length;
  // @ts-expect-error a number is not bytes
  db.insert("key", 1);
  // @ts-expect-error a view of other elements is not bytes
  db.insert("key", new Float64Array(1));
  // @ts-expect-error reports are read-only
  db.recovery.tornBytes = 0;
}

/** What comes out is over an ArrayBuffer, which the promised type does not say: one word more, where a platform's call asks. */
export async function handedOn(bytes: Uint8Array): Promise<[Response, Blob, ArrayBuffer]> {
  const own = bytes as Uint8Array<ArrayBuffer>;
  return [new Response(own), new Blob([own]), await crypto.subtle.digest("SHA-256", own)];
}

/** A walk and a focus are what the interfaces say and nothing narrower: a variable holds one of any origin. */
export function walks(db: Emdb, users: Namespace): Uint8Array[] {
  let walk = db.iter();
  walk = walk.filter(([key]) => key.length > 0);
  walk = users.range({ prefix: "a" });
  walk = db.group("users").take(10);
  claim<Same<typeof walk, IteratorObject<[Uint8Array, Uint8Array], undefined>>>();
  let keys = db.keys();
  keys = walk.map(([key]) => key);
  let part = db.focus("users");
  part = part.focus("1");
  claim<Same<typeof part, Focus>>();
  using held = part.iter();
  const step = held.next();
  return step.done === true ? [...keys] : step.value;
}

export function typedSpaces(db: Emdb, point: Codec<{ readonly x: number }>): void {
  const plain = db.namespace("plain");
  const typed = db.namespace("typed", { key: codec.uint32, value: codec.json<string[]>() });
  const valued = db.namespace("valued", { value: point });
  claim<Same<typeof plain, Namespace>>();
  claim<Same<typeof typed, Namespace<number, string[], number, string[]>>>();
  claim<Same<ReturnType<typeof typed.get>, string[] | undefined>>();
  claim<Same<ReturnType<typeof valued.get>, { readonly x: number } | undefined>>();
  const view: Keyspace<bigint, string, bigint, string> = db.typed({ key: codec.uint64, value: codec.text });
  typed.insert(1, ["a"]);
  view.insert(1n, "a");

  // @ts-expect-error the key is a number
  typed.insert("1", ["a"]);
  // @ts-expect-error the value is a list
  typed.insert(1, "a");
}

export async function operations(db: Emdb, signal: AbortSignal): Promise<void> {
  const sum = db.transaction((tx: Transaction) => {
    tx.insert("a", "b");
    return tx.namespace("other").get("c")?.byteLength ?? 0;
  });
  claim<Same<typeof sum, number>>();
  await db.flush();
  await db.compact({ signal, onProgress: ({ done, total }) => void (done / total) });
  await db.backupTo("copy.emdb");
  const { problems } = await db.verify();
  claim<Same<(typeof problems)[number]["offset"], number>>();
  await using again = Emdb.openInMemory();
  claim<Same<ReturnType<typeof again.close>, Promise<void>>>();
}

/** A key of two parts, made of what the ready-made codecs give. */
export const composed: Codec<readonly [word: string, id: number]> = {
  encode([word, id]) {
    const text = new TextEncoder().encode(`${codec.text.encode(word)}\0`);
    return new Uint8Array([...text, ...codec.uint32.encode(id)]);
  },
  decode: (bytes) => [codec.text.decode(bytes.subarray(0, -5)), codec.uint32.decode(bytes.subarray(-4))],
};

/** A handle is whatever has the members: one of a program's own, in a test, takes its place. */
export function standIn(db: Emdb): Emdb {
  const members: { readonly [P in keyof Emdb]: Emdb[P] } = db;
  let held = Emdb.openInMemory();
  held = members;
  claim<Same<InstanceType<typeof Emdb>, Emdb>>();
  claim<Same<ReturnType<typeof Emdb.open>, Emdb>>();
  claim<Same<Pick<Emdb, keyof Keyspace>, { [P in keyof Keyspace]: Keyspace[P] }>>();
  type Own =
    "recovery" | "path" | "isOpen" | "share" | "namespace" | "listNamespaces" | "dropNamespace" | "transaction";
  type More =
    "focus" | "group" | "deleteGroup" | "flush" | "flushSync" | "checkpoint" | "compact" | "backupTo" | "verify";
  type End = "stats" | "close" | "closeSync" | typeof Symbol.dispose | typeof Symbol.asyncDispose;
  claim<Same<keyof Emdb, keyof Keyspace | Own | More | End>>();
  return db instanceof Emdb ? held : db;
}

export function failures(error: unknown): EmdbErrorCode | undefined {
  if (!(error instanceof EmdbError)) return undefined;
  if (error.code === "EMDB_LOCKED") return error.holder?.isHeld === true ? error.code : undefined;
  // @ts-expect-error there is no such code
  if (error.code === "EMDB_LOKED") return undefined;
  return error.code;
}
