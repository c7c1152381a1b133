/** The part of the bug bank that is about memory, and what is mapped; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

/** What gives out memory twice or never again, and who reads what is not there. */
export const MEMORY: readonly PlantedFault[] = [
  fault("where space cannot be reserved nothing is written", "test/ffi/other-kernels.test.ts", "ffi/linux.ts", [
    "return cannotReserve.has(-result) ?",
    "return result === -Errno.ENOSYS ?",
  ]),
  fault("a load leaves the collector arrays over the ring", "test/ffi/raw-arrays.test.ts", "ffi/raw-arrays.ts", [
    "last = new WeakRef(arrays);",
    "last = { deref: () => arrays } as WeakRef<typeof arrays>;",
  ]),
  fault("each load has arrays of its own over the ring", "test/ffi/raw-arrays.test.ts", "ffi/raw-arrays.ts", [
    "    if (held !== undefined) return held;\n",
    "",
  ]),
  fault(
    "behind a frame that is built in its place stays what stood there",
    "test/log/frame.test.ts",
    "log/encoder.ts",
    ["      words[end - 1] = 0;\n", ""],
  ),
  fault(
    "a long batch that fails leaves its way of writing to others",
    "test/engine/in-place.test.ts",
    "engine/engine.ts",
    ["        encoder.ring = undefined;\n", ""],
  ),
  fault(
    "a long batch is built in its place where it is to be sealed",
    "test/engine/in-place.test.ts",
    "engine/engine.ts",
    ["count >= IN_PLACE_MIN && core.vault === undefined ?", "count >= IN_PLACE_MIN ?"],
  ),
  fault(
    "of frames side by side more is touched than the file has",
    "test/engine/side-by-side.test.ts",
    "engine/read/frame-batch.ts",
    ["last - start + Math.min(guess, end - last));", "last - start + guess);"],
  ),
  fault("bytes that are no text are read as one", "test/contract/engine.test.ts", "codec/text.ts", [
    'text.includes("\\ufffd") ? utf8Text(bytes.subarray(from, to)) : text',
    "text",
  ]),
  fault("a text ends with a byte of the record before", "test/contract/engine.test.ts", "engine/read/lookup.ts", [
    "this.#address + this.#peeked, end - this.#peeked)",
    "this.#address + this.#peeked, end - this.#peeked - 1)",
  ]),
  fault("a read that was short goes on where the memory begins", "test/ffi/interrupted.test.ts", "ffi/posix.ts", [
    "addressOf(into) + done;",
    "addressOf(into);",
  ]),
  fault("a file system that cannot sync folders takes no database", "test/ffi/interrupted.test.ts", "ffi/posix.ts", [
    "result === -Errno.EINVAL ? 0 : result;",
    "result;",
  ]),
  fault("a signal makes a call about a name fail", "test/ffi/linux-names.test.ts", "ffi/linux-names.ts", [
    "if (failure !== -Errno.EINTR) return failure;",
    "return failure;",
  ]),
  fault(
    "whoever asks for a real path has a file open from then on",
    "test/ffi/linux-names.test.ts",
    "ffi/linux-names.ts",
    ["    this.#calls.close(file);\n", ""],
  ),
  fault("a path is cut off where its place ends", "test/ffi/linux-names.test.ts", "ffi/linux-path.ts", [
    "return read === path.length ? memory.address + at : 0;",
    "return read <= path.length ? memory.address + at : 0;",
  ]),
  fault("a start loads what only the making of a database needs", "test/ffi/linux-names.test.ts", "ffi/posix.ts", [
    "return this.#kernel.names?.unlink(path) ?? super.unlink(path);",
    "return super.unlink(path);",
  ]),
  fault("what is written counts as readable before it is mapped", "test/log/ring.test.ts", "log/tail.ts", [
    "    this.#coverWithMap(end);\n    barrier(this.#words.flags, LOG_FENCE);\n    this.#numbers[LOG_WRITTEN] = written;",
    "    this.#numbers[LOG_WRITTEN] = written;\n    this.#coverWithMap(end);",
  ]),
  fault(
    "no memory for the self-test is said to be calls that do not work",
    "test/ffi/self-test.test.ts",
    "ffi/self-test.ts",
    ["if (result === -Errno.ENOMEM) throw", "if (result === -Errno.EPERM) throw"],
  ),
  fault("what is printed goes to the database", "test/ffi/standard-descriptors.test.ts", "ffi/posix.ts", [
    "if (opened >= FIRST_OWN_DESCRIPTOR) return opened;",
    "if (opened >= 0) return opened;",
  ]),
  fault(
    "a dead Worker keeps the lock where the process may send no signals",
    "test/ffi/filtered-calls.test.ts",
    "ffi/linux.ts",
    [
      "return calls.syscall(systemCalls.getpriority, PRIO_PROCESS, thread, 0, 0, 0) >= 0 || errno() !== Errno.ESRCH;",
      "return true;",
    ],
  ),
  fault("what the runtime has unmapped is unmapped once more", "test/ffi/mappings.test.ts", "ffi/posix.ts", [
    "this.#munmapAddress }, before) ?? -Errno.ENOMEM;",
    "this.#munmapAddress }, before) ?? (this.unmap(address, bytes), -Errno.ENOMEM);",
  ]),
  fault("the pages of a directory that is thrown away are no run any more", "test/keydir/heap.test.ts", "ffi/heap.ts", [
    "if (first === 0) return this.takePages(count);",
    "if (first >= 0) return this.takePages(count);",
  ]),
  fault(
    "a small batch of removals looks at all of a large index",
    "test/engine/memory-given-back.test.ts",
    "engine/write/batch-removals.ts",
    ["Math.ceil(count / REMOVALS_PER_SHARD)", "Infinity"],
  ),
  fault(
    "a small batch looks for what a sweep has left in the index",
    "test/engine/memory-given-back.test.ts",
    "engine/background/expiry.ts",
    ["      this.#write.tidy();\n", ""],
  ),
  fault(
    "what a thread had retired when it left is nobody's",
    "test/engine/memory-given-back.test.ts",
    "engine/assemble.ts",
    ["      core.reclaim.leaveRest();\n", ""],
  ),
  fault("what a thread left behind is given back while it is read", "test/keydir/heap.test.ts", "ffi/left-pieces.ts", [
    "words[ERA] = retired.era;",
    "words[ERA] = retired.era - 1e6;",
  ]),
  fault("pages in use are given back with the free ones round them", "test/keydir/heap.test.ts", "ffi/heap.ts", [
    "to < end && pages.u32[to] === page + to - from;",
    "to < end;",
  ]),
  fault("a run of pages is given out again while it is read", "test/keydir/heap.test.ts", "ffi/reclaim.ts", [
    "this.#pieces.runs.push({ first, count });",
    "this.#heap.giveRun(first, count);",
  ]),
  fault("the era of who came to a dead thread's row is passed over", "test/keydir/heap.test.ts", "ffi/reclaim.ts", [
    "this.#isAlive(thread - 1) || Atomics.load(this.flags, ROW_THREAD_AT + row) !== thread",
    "this.#isAlive(thread - 1)",
  ]),
  fault("what lies behind the ring is not copied to its beginning", "test/log/ring.test.ts", "log/tail.ts", [
    "if (behindRing > 0) copy(this.#ring, this.#ring + RING_BYTES, behindRing);",
    "",
  ]),
  fault("half a frame at the end of a stride counts as written", "test/log/ring.test.ts", "log/tail.ts", [
    "this.#writeOut(end, frame);",
    "this.#writeOut(end, end);",
  ]),
  fault(
    "a spill across the end of the ring is one write",
    "bigFrames",
    "log/tail.ts",
    ["const room = RING_BYTES - at;", "const room = 2 * RING_BYTES - at;"],
    20,
  ),
  fault(
    "a long frame is written before what is pending",
    "bigFrames",
    "log/tail.ts",
    ["    if (this.pendingBytes > 0) this.spill();\n    else this.#look();", "    this.#look();"],
    20,
  ),
  fault(
    "close leaves the ring's memory reserved",
    "sequences",
    "engine/assemble.ts",
    ["if (ring > 0) system.release(ring, RING_SPACE);", ""],
    4,
  ),
  fault("a mapped file is cut on Windows", "test/sim/windows.test.ts", "engine/assemble.ts", [
    "if (system.canMapPastEnd) return;",
    "if (system.pageBytes > 0) return;",
  ]),
  fault(
    "reads go on through a map that is gone",
    "strictWindows",
    "engine/open/open.ts",
    ["    core.log.takeMap();\n", ""],
    40,
  ),
];
