/** Plants a fault in a copy of the tree and lets its probe look for it. */

import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { childCommand } from "../support/platform.ts";
import type { Finder, PlantedFault, ProbeOutcome } from "./fault.ts";

const root = resolve(import.meta.dir, "../..");
const PROBE_TIMEOUT_MS = 100_000;
/** Of a test, whose time limit is a finding: longer than any takes, and short enough for one that waits for ever to be seen. */
const TEST_TIMEOUT_MS = 30_000;
/** A finder is chosen for being quick: one that takes longer has met something new. */
const FINDER_TIMEOUT_MS = 40_000;
/** What a test around both may take. */
export const HUNT_TIMEOUT_MS = FINDER_TIMEOUT_MS + PROBE_TIMEOUT_MS + 20_000;

/** What an edit leads to that does not fit the source any more. */
const STALE = /ReferenceError: .*|SyntaxError: .*|TypeError: .* is not a function.*/;

/** A filter of `bun test` for one test; the names of its blocks are joined by " > " where they are printed, and by a space where they are matched. */
const only = (name: string): string =>
  `^${name.replaceAll(/[$()*+.?[\\\]^{|}]/g, "\\$&").replaceAll(" > ", " (> )?")}$`;

/** What begins the line of a case that a thread's death was found in, and the finder that lives it again. */
const CASE = "replay deaths ";
const isCase = (finder: Finder | undefined): boolean => typeof finder === "string" && finder.startsWith(CASE);

/** The program that looks for a fault, by its finder alone or by all that its probe has. */
function programFor({ probe, seedCount }: PlantedFault, finder: Finder | undefined): string[] {
  if (isCase(finder)) return ["test/deaths/child.ts", "case", String(finder).slice(CASE.length)];
  if (!probe.startsWith("test/")) {
    return ["test/bank/child.ts", probe, String(seedCount), ...(finder === undefined ? [] : [String(finder)])];
  }
  // Not the 5 seconds that are usual: on a machine that is busy, any fault would be found by whatever is long.
  const program = ["test", "--bail", "--timeout", String(TEST_TIMEOUT_MS), `./${probe}`];
  return finder === undefined ? program : [...program, "-t", only(String(finder))];
}

/** Whether a run of tests has come to its end, or to a test that failed. */
const hasRun = (output: string): boolean => /^Ran \d+ tests? across/m.test(output) || /^\(fail\) /m.test(output);

/** What came of one life: a case that no life can be made of any more has found nothing. */
function lifeOf(output: string, exitCode: number | null): ProbeOutcome {
  const lines = output.trim().split("\n");
  const isLived = exitCode === 0 && output !== "" && !/^nobody expected (Type|Reference)Error/m.test(output);
  const hasFound = isLived && lines.at(-1) !== "nothing is found";
  // Behind what was found comes where.
  return { crashes: 0, findings: hasFound ? 1 : 0, detail: lines.findLast((line) => !line.startsWith(" ")) };
}

function outcomeOf(
  child: { readonly exitCode: number | null; readonly signalCode: NodeJS.Signals | number | null },
  { kind, output }: { readonly kind: "test" | "case" | "ring"; readonly output: string },
): ProbeOutcome {
  const { exitCode, signalCode } = child;
  if (signalCode === "SIGKILL") return { crashes: 0, findings: 0, detail: "it takes too long" };
  // A process that runs into memory which is not there.
  if (signalCode !== null) return { crashes: 0, findings: 1, detail: `it dies by ${signalCode}` };
  if (kind === "case") return lifeOf(output, exitCode);
  if (kind === "test") {
    // A file that cannot even be loaded fails as well, and has found nothing.
    const [failed] = output.match(/^\(fail\) .*$/m) ?? [];
    const detail =
      failed ?? (hasRun(output) ? undefined : `it ended by ${exitCode} with no test run: ${output.slice(-500)}`);
    return { crashes: 0, findings: failed === undefined ? 0 : 1, detail };
  }
  const line = output.trim().split("\n").at(-1) ?? "";
  if (!line.startsWith("{")) return { crashes: 0, findings: 1, detail: `it dies with exit code ${exitCode}` };
  return JSON.parse(line) as ProbeOutcome;
}

interface RunOptions {
  readonly timeoutMs: number;
  readonly from: "stdout" | "stderr";
  /** Whether it may end, by what it has said. */
  readonly isEnough?: (output: string) => boolean;
}

/** A copy of the tree, in which one fault after another is planted and dug out again. */
export class Garden implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "emdb-bank-"));

  constructor() {
    for (const part of ["src", "test", "bench/lib", "package.json", "tsconfig.json", "bunfig.toml"]) {
      cpSync(join(root, part), join(this.folder, part), { recursive: true });
    }
    symlinkSync(join(root, "node_modules"), join(this.folder, "node_modules"), "junction");
  }

  /**
   * What a fault's finder finds, and where that is nothing, what the whole probe does: then with a note for whoever runs it.
   * @throws when an edit does not fit.
   */
  async hunt(fault: PlantedFault, finder: Finder | undefined): Promise<ProbeOutcome & { readonly note?: string }> {
    if (finder !== undefined) {
      const outcome = await this.probe(fault, finder);
      if (outcome.findings > 0) return outcome;
    }
    const why = finder === undefined ? "no finder is known" : `its finder (${finder}) finds nothing`;
    const again = `bun test/bank/find-again.ts ${JSON.stringify(fault.name)}`;
    const note = `"${fault.name}": ${why}, so all of ${fault.probe} looks for it; see ${again}`;
    return { ...(await this.probe(fault)), note };
  }

  /**
   * What the probe finds, or its finder alone; one that dies has found the fault too, one that takes too long has not.
   * @throws when an edit does not fit.
   */
  async probe(fault: PlantedFault, finder?: Finder): Promise<ProbeOutcome> {
    return await this.planted(fault, async () => await this.#run(fault, finder));
  }

  /** What comes of `work` in the tree while it has the fault. @throws when an edit does not fit. */
  async planted<T>({ name, edits }: PlantedFault, work: () => Promise<T>): Promise<T> {
    const originals = new Map<string, string>();
    try {
      for (const { file, from, to } of edits) {
        const path = join(this.folder, file);
        const text = readFileSync(path, "utf8");
        originals.set(path, originals.get(path) ?? text);
        const count = text.split(from).length - 1;
        if (count !== 1) throw new Error(`"${name}" does not fit any more: ${file} has its place ${count} times`);
        writeFileSync(
          path,
          text.replace(from, () => to),
        );
      }
      return await work();
    } finally {
      for (const [path, text] of originals) writeFileSync(path, text);
    }
  }

  async #run(fault: PlantedFault, finder: Finder | undefined): Promise<ProbeOutcome> {
    const first = await this.#runOnce(fault, finder);
    // The runtime may end before it has begun, as was seen once. A finder that is no test any more has found nothing.
    const isBegun =
      !fault.probe.startsWith("test/") || finder !== undefined || first.outcome.findings > 0 || hasRun(first.output);
    const { outcome, output } = isBegun ? first : await this.#runOnce(fault, finder);
    // What calls or names something that is not there any more is noticed by the runtime, whatever the probe is worth.
    const [stale] = output.match(STALE) ?? [];
    return stale === undefined ? outcome : { crashes: 0, findings: 0, detail: `it is out of date: ${stale}` };
  }

  async #runOnce(fault: PlantedFault, finder: Finder | undefined): Promise<{ outcome: ProbeOutcome; output: string }> {
    const kind = isCase(finder) ? "case" : fault.probe.startsWith("test/") ? "test" : "ring";
    const { child, output } = await this.run(programFor(fault, finder), {
      timeoutMs: finder === undefined ? PROBE_TIMEOUT_MS : FINDER_TIMEOUT_MS,
      // What `bun test` has to say goes to the second; all others print to the first.
      from: kind === "test" ? "stderr" : "stdout",
    });
    return { outcome: outcomeOf(child, { kind, output }), output };
  }

  /** Runs a program in the tree, with whatever it starts: that would hold the output open when it alone is ended. */
  async run(
    program: readonly string[],
    { timeoutMs, from, isEnough }: RunOptions,
  ): Promise<{ child: Bun.Subprocess; output: string }> {
    const stdio = from === "stderr" ? (["ignore", "ignore", "pipe"] as const) : (["ignore", "pipe", "ignore"] as const);
    const child = Bun.spawn([...childCommand(), ...program], { cwd: this.folder, stdio: [...stdio], detached: true });
    const end = (): void => {
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch {
        // Nothing of it is left.
      }
    };
    const timer = setTimeout(end, timeoutMs);
    const decoder = new TextDecoder();
    let output = "";
    for await (const part of child[from] as ReadableStream<Uint8Array>) {
      output += decoder.decode(part, { stream: true });
      if (isEnough?.(output) === true) end();
    }
    await child.exited;
    clearTimeout(timer);
    return { child, output };
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
