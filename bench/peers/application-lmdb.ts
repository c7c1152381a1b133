/**
 * lmdb-js: `transactionSync`, databases by name, which are opened once; documents in its own encoding (MessagePack), which it
 * takes unless it is told otherwise, and strings in its own.
 */

import type { Database, RootDatabaseOptionsWithPath } from "lmdb";
import type { Application, Document } from "./application.ts";
import { lmdbTuning } from "./lmdb.ts";

/** Databases with a name that there can be. */
const NAMED_MAX = 2000;

export async function openLmdbApplication(path: string): Promise<Application> {
  const { open } = await import("lmdb");
  const { encoding: _, keyEncoding: __, ...tuning } = lmdbTuning({ durability: "none", isOrdered: false });
  const root = open({ path: `${path}.mdb`, ...tuning, maxDbs: NAMED_MAX } as RootDatabaseOptionsWithPath);
  const bytes = <Value>(name: string): Database<Value, string> =>
    root.openDB<Value, string>({ name, encoding: "binary", cache: false });
  const first = bytes<Uint8Array>("first");
  const second = bytes<Uint8Array>("second");
  const numbers = root.openDB<number, string>({ name: "numbers", cache: false });
  const documents = root.openDB<Document, string>({ name: "documents", cache: false });
  const texts = root.openDB<string, string>({ name: "texts", encoding: "string", cache: false });
  const named = new Map<string, Database<Uint8Array, string>>();
  const inSpace = (space: string): Database<Uint8Array, string> => {
    let found = named.get(space);
    if (found === undefined) named.set(space, (found = bytes(`space ${space}`)));
    return found;
  };
  return {
    transact: (keys, value, spaces) =>
      root.transactionSync(() => {
        for (const key of keys) {
          first.getBinary(key);
          first.putSync(key, value);
          if (spaces === 1) continue;
          second.getBinary(key);
          second.putSync(key, value);
        }
      }),
    increment: (key) =>
      root.transactionSync(() => {
        const next = (numbers.get(key) ?? 0) + 1;
        numbers.putSync(key, next);
        return next;
      }),
    swap: (key, expected, next) =>
      root.transactionSync(() => {
        const current = first.getBinary(key);
        if (current === undefined || Buffer.compare(current, expected) !== 0) return false;
        first.putSync(key, next);
        return true;
      }),
    get: (key) => first.getBinary(key),
    putDocument: (key, document) => documents.putSync(key, document),
    getDocument: (key) => documents.get(key),
    putText: (key, text) => texts.putSync(key, text),
    getText: (key) => texts.get(key),
    putIn: (space, key, value) => inSpace(space).putSync(key, value),
    getIn: (space, key) => inSpace(space).getBinary(key),
    close: () => root.close(),
  };
}
