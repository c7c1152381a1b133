/**
 * The rings that the engine runs in: each turns a seed into one piece of work, bounded by its own counts.
 *
 * CI runs each ring over fixed seeds; the long run draws seeds until its time is up. A seed gives the same work
 * for ever, and a finding names all that is needed to see it again.
 */

import { ENCRYPTED, ENCRYPTED_CHACHA, encrypted, encryptedChaCha, encryptedWindows } from "./encrypted-rings.ts";
import { besideReader, engineAdapter } from "./engine-adapter.ts";
import { Random } from "./random.ts";
import { crashRing, DEFAULT_RING, faultRing, spaceRing } from "./runner.ts";
import { enumerateScripts, randomScript, SMALL_ALPHABET } from "./script.ts";
import { sizesScript } from "./size-borders.ts";
import type { Case } from "./finding.ts";
import type { SyncFailure } from "./inode.ts";
import type { MachineOptions } from "./machine.ts";
import type { RingOptions, RingReport } from "./runner.ts";
import type { Operation, Script } from "./script.ts";
import type { StoreAdapter } from "./store.ts";

export interface Ring {
  readonly name: string;
  /** How the store is opened; a finding names it. */
  readonly adapter: StoreAdapter;
  /** Does the work that follows from a seed. */
  run(seed: number, report: RingReport): void;
}

const PLAIN = engineAdapter();
const WRITE_THROUGH = engineAdapter("write-through", { flushPlan: { kind: "write-through" } });
const READ = besideReader("engine beside a reader");
const UNVERIFIED = engineAdapter("unverified", { verifyReads: false });

const COMPACTING = engineAdapter("compacting", {}, "in between");
const COMPACTING_RANGES = engineAdapter(
  "compacting with ranges",
  { rangeScans: true, verifyReads: false },
  "in between, in key order",
);

const ADAPTERS: readonly StoreAdapter[] = [
  COMPACTING,
  COMPACTING_RANGES,
  PLAIN,
  WRITE_THROUGH,
  READ,
  UNVERIFIED,
  ENCRYPTED,
  ENCRYPTED_CHACHA,
];

/** The adapter that a finding names. */
export function adapterNamed(name: string): StoreAdapter {
  const adapter = ADAPTERS.find((one) => one.name === name);
  if (adapter === undefined) throw new Error(`no adapter is called ${name}`);
  return adapter;
}

const CRASH_RING: RingOptions = { ...DEFAULT_RING, randomDraws: 3 };

/** Disks, journals and systems, by seed. */
function someMachine(seed: number, fixed: Partial<MachineOptions> = {}): Partial<MachineOptions> {
  const random = new Random(seed);
  const journal = random.pick(["strict", "ordered"] as const);
  const sectorBytes = random.pick([512, 512, 4096] as const);
  const canAllocate = random.chance(0.8);
  return { journal, sectorBytes, canAllocate, recordsFirstWrites: random.chance(0.5), ...fixed };
}

interface CrashRingPlan {
  readonly adapter?: StoreAdapter;
  readonly machine?: Partial<MachineOptions>;
  readonly options?: Partial<RingOptions>;
  script(seed: number): Script;
}

function randomCrashes(name: string, plan: CrashRingPlan): Ring {
  const { adapter = PLAIN, machine = {} } = plan;
  return {
    name,
    adapter,
    run: (seed, report) => {
      const run: Case = { machine: someMachine(seed, machine), script: plan.script(seed), seed };
      crashRing(adapter, { run, options: { ...CRASH_RING, ...plan.options }, report });
    },
  };
}

const wideScript =
  (length: number) =>
  (seed: number): Script =>
    randomScript({ seed, length, isWide: true });

/** Random scripts over everything, a crash at every call, every way on in turn. */
export const crashes = randomCrashes("crashes", { script: wideScript(24) });
/** The same, without checksums at each read and at a different length: what the reads themselves make of it. */
export const unverified = randomCrashes("crashes, reads unverified", { adapter: UNVERIFIED, script: wideScript(16) });
/** Nothing is renamed over, removed or cut while it is mapped, and no map is longer than its file. */
export const windows = randomCrashes("crashes on Windows", { machine: { isWindows: true }, script: wideScript(24) });
/** The same while somebody reads: then no open cuts off a torn tail, and no close the reserved space. */
export const windowsRead = randomCrashes("crashes on Windows beside a reader", {
  adapter: READ,
  machine: { isWindows: true },
  script: wideScript(16),
});
/** Writes, flushes, clears and crashes between the steps of one compaction after the other. */
function compactions(name: string, adapter: StoreAdapter, machine: Partial<MachineOptions>): Ring {
  return randomCrashes(name, {
    adapter,
    machine,
    options: { randomDraws: 1 },
    script: (seed) => {
      const script = randomScript({ seed, length: 22, isWide: true });
      return script.flatMap((operation, at): Script => (at % 5 === 4 ? [{ kind: "compact" }, operation] : [operation]));
    },
  });
}
export const compacting = compactions("crashes between the steps of compactions", COMPACTING, {});
export const compactingRanges = compactions("crashes between the steps, with ranges", COMPACTING_RANGES, {});
export const compactingWindows = compactions("crashes between the steps on Windows", COMPACTING, { isWindows: true });
/** Backups at once, and backups with everything else between their steps. */
function backups(name: string, adapter: StoreAdapter, machine: Partial<MachineOptions>): Ring {
  return randomCrashes(name, {
    adapter,
    machine,
    options: { randomDraws: 1 },
    script: (seed) => {
      const script = randomScript({ seed, length: 16, isWide: true });
      return script.flatMap((operation, at): Script => (at % 4 === 3 ? [{ kind: "backup" }, operation] : [operation]));
    },
  });
}
export const backingUp = backups("crashes at every call of backups", PLAIN, {});
export const backingUpSlowly = backups("crashes between the steps of backups", COMPACTING, { lookMs: 6 });
export const backingUpWindows = backups("crashes at every call of backups on Windows", PLAIN, { isWindows: true });
/** Every write is durable when it returns. */
export const writeThrough = randomCrashes("crashes with write-through", {
  adapter: WRITE_THROUGH,
  script: wideScript(16),
});
/** Mappings are true ones: reading what is not mapped ends the process. */
export const strictMemory = randomCrashes("crashes, strict memory", {
  machine: { memory: "strict" },
  options: { randomDraws: 1 },
  script: wideScript(12),
});
export const strictWindows = randomCrashes("crashes on Windows, strict memory", {
  machine: { memory: "strict", isWindows: true },
  options: { randomDraws: 1 },
  script: wideScript(12),
});
/** Frames that go round the ring, that are written past it, and several megabytes pending at once. */
function big(name: string, adapter: StoreAdapter, length: number): Ring {
  const script = (seed: number): Script => randomScript({ seed, length, bigOneIn: 1.3 });
  return randomCrashes(name, { adapter, options: { randomDraws: 1, pointStride: 8 }, script });
}
export const bigFrames = big("crashes between big frames", PLAIN, 34);
export const bigFramesThrough = big("crashes between big frames with write-through", WRITE_THROUGH, 20);

/** Keys, values and names of namespaces at every border of lengths; each seed with another way to open. */
function sizes(name: string, adapter: StoreAdapter): Ring {
  const script = (seed: number): Script => sizesScript({ seed, length: 12, longOneIn: seed % 8 === 0 ? 4 : 0 });
  return randomCrashes(name, { adapter, options: { randomDraws: 1, pointStride: 4 }, script });
}
export const borders = sizes("crashes at the borders of lengths", COMPACTING_RANGES);
export const bordersThrough = sizes("crashes at the borders of lengths with write-through", WRITE_THROUGH);
export const bordersEncrypted = sizes("crashes at the borders of lengths, encrypted", ENCRYPTED);

const QUIET: RingOptions = { ...DEFAULT_RING, randomDraws: 0 };

const ALPHABET: readonly Operation[] = [...SMALL_ALPHABET, { kind: "drop", space: "s" }];

/**
 * All short sequences there are: the seed is the number of the sequence.
 *
 * What comes before a sequence's last operation is the sequence without it, and is crashed at there: by both kinds of
 * journal, where a longest sequence, which is the beginning of no other, takes one.
 */
export function allSequences(lengthMax: number): { readonly ring: Ring; readonly count: number } {
  const scripts = [...enumerateScripts(ALPHABET, lengthMax)];
  const run = (seed: number, report: RingReport): void => {
    const script = scripts[seed % scripts.length] ?? [];
    const first = seed % 2 === 0 ? "strict" : "ordered";
    const other = first === "strict" ? "ordered" : "strict";
    const options = { ...QUIET, fromStep: script.length === 1 ? 0 : script.length };
    for (const journal of script.length < lengthMax ? ([first, other] as const) : ([first] as const))
      crashRing(PLAIN, { run: { machine: { journal }, script, seed }, options, report });
  };
  return { ring: { name: `all sequences of up to ${lengthMax}`, adapter: PLAIN, run }, count: scripts.length };
}

const SYNC_FAILURES: readonly SyncFailure[] = ["clean", "revert", "late", "takes-acknowledged"];

interface FaultRingPlan {
  readonly adapter?: StoreAdapter;
  readonly machine: Partial<MachineOptions>;
  readonly options: RingOptions;
}

function everyFault(name: string, { adapter = PLAIN, machine, options }: FaultRingPlan): Ring {
  return {
    name,
    adapter,
    run: (seed, report) => {
      const script = randomScript({ seed, length: 6, isWide: true });
      faultRing(adapter, {
        run: { machine: someMachine(seed, { canAllocate: true, ...machine }), script, seed },
        options,
        report,
      });
    },
  };
}

/** An error of each kind at every call of a short script, once, for that call from then on, and for all. */
export const faults = everyFault("every error at every call", { machine: {}, options: QUIET });
export const faultsOnWindows = everyFault("every error at every call on Windows", {
  machine: { isWindows: true },
  options: QUIET,
});
/** Each write is a sync by itself, or is followed by one where the system has no such writes. */
export const faultsThrough = everyFault("every error at every call with write-through", {
  adapter: WRITE_THROUGH,
  machine: {},
  options: QUIET,
});
export const faultsBehind = everyFault("every error at every call with a sync behind each write", {
  adapter: WRITE_THROUGH,
  machine: { lacksWriteThrough: true },
  options: QUIET,
});
/** The same with a backup between writes. */
export const faultsInBackups: Ring = {
  name: "every error at every call of backups",
  adapter: PLAIN,
  run: (seed, report) => {
    const [first, second, ...rest] = randomScript({ seed, length: 3, isWide: true });
    const script: Script = [first!, { kind: "backup" }, second!, { kind: "backup" }, ...rest];
    faultRing(PLAIN, {
      run: { machine: someMachine(seed, { canAllocate: true }), script, seed },
      options: QUIET,
      report,
    });
  },
};
/** And a second one while the store deals with the first. */
export const compoundFaults = everyFault("two errors", { machine: {}, options: { ...QUIET, isCompound: true } });

/** Operations, each with a flush behind it. */
function flushed(seed: number): Script {
  const script = randomScript({ seed, length: 5, isWide: true });
  return script.flatMap((operation): Script => [operation, { kind: "flush" }]);
}

/** Disks that lie about what they have: a script full of flushes, each of which fails in each way. */
export const failingSyncs: Ring = {
  name: "failing syncs",
  adapter: PLAIN,
  run: (seed, report) => {
    const script = flushed(seed);
    for (const syncFailure of SYNC_FAILURES) {
      const machine = someMachine(seed, { syncFailure });
      faultRing(PLAIN, { run: { machine, script, seed }, options: { ...QUIET, onlyCalls: ["sync"] }, report });
    }
  },
};

/** Writes that are refused, with write-through in both of its ways, and have reached the disk in part or whole: a flush says that they do not come back. */
export const failingWrites: Ring = {
  name: "failing writes with write-through",
  adapter: WRITE_THROUGH,
  run: (seed, report) => {
    for (const lacksWriteThrough of [false, true]) {
      const run: Case = { machine: someMachine(seed, { lacksWriteThrough }), script: flushed(seed), seed };
      faultRing(WRITE_THROUGH, { run, options: { ...QUIET, onlyCalls: ["write"] }, report });
    }
  },
};

/** Disks of every size from too small for a header to enough. */
function full(name: string, adapter: StoreAdapter, scriptOf = wideScript(12)): Ring {
  return {
    name,
    adapter,
    run: (seed, report) => {
      const sizes = Array.from({ length: 40 }, (_, index) => Math.floor((index * index * 300) / 8) * 8 + (seed % 512));
      spaceRing(adapter, {
        run: { machine: someMachine(seed), script: scriptOf(seed), seed },
        sizes,
        options: QUIET,
        report,
      });
    },
  };
}
export const fullDisks = full("full disks", PLAIN);
export const fullDisksThrough = full("full disks with write-through", WRITE_THROUGH);
export const fullDisksEncrypted = full("full disks, encrypted", ENCRYPTED);
/** What is written beside the log takes what the log has reserved ahead. */
export const fullDisksBeside = full("full disks beside compactions, images and backups", COMPACTING, (seed) => {
  const besides = (["compact", "checkpoint", "backup"] as const).map((kind) => ({ kind }));
  return randomScript({ seed, length: 16, isWide: true }).flatMap((operation, at): Script => {
    const beside = besides[(at >> 2) % besides.length];
    return at % 4 === 3 && beside !== undefined ? [beside, operation] : [operation];
  });
});

/** The rings that a planted fault may be looked for with, by name. */
export const RINGS = {
  backingUp,
  compacting,
  bigFrames,
  crashes,
  encrypted,
  failingSyncs,
  failingWrites,
  faults,
  faultsBehind,
  fullDisks,
  fullDisksBeside,
  sequences: allSequences(3).ring,
  strictWindows,
  windows,
  windowsRead,
  writeThrough,
} as const;

/** What the long run goes through, over and over. */
export const LONG_RUN: readonly Ring[] = [
  backingUp,
  backingUpSlowly,
  backingUpWindows,
  faultsInBackups,
  compacting,
  compactingRanges,
  compactingWindows,
  crashes,
  windows,
  windowsRead,
  writeThrough,
  bigFramesThrough,
  unverified,
  faults,
  faultsOnWindows,
  faultsThrough,
  faultsBehind,
  compoundFaults,
  failingSyncs,
  failingWrites,
  fullDisks,
  fullDisksThrough,
  fullDisksEncrypted,
  fullDisksBeside,
  bigFrames,
  borders,
  bordersThrough,
  bordersEncrypted,
  strictMemory,
  strictWindows,
  encrypted,
  encryptedChaCha,
  encryptedWindows,
  allSequences(4).ring,
];
