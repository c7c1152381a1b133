/**
 * One crash: the machine comes up, the store opens, and what it shows is judged.
 *
 * Opening once is not enough. By depth, the check goes on and
 *   close   closes again: nothing may be left behind (property 8);
 *   again   loses power without a write: the next open shows the same (5: recovered is durable before shown);
 *   write   writes, flushes and loses power: both the recovered and the new are there. What is written is the
 *           step that was lost, as an application would: it lands where the lost one was and is as long, so that
 *           anything left behind the end would follow it and come back;
 *   nested  loses power inside the recovery, at one of its calls: the oracle judges what the next open shows.
 */

import { BACKUP_PATH, strayFiles } from "./backups.ts";
import { applyTo, leftovers, STORE_PATH } from "./driver.ts";
import { Machine } from "./machine.ts";
import { ALL_TIME, applyChange, canonical, difference, stateOf } from "./model.ts";
import { mixSeed, Random } from "./random.ts";
import { codeOf, errorText } from "./store.ts";
import type { Draw } from "./draw.ts";
import type { CrashPoint } from "./machine.ts";
import type { ModelChange } from "./model.ts";
import type { Oracle, Problem, Progress } from "./oracle.ts";
import type { OpenStore, StoreAdapter, StoreRecord } from "./store.ts";
import type { SimulatedSystem } from "./system.ts";

export type Depth = "close" | "again" | "write" | "nested";

export const DEPTHS: readonly Depth[] = ["close", "again", "write", "nested"];

export interface Crash {
  readonly point: CrashPoint;
  readonly draw: Draw;
  readonly depth: Depth;
  readonly progress: Progress;
  readonly oracle: Oracle;
  readonly seed: number;
}

const PROBE: ModelChange = {
  kind: "write",
  writes: [{ space: "", key: "probe", value: "written after the crash", expiresAtMs: 0 }],
};

/** What is wrong after this crash; undefined when all is well. */
export function checkCrash(adapter: StoreAdapter, crash: Crash): Problem | undefined {
  const up = new Recovered(adapter, { point: crash.point, draw: crash.draw, isRecording: crash.depth === "nested" });
  try {
    const problem = up.open() ?? judge(up, crash) ?? judgeBackup(up, { adapter, crash });
    return excused(problem ?? goDeeper(up, { adapter, crash }), up.machine);
  } finally {
    up.dispose();
  }
}

function goDeeper(
  up: Recovered,
  { adapter, crash }: { readonly adapter: StoreAdapter; readonly crash: Crash },
): Problem | undefined {
  const { depth } = crash;
  switch (depth) {
    case "close":
      return up.close();
    case "again":
      return sameAfter(up, { adapter, point: up.machine.capture(), added: undefined });
    case "write": {
      const { progress, oracle } = crash;
      const { nowMs } = up.machine;
      const lost = oracle.lostStep(up.records, { progress, nowMs }) ?? PROBE;
      // A sweep that was to come later is done now.
      const added = lost.kind === "sweep" ? { ...lost, nowMs } : lost;
      const problem = up.attempt("the first write after recovery", (store) => {
        applyTo(store, { change: added });
        store.flush();
      });
      return problem ?? sameAfter(up, { adapter, point: up.machine.capture(), added });
    }
    case "nested":
      return checkNested(up, { adapter, crash });
    default:
      return depth satisfies never;
  }
}

function judge(
  up: Recovered,
  { oracle, progress }: { readonly oracle: Oracle; readonly progress: Progress },
): Problem | undefined {
  const isVoid = up.machine.hasLostAcknowledged;
  const bounds = isVoid ? { ...progress, acknowledged: 0 } : progress;
  return oracle.checkRecovered(up.records, { progress: bounds, nowMs: up.machine.nowMs });
}

/** The target of backups is as some moment was, or absent; and the next backup takes its place, whatever lies there. */
function judgeBackup(
  up: Recovered,
  { adapter, crash }: { readonly adapter: StoreAdapter; readonly crash: Crash },
): Problem | undefined {
  const { oracle, progress, depth } = crash;
  const { backups } = progress;
  if (backups === undefined || depth !== "close" || up.machine.hasLostAcknowledged) return undefined;
  let problem: Problem | undefined;
  const thrown = up.attempt("a backup after recovery", (store) => {
    const { nowMs } = up.machine;
    problem = oracle.checkBackup(up.recordsAt(adapter), { bounds: backups, nowMs });
    if (problem !== undefined) return;
    try {
      store.backup?.();
    } catch (error) {
      if (!up.hasRemovedText(error, BACKUP_PATH)) throw error;
      store.backup?.();
    }
    while (store.isBackingUp === true) store.turn?.();
    const copied = canonical(stateOf(up.recordsAt(adapter) ?? []), ALL_TIME);
    const [stray] = strayFiles(up.machine);
    if (copied !== canonical(stateOf(up.records), ALL_TIME)) throw new Error("it does not hold what is shown");
    if (stray !== undefined) problem = { property: 8, detail: `a backup after recovery has left ${stray}` };
  });
  return problem ?? thrown;
}

/**
 * After a disk took back what it had acknowledged, a typed error is the best that a store can do: of the open, or of
 * the read that finds it, when an image had vouched for the place.
 */
function excused(problem: Problem | undefined, machine: Machine): Problem | undefined {
  return problem?.property === 6 && machine.hasLostAcknowledged ? undefined : problem;
}

interface Second {
  readonly adapter: StoreAdapter;
  readonly point: CrashPoint;
  readonly added: ModelChange | undefined;
}

/** Power is lost once more, everything that is not synced is gone, and the store still shows the same. */
function sameAfter(first: Recovered, { adapter, point, added }: Second): Problem | undefined {
  if (point.hasLostAcknowledged) return undefined;
  const second = new Recovered(adapter, { point, draw: { kind: "none" }, isRecording: false });
  try {
    const problem = second.open();
    if (problem !== undefined) return { ...problem, detail: `after a second crash ${problem.detail}` };
    const { nowMs } = second.machine;
    const recovered = stateOf(first.records);
    const expected = added === undefined ? recovered : applyChange(recovered, added);
    const shown = stateOf(second.records);
    if (canonical(shown, ALL_TIME) === canonical(expected, nowMs)) return second.close();
    return {
      property: 5,
      detail: `a second crash changed what was shown: ${difference(shown, { from: expected, nowMs })}`,
    };
  } finally {
    second.dispose();
  }
}

function checkNested(
  up: Recovered,
  { adapter, crash }: { readonly adapter: StoreAdapter; readonly crash: Crash },
): Problem | undefined {
  const random = new Random(mixSeed(crash.seed, up.points.length));
  const point = random.pick(up.points);
  const draw: Draw = { kind: "random", seed: random.word() };
  const inner = checkCrash(adapter, { ...crash, point, draw, depth: "close" });
  return inner === undefined ? undefined : { ...inner, detail: `crashed inside recovery: ${inner.detail}` };
}

class Recovered {
  readonly machine: Machine;
  records: readonly StoreRecord[] = [];
  /** A crash point before each call of the recovery, when they are recorded. */
  readonly points: CrashPoint[] = [];
  readonly #adapter: StoreAdapter;
  readonly #system: SimulatedSystem;
  #store: OpenStore | undefined;

  constructor(
    adapter: StoreAdapter,
    { point, draw, isRecording }: { point: CrashPoint; draw: Draw; isRecording: boolean },
  ) {
    this.#adapter = adapter;
    // Space and limits are as they were on a good day: what failed before the crash does not fail now.
    this.machine = Machine.restore(point, draw, { spaceBytesMax: Number.POSITIVE_INFINITY });
    this.#system = this.machine.boot();
    if (isRecording) this.#system.onPoint = () => this.points.push(this.machine.capture());
  }

  open(): Problem | undefined {
    try {
      this.#store = this.#adapter.open(this.#system, STORE_PATH);
    } catch (error) {
      if (this.hasRemovedText(error, STORE_PATH)) return this.open();
      return { property: codeOf(error) === undefined ? 0 : 6, detail: `open threw ${errorText(error)}` };
    }
    const { missingBytes = 0 } = this.#store;
    if (missingBytes > 0 && !this.machine.hasLostAcknowledged)
      return { property: 2, detail: `${missingBytes} bytes are said to be missing, and nobody has cut the log` };
    return this.attempt("reading after recovery", (store) => {
      this.records = [...store.records()];
      store.check?.(this.records);
    });
  }

  attempt(what: string, body: (store: OpenStore) => void): Problem | undefined {
    try {
      if (this.#store !== undefined) body(this.#store);
      return undefined;
    } catch (error) {
      const typed = this.machine.hasLostAcknowledged ? 6 : 7;
      return { property: codeOf(error) === undefined ? 0 : typed, detail: `${what} threw ${errorText(error)}` };
    }
  }

  /**
   * A power loss may leave what another file once held where a lock's record was never synced. If it is a text, it is
   * whoever sees it who removes it. Whether an error was for that, and the text is gone.
   */
  hasRemovedText(error: unknown, path: string): boolean {
    if (!errorText(error).includes(`"${path}.lock" is not a lock file`)) return false;
    return this.machine.names.current.delete(`${path}.lock`);
  }

  /** What the target of backups holds. */
  recordsAt(adapter: StoreAdapter): readonly StoreRecord[] | undefined {
    return adapter.recordsAt?.(this.#system, BACKUP_PATH);
  }

  close(): Problem | undefined {
    const problem = this.attempt("close after recovery", (store) => store.close());
    this.#store = undefined;
    return problem ?? leftovers(this.#adapter, { machine: this.machine, system: this.#system });
  }

  dispose(): void {
    this.#store?.abandon?.();
    this.#system.kill();
    this.machine.dispose();
  }
}
