/** Plants a fault in a copy of the tree and lets its probe look for it. */

import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { childCommand } from "../support/platform.ts";
import type { PlantedFault, ProbeOutcome } from "./fault.ts";

const root = resolve(import.meta.dir, "../..");
const PROBE_TIMEOUT_MS = 100_000;

/** What an edit leads to that does not fit the source any more. */
const STALE = /ReferenceError: .*|SyntaxError: .*|TypeError: .* is not a function.*/;

/** Whether a run of tests has come to its end, or to a test that failed. */
const hasRun = (output: string): boolean => /^Ran \d+ tests? across/m.test(output) || /^\(fail\) /m.test(output);

function outcomeOf(
  child: { readonly exitCode: number | null; readonly signalCode: NodeJS.Signals | number | null },
  { isTest, output }: { readonly isTest: boolean; readonly output: string },
): ProbeOutcome {
  const { exitCode, signalCode } = child;
  if (signalCode === "SIGKILL") return { crashes: 0, findings: 0, detail: "it takes too long" };
  // A process that runs into memory which is not there.
  if (signalCode !== null) return { crashes: 0, findings: 1, detail: `it dies by ${signalCode}` };
  if (isTest) {
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

/** A copy of the tree, in which one fault after another is planted and dug out again. */
export class Garden implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "emdb-bank-"));

  constructor() {
    for (const part of ["src", "test", "bench/lib", "package.json", "tsconfig.json", "bunfig.toml"]) {
      cpSync(join(root, part), join(this.folder, part), { recursive: true });
    }
    symlinkSync(join(root, "node_modules"), join(this.folder, "node_modules"), "junction");
  }

  /** What the probe finds; one that dies has found the fault too, one that takes too long has not. @throws when an edit does not fit. */
  async probe(fault: PlantedFault): Promise<ProbeOutcome> {
    const originals = new Map<string, string>();
    try {
      for (const { file, from, to } of fault.edits) {
        const path = join(this.folder, file);
        const text = readFileSync(path, "utf8");
        originals.set(path, originals.get(path) ?? text);
        const count = text.split(from).length - 1;
        if (count !== 1) throw new Error(`"${fault.name}" does not fit any more: ${file} has its place ${count} times`);
        writeFileSync(
          path,
          text.replace(from, () => to),
        );
      }
      return await this.#run(fault);
    } finally {
      for (const [path, text] of originals) writeFileSync(path, text);
    }
  }

  async #run(fault: PlantedFault): Promise<ProbeOutcome> {
    const first = await this.#hunt(fault);
    // The runtime may end before it has begun, as was seen once.
    const isBegun = !fault.probe.startsWith("test/") || first.outcome.findings > 0 || hasRun(first.output);
    const { outcome, output } = isBegun ? first : await this.#hunt(fault);
    // What calls or names something that is not there any more is noticed by the runtime, whatever the probe is worth.
    const [stale] = output.match(STALE) ?? [];
    return stale === undefined ? outcome : { crashes: 0, findings: 0, detail: `it is out of date: ${stale}` };
  }

  async #hunt({ probe, seedCount }: PlantedFault): Promise<{ outcome: ProbeOutcome; output: string }> {
    const isTest = probe.startsWith("test/");
    const program = isTest ? ["test", "--bail", `./${probe}`] : ["test/bank/child.ts", probe, String(seedCount)];
    const child = Bun.spawn([...childCommand(), ...program], {
      cwd: this.folder,
      // What `bun test` has to say goes to the second; a ring prints to the first.
      stdio: isTest ? ["ignore", "ignore", "pipe"] : ["ignore", "pipe", "ignore"],
      timeout: PROBE_TIMEOUT_MS,
      killSignal: "SIGKILL",
    });
    const output = await new Response(isTest ? child.stderr : child.stdout).text();
    await child.exited;
    return { outcome: outcomeOf(child, { isTest, output }), output };
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
