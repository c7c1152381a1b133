/**
 * emdb itself. The library is imported by path, so that `compare.ts` can run two revisions side by side, and every
 * call is looked for before it is used: a revision may not have it yet.
 */

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

import type { Entry } from "../lib/data.ts";
import type { OpenSettings, Peer, Store } from "./peer.ts";

/** The part of the contract that the benchmarks use. */
interface EmdbHandle {
  insert(key: Uint8Array, value: Uint8Array): void;
  insertMany(entries: Iterable<Entry>): number;
  get(key: Uint8Array): Uint8Array | undefined;
  getMany(keys: Iterable<Uint8Array>): (Uint8Array | undefined)[];
  getZeroCopy(key: Uint8Array): Uint8Array | undefined;
  remove(key: Uint8Array): unknown;
  removeMany(keys: Iterable<Uint8Array>): number;
  len(): number;
  iter(): Iterable<[Uint8Array, Uint8Array]>;
  range(range: { readonly gte?: Uint8Array; readonly limit?: number }): Iterable<[Uint8Array, Uint8Array]>;
  flush(): Promise<void>;
  flushSync(): void;
  compact(options?: { readonly inKeyOrder: boolean }): Promise<void>;
  share(): unknown;
  stats(): { readonly indexBytes: number };
  close(): Promise<void>;
}

interface EmdbClass {
  open(path: string, options: Record<string, unknown>): EmdbHandle;
  openInMemory(options: Record<string, unknown>): EmdbHandle;
  attach?(share: unknown): EmdbHandle;
}

const inMemory = "emdb-memory";

/** Settings by variant; "emdb" alone is the default. */
const variants: Readonly<Record<string, Record<string, unknown>>> = {
  emdb: {},
  [inMemory]: {},
  "emdb-ordered": { rangeScans: true },
  "emdb-tuned": { flushPolicy: { group: { maxWaitMs: 1, maxBatch: 64 } } },
  "emdb-each-flush": { flushPolicy: "on-each-flush" },
  "emdb-write-through": { flushPolicy: "write-through" },
  "emdb-verify": { verifyReads: true },
  "emdb-aes": { encryption: { key: new Uint8Array(32).fill(7) } },
  "emdb-chacha": { encryption: { key: new Uint8Array(32).fill(7) }, cipher: "chacha20-poly1305" },
};

export const emdbVariants: readonly string[] = Object.keys(variants);

const ownSource = fileURLToPath(new URL("../../src/index.ts", import.meta.url));

/** The class, or the reason why it cannot be had. */
async function load(source: string): Promise<EmdbClass | string> {
  if (!existsSync(source)) return `${source} is not there`;
  try {
    const library = (await import(source)) as { readonly Emdb?: EmdbClass };
    return library.Emdb ?? `${source} exports no Emdb`;
  } catch (error) {
    return `${source} does not load: ${String(error)}`;
  }
}

function storeOf(emdb: EmdbHandle, variant: string, settings: OpenSettings): Store {
  const isOrdered = settings.isOrdered || variant === "emdb-ordered";
  // O_DSYNC makes every insert durable on return, so there is nothing left to flush.
  const flushSync = variant === "emdb-write-through" ? () => {} : () => emdb.flushSync();
  return {
    insertMany: (entries) => {
      emdb.insertMany(entries);
      if (settings.durability === "sync") flushSync();
    },
    insert: (key, value) => emdb.insert(key, value),
    insertQueued: (key, value) => emdb.insert(key, value),
    settled: async () => {},
    ...(variant === inMemory
      ? {}
      : {
          insertDurable: (key: Uint8Array, value: Uint8Array) => {
            emdb.insert(key, value);
            flushSync();
          },
          insertAsync: async (key: Uint8Array, value: Uint8Array) => {
            emdb.insert(key, value);
            await emdb.flush();
          },
          flush: () => emdb.flushSync(),
        }),
    get: (key) => emdb.get(key),
    ...(typeof emdb.getZeroCopy === "function" ? { getView: (key: Uint8Array) => emdb.getZeroCopy(key) } : {}),
    ...(typeof emdb.getMany === "function" ? { getMany: (keys: readonly Uint8Array[]) => emdb.getMany(keys) } : {}),
    remove: (key) => void emdb.remove(key),
    removeMany: (keys) => emdb.removeMany(keys),
    iterate: () => {
      let bytes = 0;
      for (const [key, value] of emdb.iter()) bytes += key.length + value.length;
      return bytes;
    },
    ...(isOrdered && typeof emdb.range === "function"
      ? {
          range: (gte: Uint8Array, limit: number) => {
            let count = 0;
            for (const [, value] of emdb.range({ gte, limit })) count += value.length > 0 ? 1 : 0;
            return count;
          },
        }
      : {}),
    length: () => emdb.len(),
    ...(typeof emdb.compact === "function" ? { compact: () => emdb.compact() } : {}),
    ...(isOrdered ? { compactInKeyOrder: () => emdb.compact({ inKeyOrder: true }) } : {}),
    indexBytes: () => emdb.stats().indexBytes,
    ...(typeof emdb.share === "function" ? { share: () => emdb.share() } : {}),
    close: () => emdb.close(),
  };
}

/** A variant of emdb, from a source file. */
export interface EmdbSubject {
  readonly variant: string;
  readonly source: string;
}

/** The variant and the source that a subject's name says: `emdb-aes`, `emdb@/path/to/src/index.ts`. */
export function emdbSubject(id: string): EmdbSubject {
  const at = id.indexOf("@");
  return at < 0 ? { variant: id, source: ownSource } : { variant: id.slice(0, at), source: id.slice(at + 1) };
}

function optionsOf({ variant }: EmdbSubject): Record<string, unknown> {
  const options = variants[variant];
  if (options === undefined) throw new Error(`no variant ${variant}; there are ${emdbVariants.join(", ")}`);
  return options;
}

/** A handle of a subject, and all that its library exports. */
export async function openEmdb(
  path: string,
  subject: EmdbSubject,
): Promise<{ readonly handle: object; readonly library: Readonly<Record<string, unknown>> }> {
  const emdb = await load(subject.source);
  if (typeof emdb === "string") throw new Error(emdb);
  const options = optionsOf(subject);
  const handle = subject.variant === inMemory ? emdb.openInMemory(options) : emdb.open(path, options);
  return { handle, library: (await import(subject.source)) as Record<string, unknown> };
}

/** The peer of a subject; `id` is what the tables show. */
export function emdbPeer(id: string): Peer {
  const subject = emdbSubject(id);
  const { variant, source } = subject;
  const options = optionsOf(subject);
  let loaded: EmdbClass | string | undefined;
  const library = async (): Promise<EmdbClass> => {
    loaded ??= await load(source);
    if (typeof loaded === "string") throw new Error(loaded);
    return loaded;
  };
  const openOptions = (settings: OpenSettings): Record<string, unknown> =>
    settings.isOrdered ? { ...options, rangeScans: true } : options;
  return {
    id,
    isInMemory: variant === inMemory,
    describe: (settings) =>
      `emdb ${JSON.stringify(openOptions(settings), (_, value: unknown) => (value instanceof Uint8Array ? "32 bytes" : value))}, durable = insert + flushSync, async = insert + await flush()`,
    unavailable: async () => {
      loaded ??= await load(source);
      return typeof loaded === "string" ? loaded : undefined;
    },
    open: async (path, settings) => {
      const emdb = await library();
      return storeOf(
        variant === inMemory ? emdb.openInMemory(openOptions(settings)) : emdb.open(path, openOptions(settings)),
        variant,
        settings,
      );
    },
    openShared: async (_path, settings, share) => {
      const emdb = await library();
      if (typeof emdb.attach !== "function") throw new Error("Emdb.attach is not there");
      return storeOf(emdb.attach(share), variant, settings);
    },
  };
}
