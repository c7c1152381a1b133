/**
 * The guest book under load: what it answered with 201 is there after a kill -9, again and again, and SIGTERM ends it
 * in good order with every request answered.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { Emdb } from "emdb";
import { Random } from "../sim/random.ts";
import { childCommand, childText, emulator } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

setDefaultTimeout(240_000);
const program = join(import.meta.dir, "../../examples/guest-book.ts");
const CLIENTS = 32;
/** Acknowledged messages after which the server is killed, each round. */
const ROUNDS = emulator === undefined ? [1500, 700, 2000, 60] : [60, 30];
const seed = 20_260_203;

/** A server in a process of its own. */
class Server implements AsyncDisposable {
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  url = "";
  #said = "";
  readonly #hears: Promise<void>;

  private constructor(child: Server["child"], onFirstLine: () => void) {
    this.child = child;
    this.#hears = this.#hear(onFirstLine);
  }

  static async start(database: string): Promise<Server> {
    const command = [...childCommand(), program, "--port", "0", "--database", database];
    const child = Bun.spawn(command, { stdio: ["ignore", "pipe", "pipe"] });
    const { promise, resolve } = Promise.withResolvers<void>();
    const server = new Server(child, resolve);
    await Promise.race([promise, server.#hears]);
    server.url = /listening on (\S+)/.exec(server.#said)?.[1] ?? "";
    if (server.url === "") throw new Error(`it does not listen: ${await new Response(child.stderr).text()}`);
    return server;
  }

  async #hear(onFirstLine: () => void): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.child.stdout) {
      this.#said += decoder.decode(chunk, { stream: true });
      if (this.#said.includes("\n")) onFirstLine();
    }
  }

  /** Ends it by a signal; its exit code and what it said. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<{ exitCode: number | null; said: string }> {
    this.child.kill(signal);
    await this.child.exited;
    await this.#hears;
    return { exitCode: this.child.exitCode, said: childText(this.#said) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }
}

async function login(server: Server, user: string): Promise<string> {
  const response = await fetch(`${server.url}login?user=${user}`, { method: "POST" });
  expect(response.status).toBe(200);
  return response.headers.get("set-cookie")?.split(";")[0] ?? "";
}

interface Acknowledged {
  readonly number: number;
  readonly user: string;
  readonly text: string;
}

/** Clients that sign until the server is gone. `onSigned` hears how many messages were acknowledged so far. */
async function load(
  server: Server,
  cookies: readonly string[],
  onSigned: (count: number) => void,
): Promise<Acknowledged[]> {
  const signed: Acknowledged[] = [];
  // Under Wine the connections of a process that was killed stay half open.
  const gone = new AbortController();
  void server.child.exited.then(() => gone.abort());
  const client = async (cookie: string, index: number): Promise<void> => {
    for (let turn = 0; ; turn += 1) {
      const text = `${index} ${turn} ${"x".repeat((index * 37 + turn * 11) % 900)}`;
      const request = { method: "POST", headers: { cookie }, body: text, signal: gone.signal };
      // A server that is gone refuses; one that dies in the middle resets.
      const response = await fetch(`${server.url}messages`, request).catch(() => undefined);
      if (response === undefined) return;
      expect(response.status).toBe(201);
      const answer = (await response.json().catch(() => undefined)) as { number: number } | undefined;
      if (answer === undefined) return;
      signed.push({ number: answer.number, user: `user${index}`, text });
      onSigned(signed.length);
    }
  };
  await Promise.all(cookies.map(client));
  return signed;
}

function expectKept(database: string, all: readonly Acknowledged[]): void {
  using db = Emdb.open(database, { createIfMissing: false, rangeScans: true });
  const messages = db.namespace("messages");
  const key = new DataView(new ArrayBuffer(4));
  const lost = all.filter(({ number, user, text }) => {
    key.setUint32(0, number);
    const found = messages.getText(new Uint8Array(key.buffer));
    const kept = found === undefined ? undefined : (JSON.parse(found) as { user: string; text: string });
    return kept?.user !== user || kept.text !== text;
  });
  expect(lost).toEqual([]);
  expect(new Set(all.map(({ number }) => number)).size).toBe(all.length);
}

test(`every message that was answered with 201 is there after a kill -9, ${ROUNDS.length} times in a row (seed ${seed})`, async () => {
  using folder = temporaryFolder();
  const database = folder.file("guest-book.emdb");
  const random = new Random(seed);
  const all: Acknowledged[] = [];
  let cookies: string[] | undefined;
  for (const count of ROUNDS) {
    await using server = await Server.start(database);
    // Sessions outlive the server: whoever is logged in stays so.
    cookies ??= await Promise.all(Array.from({ length: CLIENTS }, (_, index) => login(server, `user${index}`)));
    const killAt = count + random.below(40);
    const signed = await load(server, cookies, (done) => {
      if (done === killAt) server.child.kill("SIGKILL");
    });
    await server.child.exited;
    expect(signed.length).toBeGreaterThanOrEqual(killAt);
    all.push(...signed);
    expectKept(database, all);
  }
});

test.skipIf(process.platform === "win32")(
  "SIGTERM answers the requests that are under way, closes the database, and ends with 0",
  async () => {
    using folder = temporaryFolder();
    const database = folder.file("guest-book.emdb");
    await using server = await Server.start(database);
    const cookies = await Promise.all(Array.from({ length: CLIENTS }, (_, index) => login(server, `user${index}`)));
    let ended: ReturnType<Server["end"]> | undefined;
    const signed = await load(server, cookies, (done) => {
      if (done === 50) ended = server.end("SIGTERM");
    });
    const { exitCode, said } = (await ended) ?? {};
    expect([exitCode, said?.trim().split("\n").at(-1)]).toEqual([0, "closed"]);
    expectKept(database, signed);
    using again = Emdb.open(database, { rangeScans: true });
    expect([again.recovery.tornBytes, again.recovery.usedCheckpoint]).toEqual([0, true]);
  },
);

test("a stranger may not sign, and pages are in order", async () => {
  using folder = temporaryFolder();
  await using server = await Server.start(folder.file("guest-book.emdb"));
  const url = `${server.url}messages`;
  expect((await fetch(url, { method: "POST", body: "hello" })).status).toBe(401);
  expect((await fetch(`${server.url}login`, { method: "POST" })).status).toBe(400);
  const cookie = await login(server, "ada");
  for (let turn = 0; turn < 105; turn += 1) {
    const response = await fetch(url, { method: "POST", headers: { cookie }, body: `message ${turn}` });
    expect(await response.json()).toEqual({ number: turn + 1 });
  }
  const page = (await (await fetch(url)).json()) as Acknowledged[];
  expect(page.map(({ number }) => number)).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
  const rest = (await (await fetch(`${url}?after=100`)).json()) as Acknowledged[];
  expect(rest.map(({ text, user }) => `${user}: ${text}`)).toEqual(
    [100, 101, 102, 103, 104].map((turn) => `ada: message ${turn}`),
  );
  expect((await fetch(`${url}?after=x`)).status).toBe(400);
});
