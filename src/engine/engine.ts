/** The engine as the room above sees it: one `Store` over a `Core`, each call handed to the path it belongs to. */

import { EmdbError } from "../errors.ts";
import { lengthSum, type BatchPart } from "./write/batch-lengths.ts";
import { BatchOrder, ORDERED_MIN } from "./write/batch-order.ts";
import type {
  BatchWrite,
  Bytes,
  CheckedLengths,
  RangeBounds,
  RecordSource,
  Space,
  Store,
  Wanted,
  WantedInOrder,
} from "./contract.ts";
import { STATE, STATE_CLOSED } from "./threads/control.ts";
import type { Core } from "./core.ts";
import { Sweeper } from "./background/expiry.ts";
import { Ranges } from "./read/range.ts";
import { ReadPath } from "./read/read-path.ts";
import { RoomAhead } from "./write/room-ahead.ts";
import { Snapshots } from "./read/snapshot.ts";
import type { Spaces } from "./spaces.ts";
import { type SpaceState } from "./spaces.ts";
import { liesScattered, touchRecords } from "./write/touch.ts";
import { WritePath } from "./write/write-path.ts";
import { PLACE_ALONE, PLACE_FIRST, PLACE_LAST, PLACE_MIDDLE, placeInBatch } from "../log/frame.ts";

/** Frames of a batch of so many writes are built in their place: they fill most of a ring at least. */
const IN_PLACE_MIN = 32_768;

export class Engine implements Store {
  readonly core: Core;
  readonly spaces: Spaces;
  readonly snapshots: Snapshots;
  readonly defaultSpace: SpaceState;
  readonly hasRangeScans: boolean;
  readonly sweeper: Sweeper;
  readonly #read: ReadPath;
  #ranges: Ranges | undefined;
  readonly #write: WritePath;

  constructor(core: Core, spaces: Spaces, parts: { readonly hasRangeScans: boolean }) {
    this.core = core;
    this.spaces = spaces;
    this.snapshots = new Snapshots(core, spaces);
    this.defaultSpace = spaces.default;
    this.hasRangeScans = parts.hasRangeScans;
    this.#read = new ReadPath(core, spaces);
    this.#write = new WritePath(core, spaces);
    this.sweeper = new Sweeper(core, spaces, this.#write);
  }

  get isOpen(): boolean {
    return !this.core.isClosed;
  }

  get isReadOnly(): boolean {
    return this.core.isReadOnly;
  }

  clockMs(): number {
    return this.core.system.now();
  }

  now(): number {
    return this.core.now();
  }

  // -- namespaces ------------------------------------------------------------

  spaceNamed(name: string): SpaceState {
    this.core.enter();
    const known = this.spaces.named(name);
    if (known !== undefined) return known;
    if (this.isReadOnly) throw this.#noSuchSpace(name);
    return this.#writing(() => {
      const meanwhile = this.spaces.named(name);
      if (meanwhile !== undefined) return meanwhile;
      const space = this.#write.createSpace(name, PLACE_ALONE);
      this.#write.publish();
      return space;
    });
  }

  #noSuchSpace(name: string): EmdbError {
    return new EmdbError(
      "EMDB_READ_ONLY",
      `there is no such namespace, ${JSON.stringify(name)}, and a database that was opened with readOnly makes none; ask listNamespaces first`,
      { path: this.core.file?.path },
    );
  }

  findSpace(name: string): SpaceState | undefined {
    this.core.enter();
    return this.spaces.named(name);
  }

  spaceNames(): string[] {
    this.core.enter();
    return this.spaces.list().map((space) => space.name);
  }

  dropSpace(name: string): boolean {
    return this.#writing(() => {
      const space = this.spaces.named(name);
      if (space === undefined) return false;
      this.#write.bury(space, true);
      this.#write.publish();
      this.#write.emptyGraves(space);
      return true;
    });
  }

  clear(space: Space): void {
    const state = space as SpaceState;
    this.#writing(() => {
      this.spaces.mustBeLive(state);
      this.#write.bury(state, false);
      this.#write.publish();
      this.#write.emptyGraves(state);
    });
  }

  // -- reads -----------------------------------------------------------------

  get(space: Space, key: Bytes): Uint8Array | undefined {
    return this.#read.get(space as SpaceState, key);
  }

  getText(space: Space, key: Bytes): string | undefined {
    return this.#read.getText(space as SpaceState, key);
  }

  getMany(space: Space, keys: readonly Bytes[]): (Uint8Array | undefined)[] {
    const state = space as SpaceState;
    if (!this.core.isShared) return this.#read.getMany(state, keys);
    // Its keys, as they were read, may have closed the database: the row, and the moment in it, may be another's by now.
    this.core.enter();
    // Another Worker's batch must not be seen in part: a snapshot keeps what it removes within reach.
    const hold = this.snapshots.hold(state);
    try {
      return this.#read.getMany(state, keys);
    } finally {
      this.snapshots.close(hold);
    }
  }

  getZeroCopy(space: Space, key: Bytes): Uint8Array | undefined {
    return this.#read.getZeroCopy(space as SpaceState, key);
  }

  has(space: Space, key: Bytes): boolean {
    return this.#read.find(space as SpaceState, key);
  }

  expiresAt(space: Space, key: Bytes): number | undefined {
    return this.#read.expiresAt(space as SpaceState, key);
  }

  count(space: Space): number {
    this.core.enter();
    const state = space as SpaceState;
    this.spaces.mustBeLive(state);
    return this.spaces.visibleRecords(state);
  }

  snapshot(space: Space, wanted: Wanted = "pairs"): RecordSource {
    return this.snapshots.walk(space as SpaceState, wanted);
  }

  range(space: Space, bounds: RangeBounds, wanted: WantedInOrder = "pairs"): RecordSource {
    const ranges = (this.#ranges ??= this.#makeRanges());
    return ranges.begin(space as SpaceState, bounds, wanted);
  }

  #makeRanges(): Ranges {
    const { core, spaces, snapshots } = this;
    const { ordering } = core;
    if (ordering === undefined)
      throw new EmdbError("EMDB_INVALID_CONFIG", "range needs the ordered index: open with { rangeScans: true }");
    return new Ranges(core, spaces, { snapshots, ordering });
  }

  // -- writes ----------------------------------------------------------------

  insert(space: Space, key: Bytes, value: Bytes, expiresAtMs: number): void {
    const write = this.#write;
    const { mutex } = this.core;
    mutex.lock();
    try {
      write.begin();
      this.core.key.load(key);
      write.put(space as SpaceState, value, expiresAtMs, PLACE_ALONE);
      write.publish();
    } catch (error) {
      write.abandon();
      throw error;
    } finally {
      mutex.unlock();
    }
  }

  remove(space: Space, key: Bytes): Uint8Array | undefined {
    return this.#writing(() => {
      const state = space as SpaceState;
      const value = this.#read.get(state, key);
      if (this.#write.delete(state, PLACE_ALONE)) this.#write.publish();
      return value;
    });
  }

  insertMany(
    space: Space,
    keys: readonly Bytes[],
    values: readonly Bytes[],
    expiresAtMs: number,
    lengths?: CheckedLengths,
  ): void {
    const state = space as SpaceState;
    const count = keys.length;
    this.#writingMany(count, () => {
      this.spaces.mustBeLive(state);
      const room = new RoomAhead(this.core, this.spaces, { space: state, count });
      const order = this.#hasOrder(state, count) ? BatchOrder.of(keys, values) : undefined;
      const isScattered = order !== undefined || liesScattered(values);
      let sum = 0;
      for (let done = 0; done < count;) {
        if (done >= room.next) room.make(done);
        const part = order?.gather(done) ?? { keys, values, first: done };
        if (isScattered) touchRecords(part);
        const taken = this.#touchGroup(state, part, true);
        this.#putGroup(state, part, { done, taken, count, expiresAtMs });
        sum = (sum + lengthSum(part, taken)) | 0;
        done += taken;
      }
      if (count === 0) return;
      if (lengths !== undefined && sum !== lengths.sum) lengths.onChanged();
      this.#write.publish();
    });
  }

  /** Whether a batch is written in the order of its keys. That order is a secret where the keys are. */
  #hasOrder(space: SpaceState, count: number): boolean {
    const { ordering, vault } = this.core;
    if (count < ORDERED_MIN) return false;
    return vault === undefined && ordering?.isWorthIt(count, this.spaces.records(space)) === true;
  }

  /** A function by itself, which is called often: the loop of a batch is entered once, and is never compiled as well. */
  #putGroup(
    space: SpaceState,
    part: BatchPart,
    batch: { readonly done: number; readonly taken: number; readonly count: number; readonly expiresAtMs: number },
  ): void {
    const { values, first } = part;
    const { done, taken, count, expiresAtMs } = batch;
    const { prefetch } = this.core;
    const write = this.#write;
    for (let index = 0; index < taken; index++) {
      prefetch.load(index);
      write.put(space, values[first + index]!, expiresAtMs, placeInBatch(done + index, count));
    }
  }

  removeMany(space: Space, keys: readonly Bytes[]): number {
    const state = space as SpaceState;
    if (keys.length === 0) {
      this.#writing(() => this.spaces.mustBeLive(state));
      return 0;
    }
    let load: ((index: number) => void) | undefined;
    return this.#batch(keys.length, (index, place) => {
      load ??= this.#loading(state, keys);
      load(index);
      const hasFrame = this.#write.delete(state, place);
      return { hasFrame, counts: hasFrame && this.#write.wasPresent };
    });
  }

  writeBatch(writes: readonly BatchWrite[]): void {
    const created = new Map<string, SpaceState | undefined>();
    for (const { space } of writes) if ("newName" in space) created.set(space.newName, undefined);
    const names = [...created.keys()];
    this.#batch(names.length + writes.length, (index, place) => {
      if (index < names.length) {
        created.set(names[index]!, this.#write.createSpace(names[index]!, place));
        return { hasFrame: true, counts: false };
      }
      const write = writes[index - names.length]!;
      const { space } = write;
      const state = "newName" in space ? created.get(space.newName)! : (space as SpaceState);
      this.core.key.load(write.key);
      if (write.value === undefined) return { hasFrame: this.#write.delete(state, place), counts: false };
      this.#write.put(state, write.value, write.expiresAtMs, place);
      return { hasFrame: true, counts: false };
    });
  }

  /**
   * What loads the keys of a batch, one after the other: in groups, of which the buckets, and the frames that these name,
   * are brought into the cache side by side.
   */
  #loading(space: SpaceState, keys: readonly Bytes[]): (index: number) => void {
    const { prefetch } = this.core;
    let first = 0;
    let end = 0;
    return (index) => {
      if (index === end) {
        first = end;
        end += this.#touchGroup(space, { keys, first }, false);
      }
      prefetch.load(index - first);
    };
  }

  /** Brings what the keys from the one at `first` on are looked up in into the cache; returns of how many. */
  #touchGroup(
    space: SpaceState,
    group: { readonly keys: readonly Bytes[]; readonly first: number },
    mayBeNew: boolean,
  ): number {
    const { prefetch, visible } = this.core;
    const root = this.spaces.root(space);
    const count = prefetch.touchBuckets(root, group.keys, group.first);
    if (root === 0) return count;
    if (mayBeNew) prefetch.touchReplaced(visible);
    else prefetch.touchFrames(visible);
    return count;
  }

  /** Runs writes as one batch; each says whether it wrote a frame and whether it counts. Returns how many counted. */
  #batch(
    count: number,
    write: (index: number, place: number) => { readonly hasFrame: boolean; readonly counts: boolean },
  ): number {
    // Records of one deadline count all or none, however long it takes.
    return this.#writingMany(count, () => this.core.atOneMoment(() => this.#writeBatch(count, write)));
  }

  #writeBatch(
    count: number,
    write: (index: number, place: number) => { readonly hasFrame: boolean; readonly counts: boolean },
  ): number {
    let frames = 0;
    let counted = 0;
    let isEnded = false;
    for (let index = 0; index < count; index++) {
      const isLast = index === count - 1;
      const place = frames === 0 ? (isLast ? PLACE_ALONE : PLACE_FIRST) : isLast ? PLACE_LAST : PLACE_MIDDLE;
      const outcome = write(index, place);
      if (outcome.hasFrame) {
        frames += 1;
        isEnded = isLast;
      }
      if (outcome.counts) counted += 1;
    }
    if (frames === 0) return counted;
    if (!isEnded) this.#write.endBatch();
    this.#write.publish();
    this.#write.tidy();
    return counted;
  }

  sweepExpired(space: Space): number {
    return this.sweeper.sweep(space as SpaceState);
  }

  /** From now on every call is EMDB_CLOSED; what the calls would read may then be given back. */
  markClosed(): void {
    Atomics.or(this.core.control.flags, STATE, STATE_CLOSED);
  }

  /** Makes sure that nothing half-written stands behind what is visible. */
  settle(): void {
    this.#writing(() => undefined);
  }

  /** The same before the database closes for good. */
  conclude(): void {
    this.#writing(() => this.#write.conclude());
  }

  exclusively<T>(body: () => T): T {
    return this.#writing(() => this.core.atOneMoment(body));
  }

  /** The same for what changes memory alone: whether the lock is still ours need not be asked, which takes a system call. */
  exclusivelyInMemory<T>(body: () => T): T {
    return this.#writing(() => this.core.atOneMoment(body), false);
  }

  atOneMoment<T>(body: () => T): T {
    return this.core.atOneMoment(body);
  }

  /** Runs a batch of so many writes. */
  #writingMany<T>(count: number, body: () => T): T {
    const { core } = this;
    const { ordering, encoder } = core;
    return this.#writing(() => {
      ordering?.beginBatch(count);
      try {
        encoder.ring = count >= IN_PLACE_MIN && core.vault === undefined ? core.tail.ring : undefined;
        return body();
      } finally {
        encoder.ring = undefined;
        ordering?.endBatch();
      }
    });
  }

  /** Runs a write under the lock; what a throw leaves unpublished is taken back. */
  #writing<T>(body: () => T, isOfFile = true): T {
    const write = this.#write;
    const { mutex } = this.core;
    mutex.lock();
    try {
      write.begin(isOfFile);
      return body();
    } catch (error) {
      write.abandon();
      throw error;
    } finally {
      mutex.unlock();
    }
  }
}
