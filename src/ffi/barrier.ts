/**
 * A full memory barrier: what this thread read and wrote before comes before what it reads and writes after.
 *
 * An atomic operation is one on x86-64, and on arm64 with its atomic instructions (LSE: Apple, Graviton 2, Cortex-A76).
 * Without those (Cortex-A53 and A72: Raspberry Pi 3 and 4, Graviton 1) the runtime makes it of LDAXR and STLXR, each of
 * which stops what would pass it in one direction: a load before the two and one behind may change places. Of two
 * operations in a row, though, the STLXR of the first stays before the LDAXR of the second. Apple has LSE throughout.
 *
 * Sources: Arm, "Programmer's Guide for ARMv8-A" (DEN0024A), 13.2.1, one-way barriers; JavaScriptCore,
 * B3LowerToAir.cpp, `loadLinkOpcode`; Bugzilla 1442534, on what ECMAScript leaves to plain accesses.
 */

const isSplit = process.arch === "arm64" && process.platform !== "darwin";

/** Passes a barrier; the word keeps its value. One of its own costs a thread less than one that others change. */
export function barrier(words: Int32Array, index: number): void {
  Atomics.add(words, index, 0);
  if (isSplit) Atomics.add(words, index, 0);
}

const isWeak = process.arch !== "x64";

/**
 * Keeps this thread's stores in the order in which they were made, and its loads, for everybody. x86-64 does so by itself:
 * nothing is passed there, where a barrier would wait for every store that misses the cache.
 */
export function keepOrder(words: Int32Array, index: number): void {
  if (isWeak) barrier(words, index);
}
