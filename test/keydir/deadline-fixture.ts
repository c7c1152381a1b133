/** Records with deadlines in a hash index with made-up positions, and the queue beside it. */

import { ExpiryQueue } from "../../src/keydir/expiry-queue.ts";
import { HASH_SHIFT } from "../../src/keydir/shard.ts";
import { TWO_32 } from "../../src/log/frame.ts";
import { IndexFixture } from "./fixture.ts";

export class DeadlineFixture extends IndexFixture {
  readonly queue = new ExpiryQueue(this.heap, this.keydir);
  /** By key. */
  readonly deadlines = new Map<number, number>();

  put(key: number, hash: number, deadlineMs: number): void {
    const hadDeadline = this.deadlines.has(key);
    this.insert(key, hash);
    this.deadlines.set(key, deadlineMs);
    if (!hadDeadline) this.queue.count(this.space, 1, 0);
    const { low, high } = this.slotOf(key);
    this.queue.enter(this.space, deadlineMs, low, high);
  }

  slotOf(key: number): { readonly low: number; readonly high: number } {
    const entry = this.model.get(key);
    if (entry === undefined) throw new Error(`key ${key} is not there`);
    return { low: entry.units % TWO_32, high: ((entry.hash << HASH_SHIFT) | Math.floor(entry.units / TWO_32)) >>> 0 };
  }
}
