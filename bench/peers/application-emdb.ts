/** emdb: transactions, `update`, `compareAndSwap`, typed views; `namespace(name)` for each call. */

import type { Application, Document } from "./application.ts";
import { openEmdb, type EmdbSubject } from "./emdb.ts";

/** The part of a key space that is used here. */
interface View<Value> {
  insert(key: string, value: Value): void;
  get(key: string): Value | undefined;
  update(key: string, change: (current: Value | undefined) => Value): Value | undefined;
  compareAndSwap(key: string, expected: Value, next: Value): boolean;
}

interface Writes {
  insert(key: string, value: Uint8Array): void;
  get(key: string): Uint8Array | undefined;
}

interface Handle extends View<Uint8Array> {
  namespace(name: string): View<Uint8Array>;
  namespace<Value>(name: string, codecs: { readonly key: unknown; readonly value: unknown }): View<Value>;
  transaction(body: (tx: Writes & { namespace(name: string): Writes }) => void): void;
  close(): Promise<void>;
}

interface Codecs {
  readonly text: unknown;
  readonly uint32: unknown;
  json(): unknown;
}

const SECOND = "second";

export async function openEmdbApplication(path: string, subject: EmdbSubject): Promise<Application> {
  const { handle, library } = await openEmdb(path, subject);
  const db = handle as unknown as Handle;
  const codec = library["codec"] as Codecs;
  const key = codec.text;
  const numbers = db.namespace<number>("numbers", { key, value: codec.uint32 });
  const documents = db.namespace<Document>("documents", { key, value: codec.json() });
  const texts = db.namespace<string>("texts", { key, value: codec.text });
  return {
    transact: (keys, value, spaces) =>
      db.transaction((tx) => {
        const second = spaces === 2 ? tx.namespace(SECOND) : undefined;
        for (const one of keys) {
          tx.get(one);
          tx.insert(one, value);
          second?.get(one);
          second?.insert(one, value);
        }
      }),
    increment: (one) => numbers.update(one, (current = 0) => current + 1) ?? 0,
    swap: (one, expected, next) => db.compareAndSwap(one, expected, next),
    get: (one) => db.get(one),
    putDocument: (one, document) => documents.insert(one, document),
    getDocument: (one) => documents.get(one),
    putText: (one, text) => texts.insert(one, text),
    getText: (one) => texts.get(one),
    putIn: (space, one, value) => db.namespace(space).insert(one, value),
    getIn: (space, one) => db.namespace(space).get(one),
    close: () => db.close(),
  };
}
