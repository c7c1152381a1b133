/** What the tests of changing an encryption share: a database with everything in it, and its state as text. */

import { Emdb } from "../../src/index.ts";
import type { EncryptionInput } from "../../src/api/types.ts";
import { EVERYTHING, LATER_MS, stateOf } from "../engine/fixture.ts";

export const KEY = new Uint8Array(32).map((_, index) => index * 7 + 1);
export const OTHER = new Uint8Array(32).map((_, index) => index * 5 + 2);

/** Opens, with a secret or without one. */
export function openWith(path: string, encryption?: EncryptionInput): Emdb {
  return Emdb.open(path, encryption === undefined ? {} : { encryption });
}

/** Texts that stand in the database and may stand in no encrypted file. */
export const TELLTALES = ["telltale key", "telltale value", "telltale namespace"] as const;

/** Makes a database with everything in it; returns its state. */
export function make(path: string, encryption?: EncryptionInput): string {
  using db = openWith(path, encryption);
  for (const step of EVERYTHING) step(db);
  for (const name of ["zebra", "telltale namespace", "ant", "empty one"]) db.namespace(name);
  db.namespace("ant").insert("telltale key", "telltale value", { expiresAtMs: LATER_MS });
  db.namespace("zebra").insert("expired", "long ago", { ttlMs: 0 });
  db.insert("long", new Uint8Array(1_500_000).fill(5));
  db.dropNamespace("named");
  return visibleState(db);
}

/** The state, without what has expired and awaits a sweep: a rewrite leaves that out. */
export function visibleState(db: Emdb): string {
  for (const space of [db, ...db.listNamespaces().map((name) => db.namespace(name))]) space.sweepExpired();
  return stateOf(db);
}

export function stateWith(path: string, encryption?: EncryptionInput): string {
  using db = openWith(path, encryption);
  return visibleState(db);
}
