/** Starts `child.ts` and speaks with it line by line. */

import { join } from "node:path";
import { childCommand } from "../support/platform.ts";

export class Child implements AsyncDisposable {
  readonly #process;
  readonly #lines;

  constructor(what: string, path: string) {
    this.#process = Bun.spawn([...childCommand(), join(import.meta.dir, "child.ts"), what, path], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#lines = linesOf(this.#process.stdout);
  }

  get pid(): number {
    return this.#process.pid;
  }

  async line(): Promise<string> {
    const { value } = await this.#lines.next();
    return value ?? "(it ended)";
  }

  /** Lets it begin; `line` then says how it went. */
  async go(): Promise<void> {
    await this.#process.stdin.write("go\n");
    await this.#process.stdin.flush();
  }

  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
  }

  /** Lets it end in good order. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stdin.end();
    await this.#process.exited;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of stream) {
    text += decoder.decode(bytes, { stream: true });
    const lines = text.split(/\r?\n/);
    text = lines.pop() ?? "";
    yield* lines;
  }
}

/** Starts a child and lets it begin at once; returns it with its first word on how it went. */
export async function startChild(what: string, path: string): Promise<{ child: Child; said: string }> {
  const child = new Child(what, path);
  await child.line();
  await child.go();
  return { child, said: await child.line() };
}

/** Has another process break the lock of a database, open it, write records "by the robber" and close it; returns how it ended. */
export function rob(
  path: string,
  records: number,
  secret: { readonly encryption?: { readonly key: Uint8Array } } = {},
): number | null {
  const key = secret.encryption?.key;
  const options = key === undefined ? "{}" : `{ encryption: { key: new Uint8Array(${JSON.stringify([...key])}) } }`;
  const program = `import { Emdb } from ${JSON.stringify(join(import.meta.dir, "../../src/index.ts"))};
    Emdb.breakLock(${JSON.stringify(path)}, { force: true });
    const db = Emdb.open(${JSON.stringify(path)}, ${options});
    for (let index = 0; index < ${records}; index++) db.insert("key " + index, "by the robber");
    db.closeSync();`;
  return Bun.spawnSync([...childCommand(), "-e", program]).exitCode;
}
