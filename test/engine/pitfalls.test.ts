/**
 * How engines of this kind fail, each with the tests that show that this one does not.
 *
 * A line names its tests by file and by a part of their titles as the source has them.
 */

import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface Pitfall {
  readonly failure: string;
  /** A file under `test`, then a part of a title in it. */
  readonly tests: readonly (readonly [string, string])[];
}

const pitfalls: readonly Pitfall[] = [
  // -- acknowledged data lost or returned ------------------------------------------------------------------------
  {
    failure: "Writes after a compaction went to the old, unlinked file.",
    tests: [
      ["compaction/compaction.test.ts", "is there at once and after a reopen"],
      ["compaction/random.test.ts", "loses, revives and changes nothing"],
    ],
  },
  {
    failure: "Compaction ran beside writers without a common lock.",
    tests: [
      ["workers/compaction.test.ts", "lose no acknowledged write, miss no record and show no part of a batch"],
      ["compaction/moments.test.ts", "written while the live records are copied are in the compacted file"],
      ["compaction/compaction.test.ts", "before each of six compactions show what they showed"],
    ],
  },
  {
    failure: "A failed compaction left a mess.",
    tests: [
      ["compaction/compaction.test.ts", "leaves the original in service, or poisoned once the name has changed"],
      ["compaction/backup.test.ts", "a backup that fails at any call of the system leaves the target as it was"],
      ["workers/compaction.test.ts", "a thread that dies at any step of a %s leaves the rest at work"],
    ],
  },
  {
    failure: "clear and dropping a namespace lived in memory only.",
    tests: [
      ["engine/batches.test.ts", "$name is all or nothing at every byte of the log"],
      ["engine/counts.test.ts", "live and dead bytes make up the log after random changes, a reopen and a crash"],
      ["engine/snapshot.test.ts", "goes on after the namespace was dropped, and after it was made anew"],
    ],
  },
  {
    failure: "A torn tail was never cut: writes after a crash landed behind garbage.",
    tests: [
      ["engine/torn-tail.test.ts", "crash, open, write, flush, again and again"],
      ["engine/torn-tail.test.ts", "frames that reached the disk while their predecessor did not never come back"],
      ["engine/torn-tail.test.ts", "the cut of a torn tail is what the first open reports"],
    ],
  },
  {
    failure: "One flipped byte in the middle silently ended the log.",
    tests: [
      ["engine/damage.test.ts", "with any bit flipped, what was durable is damage"],
      ["engine/damage.test.ts", "zeros anywhere in what was durable are damage"],
      ["engine/damage.test.ts", "garbage behind the end costs no record"],
      ["engine/torn-tail.test.ts", "a lost write behind a clean close is damage"],
    ],
  },
  {
    failure: "A text file was adopted as an empty database and appended to.",
    tests: [["engine/refusals.test.ts", "is EMDB_NOT_A_DATABASE, byte for byte untouched"]],
  },
  {
    failure: "A failed append left a hole that hid every later record.",
    tests: [
      ["engine/batches.test.ts", "finds no more space leaves nothing, now and after a crash"],
      ["log/ring.test.ts", "a write that fails half-way is written again later, at its place"],
      ["engine/faults.test.ts", "loses nothing, and is made good by the next flush"],
    ],
  },
  {
    failure: "flush acknowledged bytes that another thread had reserved and not written.",
    tests: [["engine/life.test.ts", "a flush acknowledges what was written before it began"]],
  },
  {
    failure: "A second fsync after a failed one said success.",
    tests: [["engine/faults.test.ts", "a failed sync poisons"]],
  },
  {
    failure: "The folder was not synced after create and rename.",
    tests: [
      ["engine/life.test.ts", "a new log is synced, then named, then its folder is synced"],
      ["engine/life.test.ts", "closing flushes"],
    ],
  },
  {
    failure: "Same-key races from two threads left memory and disk different.",
    tests: [["workers/history.test.ts", "what threads read and write at once is what the log says"]],
  },
  {
    failure: "Transactions and batches left a prefix behind after a crash, readers saw half of one.",
    tests: [
      ["engine/batches.test.ts", "$name is all or nothing at every byte of the log"],
      ["engine/batches.test.ts", "a batch of megabytes, written in pieces, is all or nothing"],
      ["engine/batches.test.ts", "nobody sees a part of a batch"],
      ["engine/read-only.test.ts", "every read-only open is whole batches and no error"],
      ["contract/swap-cases.ts", "a thousand updates count to a thousand"],
    ],
  },
  {
    failure: "Opening wrote to the file.",
    tests: [
      ["engine/torn-tail.test.ts", "closing a database that was closed in good order changes no byte"],
      ["engine/torn-tail.test.ts", "writes nothing but the cut of its torn tail"],
      ["engine/refusals.test.ts", "an open that fails at any call with %s leaves a database as it was"],
      ["engine/refusals.test.ts", "is not there, and neither is anything beside it"],
      ["engine/read-only.test.ts", "a read-only open creates nothing"],
    ],
  },
  {
    failure: "Iterators swallowed decode errors.",
    tests: [["engine/life.test.ts", "is EMDB_CORRUPTED for every way to read it"]],
  },
  {
    failure: "A forged frame was believed.",
    tests: [
      ["engine/forged.test.ts", "$name is EMDB_CORRUPTED at its place"],
      ["engine/forged.test.ts", "is a torn tail, in bounded memory"],
      ["engine/forged.test.ts", "batches whose places make no sense"],
      ["log/frame.test.ts", "is exactly what a writer would write for what it says"],
      ["engine/torn-tail.test.ts", "a value that holds whole frames of its own database is a value"],
    ],
  },

  // -- cost --------------------------------------------------------------------------------------------------------
  {
    failure: "A checkpoint did not make reopening faster; long operations held the whole database in memory.",
    tests: [
      [
        "engine/work-memory.test.ts",
        "opening, compacting, backing up, encrypting and decrypting 100 MiB hold a few buffers",
      ],
      ["engine/work-memory.test.ts", "a sweep of 200 000 records holds a part of them"],
      ["engine/verify-memory.test.ts", "verify and salvage of 100 MiB hold a few buffers"],
      ["encryption/rekey.test.ts", "writes a kilobyte, whatever the size of the file"],
    ],
  },
  {
    failure: "take(5) of a range collected every match first.",
    tests: [
      ["engine/range-cost.test.ts", "five of a range, or of its stream, never meet what has rotted behind them"],
      ["engine/range-cost.test.ts", "ten of many cost ten frames when a limit says so"],
    ],
  },
  {
    failure: "Shard and slot came from the same hash bits; growth only when a shard was full.",
    tests: [
      ["keydir/keydir.test.ts", "a miss costs as little as a hit at every size"],
      ["keydir/keydir.test.ts", "a page that is crowded before its shard is full splits the shard"],
      ["keydir/hash.test.ts", "structured keys fill every part of the index alike"],
    ],
  },
  {
    failure: "Attacker-chosen keys collided.",
    tests: [
      ["engine/memory-given-back.test.ts", "each database has a seed of its own"],
      ["keydir/hash.test.ts", "100 000 crafted keys cost at most three times what random ones cost"],
    ],
  },
  {
    failure: "2 MiB per empty namespace; the index never shrank.",
    tests: [
      ["engine/counts.test.ts", "1000 empty namespaces cost under 1 KiB of index each"],
      ["engine/counts.test.ts", "the index gives its memory back after a mass removal"],
      ["keydir/keydir.test.ts", "after mass removal the index gives its memory back"],
      ["engine/memory-given-back.test.ts", "with the ordered index, after %s"],
      ["engine/memory-given-back.test.ts", "beside another thread"],
      ["engine/memory-given-back.test.ts", "from threads that come, write and leave"],
    ],
  },
  {
    failure: "A held view pinned the whole file.",
    tests: [
      ["engine/holds-nothing.test.ts", "a view of a value far into the file maps its own pages"],
      ["engine/life.test.ts", "a view without a copy outlives the database and its file"],
    ],
  },

  // -- time, locks, files --------------------------------------------------------------------------------------------
  {
    failure: "Expired records were yielded by some calls and hidden by others; persist and remove revived them.",
    tests: [
      ["engine/counts.test.ts", "an expired record is counted until it is swept"],
      ["contract/ttl-cases.ts", "ttlMs 0 and a deadline that has passed are expired at once"],
      ["contract/swap-cases.ts", "an expired value is absent to a swap and to an update"],
    ],
  },
  {
    failure: "Sweep deleted a key that had just been re-inserted.",
    tests: [["engine/expiry.test.ts", "a key that is inserted again between two slices stays"]],
  },
  {
    failure: "Unlock-then-unlink let two writers in; breaking a lock let the old holder write on.",
    tests: [
      ["engine/lock.test.ts", "a handle that was robbed in the same turn as its last flush closes without cutting"],
      ["encryption/rekey.test.ts", "%s, robbed on its way,"],
      ["engine/lock.test.ts", "of processes that open %s at once, exactly one gets it"],
      ["engine/lock.test.ts", "a handle that was robbed of its lock by force writes and flushes no more"],
      ["engine/lock.test.ts", "what a robbed handle had pending is refused by its flush"],
    ],
  },
  {
    failure: "A symlink or another spelling of the path went around the lock.",
    tests: [
      ["engine/lock.test.ts", "another spelling of the path, or a symbolic link, leads to the same lock"],
      ["engine/lock.test.ts", "within a thread, another spelling of the path gives one more handle"],
    ],
  },
  {
    failure: "The lock record named a dead process as alive.",
    tests: [
      ["engine/lock.test.ts", "after the holder is killed the next open gets the database at once"],
      ["engine/lock.test.ts", "the system says whether it is held"],
    ],
  },
  {
    failure: "In memory was a file in the temp folder.",
    tests: [
      ["engine/holds-nothing.test.ts", "a database in memory opens no file, whatever is done with it"],
      ["engine/life.test.ts", "a database in memory makes no file, opens none and maps none"],
    ],
  },
  {
    failure: "Folder names like ., NUL, C:x and names with NUL bytes were accepted.",
    tests: [
      ["api/location.test.ts", "that some platform cannot hold is EMDB_INVALID_CONFIG on every platform"],
      ["engine/refusals.test.ts", "that is to be there and is not, makes no folder"],
    ],
  },
  {
    failure: "After close the file stayed open until a garbage collection.",
    tests: [
      ["engine/life.test.ts", "after close the file can be removed and made anew at once"],
      ["engine/lock.test.ts", "closing lets go of the lock before it returns"],
      ["engine/refusals.test.ts", "opening and closing leaves no file handle and no mapping behind"],
    ],
  },
  {
    failure: "An idle stream held a thread.",
    tests: [
      ["engine/holds-nothing.test.ts", "a stream decodes what was asked for, and holds nothing once it was cancelled"],
      ["contract/walk-cases.ts", "a stream can be cancelled, reads nothing ahead"],
    ],
  },
  // -- secrets -----------------------------------------------------------------------------------------------------
  {
    failure:
      "Sealed records could be replayed, reordered, swapped; plaintext frames and a stripped flag were accepted.",
    tests: [
      ["encryption/attacks.test.ts", "two of them swapped are EMDB_CORRUPTED at the first"],
      ["encryption/attacks.test.ts", "an old one put at the end again is a torn tail"],
      ["encryption/attacks.test.ts", "are EMDB_CORRUPTED with the best of checksums"],
      ["encryption/attacks.test.ts", "the encrypted flag cleared, the slots left, is refused"],
    ],
  },
  {
    failure: "A raw key on a plaintext file bricked it; a lost sidecar lost the salt and thus everything.",
    tests: [
      ["encryption/open-matrix.test.ts", "a file that is to be made is encrypted when a secret is given"],
      ["encryption/compact.test.ts", "a backup is one encrypted file that opens with the same secret"],
    ],
  },
  {
    failure: "Tampering was reported as a wrong key.",
    tests: [
      ["encryption/attacks.test.ts", "with the key check zeroed, or any of its fields changed, are EMDB_CORRUPTED"],
      ["crypto/key-area.test.ts", "any single bit of the key area turned over is EMDB_CORRUPTED"],
    ],
  },
  {
    failure: "Nonces could repeat after a crash rewound the log.",
    tests: [["sim/engine-encrypted.test.ts", "all that was acknowledged, and no nonce repeats"]],
  },
  {
    failure: "KDF parameters were fixed in the code; a hostile header could demand any memory.",
    tests: [["crypto/argon2.test.ts", "parameters at both absurd ends are refused"]],
  },
  {
    failure: "Keys showed up in console.log and messages, and stayed in memory after close.",
    tests: [
      ["encryption/open-matrix.test.ts", "does not show in what is thrown"],
      ["api/open-options.test.ts", "are copied, usable, and shown by nothing"],
      ["crypto/secret.test.ts", "no holder of a secret shows it in inspect, JSON, text or a clone"],
      ["encryption/memory.test.ts", "once it is closed, neither key is found"],
      ["encryption/open-ahead.test.ts", "nothing of keys and records is left in the shared block"],
    ],
  },
  {
    failure: "Enable, disable and rotate dropped every TTL, reset the cipher, and a crash left no file at the path.",
    tests: [
      ["encryption/rekey.test.ts", "gives a plain database with every record, deadline and namespace in order"],
      ["encryption/rekey.test.ts", "go round: plain, encrypted, another secret, another cipher, plain"],
      [
        "encryption/rekey-crash.test.ts",
        "a crash leaves a database that opens with the old secret or the new one, whole",
      ],
    ],
  },
  {
    failure: "A backup of an encrypted database could not be opened; replacing the target was two steps.",
    tests: [
      ["encryption/compact.test.ts", "a backup is one encrypted file that opens with the same secret"],
      ["compaction/backup.test.ts", "a backup that fails at any call of the system leaves the target as it was"],
    ],
  },

  {
    failure: "Two descriptions of the file format disagreed with the code.",
    tests: [["docs/format.test.ts", "of the document are those of the encoder"]],
  },
];

const root = join(import.meta.dir, "..");

/** A line that a title stands in: a call of `test` or `describe`, or the title alone where the call takes several lines. */
const TITLED = /^\s*(?:(?:test|describe)\b.*\(|\]\)\()?\s*["'`]/;
const hasTitle = (text: string, title: string): boolean =>
  text.split("\n").some((line) => TITLED.test(line) && line.includes(title));

/** What is wrong with a line: tests that are not there, or nothing at all to show. */
function faultsOf({ failure, tests }: Pitfall): string[] {
  if (tests.length === 0) return [`${failure} no test`];
  return tests.flatMap(([file, title]) => {
    const path = join(root, file);
    const isThere = existsSync(path) && hasTitle(readFileSync(path, "utf8"), title);
    return isThere ? [] : [`${failure} no test in ${file} is titled: ${title}`];
  });
}

test("every known failure of such engines has a test", () => {
  expect(pitfalls.flatMap(faultsOf)).toEqual([]);
});

test("a line that names no test, or one that is not there, is found", () => {
  expect(faultsOf({ failure: "It broke.", tests: [] })).toHaveLength(1);
  expect(faultsOf({ failure: "It broke.", tests: [["engine/none.test.ts", "x"]] })).toHaveLength(1);
  expect(faultsOf({ failure: "It broke.", tests: [["engine/lock.test.ts", "no such title"]] })).toHaveLength(1);
  // In a comment or in the code of a test a title is none.
  expect(hasTitle('test("a title", () => {', "a title")).toBe(true);
  expect(hasTitle('  "a title",', "a title")).toBe(true);
  expect(hasTitle("/** Not a title. */", "a title")).toBe(false);
  expect(hasTitle("const crash = 1;", "crash")).toBe(false);
});
