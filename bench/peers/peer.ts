/**
 * What a database must offer to take part. Every call does the nearest thing that the peer's own documentation
 * recommends; a call that a peer cannot do is left out, and its row stays empty.
 *
 * A method may answer with a promise (then the loop awaits it) or at once; it does the same on every call.
 */

import type { Entry } from "../lib/data.ts";
import type { MaybePromise } from "../lib/time.ts";

export type Durability =
  /** Written to the page cache at most; a power loss may take everything. */
  | "none"
  /** `insertDurable`, `insertMany` and `flush` are durable when they return. */
  | "sync"
  /** `insertAsync` is durable when its promise resolves, and concurrent calls may share a sync. */
  | "group";

export interface OpenSettings {
  readonly durability: Durability;
  /** Keys will be read in order. */
  readonly isOrdered: boolean;
  /** What most values have; 150 where it is not said. A peer whose own guide has another layout for long ones takes it. */
  readonly valueBytes?: number;
}

export interface Store {
  /** One atomic batch. */
  insertMany(entries: readonly Entry[]): MaybePromise<unknown>;
  /** Visible to a reader when done, not durable. */
  insert(key: Uint8Array, value: Uint8Array): MaybePromise<unknown>;
  /** Accepted, perhaps visible only after `settled`. */
  readonly insertQueued?: (key: Uint8Array, value: Uint8Array) => void;
  /** Waits for all that was queued. */
  readonly settled?: () => Promise<unknown>;
  /** Survives power loss when done. */
  readonly insertDurable?: (key: Uint8Array, value: Uint8Array) => MaybePromise<unknown>;
  /** As `insertDurable`, for many callers on one event loop. */
  readonly insertAsync?: (key: Uint8Array, value: Uint8Array) => Promise<unknown>;
  /** A copy that the caller owns. */
  get(key: Uint8Array): MaybePromise<Uint8Array | undefined>;
  /** Without a copy, where the peer has such a call; how long the bytes live differs from peer to peer. */
  readonly getView?: (key: Uint8Array) => Uint8Array | undefined;
  readonly getMany?: (keys: readonly Uint8Array[]) => MaybePromise<readonly unknown[]>;
  remove(key: Uint8Array): MaybePromise<unknown>;
  removeMany(keys: readonly Uint8Array[]): MaybePromise<unknown>;
  /** Visits every record in the peer's own order; returns the bytes of all keys and values. */
  iterate(): MaybePromise<number>;
  /** Visits up to `limit` records from a key on, in key order; returns how many. */
  readonly range?: (from: Uint8Array, limit: number) => MaybePromise<number>;
  readonly length?: () => MaybePromise<number>;
  /** What was written before is durable when done; absent where the peer cannot with these settings. */
  readonly flush?: () => MaybePromise<unknown>;
  /** Rewrites the file without dead space. */
  readonly compact?: () => MaybePromise<unknown>;
  /** The same, and records lie in the order of their keys then. */
  readonly compactInKeyOrder?: () => MaybePromise<unknown>;
  /** Memory of the index, where the peer keeps one and says so. */
  readonly indexBytes?: () => number;
  /** Posted to a Worker, lets `openShared` open the same database there. */
  readonly share?: () => unknown;
  close(): MaybePromise<unknown>;
}

export interface Peer {
  readonly id: string;
  /** Nothing is left of it when it is closed, and nothing of it is ever durable. */
  readonly isInMemory?: boolean;
  /** The settings in words, printed under the table. */
  describe(settings: OpenSettings): string;
  /** Undefined when it can take part, otherwise why not. */
  unavailable(): Promise<string | undefined>;
  open(path: string, settings: OpenSettings): MaybePromise<Store>;
  /** In another Worker of the process that has it open; absent where the peer cannot. */
  readonly openShared?: (path: string, settings: OpenSettings, share: unknown) => MaybePromise<Store>;
}
