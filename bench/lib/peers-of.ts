/** What every workload over peers shares: availability, opening, closing. */

import { peerNamed } from "../peers/registry.ts";
import type { Durability, OpenSettings, Store } from "../peers/peer.ts";
import type { Folder } from "./folder.ts";

export const unsynced: OpenSettings = { durability: "none", isOrdered: false };

export async function peerUnavailable(subject: string): Promise<string | undefined> {
  return peerNamed(subject).unavailable();
}

/** As `peerUnavailable`, for what is closed and opened again, or durable. */
export async function fileUnavailable(subject: string): Promise<string | undefined> {
  const peer = peerNamed(subject);
  return peer.isInMemory === true ? "it is in memory alone" : peer.unavailable();
}

/** Opens a store in the folder; `name` sets it apart from others there. */
export async function openStore(
  subject: string,
  folder: Folder,
  name: string,
  settings: OpenSettings = unsynced,
): Promise<Store> {
  return peerNamed(subject).open(folder.at(name), settings);
}

/** The settings of a subject in words. */
export function settingsOf(
  subject: string,
  durability: Durability,
  { isOrdered = false, valueBytes = 150 }: Partial<OpenSettings> = {},
): string {
  return peerNamed(subject).describe({ durability, isOrdered, valueBytes });
}
