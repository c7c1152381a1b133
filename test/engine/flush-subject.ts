/** An open database whose system calls can be told to fail, for tests of flushes. */

import { openFile } from "../../src/engine/open/open.ts";
import type { Environment, Opened } from "../../src/engine/assemble.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { System } from "../../src/ffi/system.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { faulty, type Fault } from "./engine-fixture.ts";
import { CONFIG, type Config } from "./open-engine.ts";

export const GROUP: Partial<Config> = { flushPlan: { kind: "group", waitMsMax: 0, batchMax: 1 } };

/** An open database in a folder of its own. */
export class Subject implements Disposable {
  readonly #folder = temporaryFolder();
  readonly opened: Opened;
  readonly system: System = faulty(hostSystem(), (call, args) => this.fault(call, args));
  /** What a call gives instead of being made. */
  fault: Fault = () => undefined;

  constructor(changes: Partial<Environment> = {}, config: Partial<Config> = GROUP) {
    const { system } = this;
    const defer = (work: () => void): void => void setImmediate(work);
    const environment = { system, defer, hasWorkers: false, ...changes };
    const path = this.#folder.file("data.emdb");
    this.opened = openFile(environment, { path, createFolders: false, config: { ...CONFIG, ...config } });
  }

  insert(key: string): void {
    this.opened.engine.insert(this.opened.engine.defaultSpace, key, "value", 0);
  }

  [Symbol.dispose](): void {
    try {
      this.opened.leave();
    } catch {
      // What a poisoned database says to that is of no interest here.
    }
    this.#folder[Symbol.dispose]();
  }
}
