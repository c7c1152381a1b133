/** The examples run as a reader would run them, check themselves, and leave nothing running. */

import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Emdb } from "emdb";
import { Queue } from "../../examples/queue.ts";
import { openSessions, serveSessions } from "../../examples/session-store.ts";
import { Users } from "../../examples/typed-json.ts";
import { childCommand, childText } from "../support/platform.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = join(import.meta.dir, "../../examples");
const timeoutMs = 120_000;

async function run(words: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const command = [...childCommand(), join(folder, words[0] ?? ""), ...words.slice(1)];
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe", env: { ...process.env, ...env } });
  const [output, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { output: childText(output), errors: childText(errors), exitCode: await child.exited };
}

const lastLines: Readonly<Record<string, string>> = {
  "session-store.ts": "the session store works",
  "queue.ts": "the queue is empty",
  "typed-json.ts": "one user is there",
};

test("every example is run by a test", () => {
  const tested = [...Object.keys(lastLines), "quickstart.ts", "guest-book.ts", "history.ts", "notes.ts"];
  expect(readdirSync(folder).sort()).toEqual(tested.sort());
});

for (const [name, lastLine] of Object.entries(lastLines)) {
  test(
    `${name} finds everything as it says and ends`,
    async () => {
      const { output, errors, exitCode } = await run([name]);
      expect({ last: output.trimEnd().split("\n").at(-1), errors, exitCode }).toEqual({
        last: lastLine,
        errors: "",
        exitCode: 0,
      });
    },
    timeoutMs,
  );
}

test(
  "quickstart.ts leaves a database that its second form reads, and runs twice",
  async () => {
    using own = temporaryFolder();
    const env = { EMDB_QUICKSTART_FOLDER: own.path };
    for (let round = 0; round < 2; round++) {
      const { output, errors, exitCode } = await run(["quickstart.ts"], env);
      expect({ errors, exitCode }).toEqual({ errors: "", exitCode: 0 });
      expect(output).toContain("Everything is as it should be");
      expect(existsSync(own.file("typescript.emdb"))).toBe(true);
    }
    expect((await run(["quickstart.ts", "lib/typescript.js"], env)).exitCode).toBe(0);
    const missing = await run(["quickstart.ts", "no such file"], env);
    expect(missing.exitCode).toBe(1);
    expect(missing.errors).toContain('There is no record "no such file"');
  },
  timeoutMs,
);

test(
  "quickstart.ts of an installed package finds the project's typescript and leaves its database in the folder it runs in",
  async () => {
    using project = temporaryFolder();
    const write = (name: string, text: string) => Bun.write(project.file(`node_modules/${name}`), text);
    await write("emdb/package.json", '{ "name": "emdb", "exports": "./index.ts" }');
    await write("emdb/index.ts", `export * from ${JSON.stringify(join(folder, "../src/index.ts"))};`);
    await write("emdb/examples/quickstart.ts", await Bun.file(join(folder, "quickstart.ts")).text());
    await write("typescript/package.json", '{ "name": "typescript" }');
    for (let file = 0; file < 40; file++) await write(`typescript/lib/${file}.js`, `// ${file}`);

    const command = [...childCommand(), project.file("node_modules/emdb/examples/quickstart.ts")];
    const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit", cwd: project.path });
    expect(childText(await new Response(child.stdout).text())).toContain("Everything is as it should be");
    expect(existsSync(project.file("quickstart-data/typescript.emdb"))).toBe(true);
    expect(existsSync(project.file("node_modules/emdb/quickstart-data"))).toBe(false);
  },
  timeoutMs,
);

test.skipIf(process.platform === "win32")(
  "session-store.ts --serve answers until it is told to end",
  async () => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      const command = [...childCommand(), join(folder, "session-store.ts"), "--serve"];
      const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe", env: { ...process.env, PORT: "0" } });
      const reader = child.stdout.getReader();
      let said = "";
      while (!said.includes("\n")) said += childText(new TextDecoder().decode((await reader.read()).value));
      expect((await fetch(said.trim())).status).toBe(401);
      child.kill(signal);
      expect([await child.exited, await new Response(child.stderr).text()]).toEqual([0, ""]);
    }
  },
  timeoutMs,
);

describe("the session store", () => {
  test("knows no session whose time is over", () => {
    using db = Emdb.openInMemory();
    const sessions = openSessions(db, { ttlMs: 0 });
    expect(sessions.touch(sessions.start("ada"))).toBeUndefined();
  });
  test("moves a deadline on when the session is used", () => {
    using db = Emdb.openInMemory();
    const token = openSessions(db, { ttlMs: 60_000 }).start("ada");
    const before = db.namespace("sessions").expiresAt(token) ?? 0;
    expect(openSessions(db, { ttlMs: 120_000 }).touch(token)?.user).toBe("ada");
    expect(db.namespace("sessions").expiresAt(token)).toBeGreaterThan(before + 50_000);
  });
  test("brings no ended session back", () => {
    using db = Emdb.openInMemory();
    const sessions = openSessions(db, { ttlMs: 60_000 });
    const token = sessions.start("ada");
    expect([sessions.end(token), sessions.end(token), sessions.touch(token)]).toEqual([true, false, undefined]);
  });
  test("answers 401 to a cookie that it did not give", async () => {
    await using db = Emdb.openInMemory();
    const server = serveSessions(db, { ttlMs: 60_000, port: 0 });
    const response = await fetch(`http://localhost:${server.port}/me`, { headers: { cookie: "session=made-up" } });
    await server.stop(true);
    expect(response.status).toBe(401);
  });
});

describe("the queue", () => {
  test("gives a job to one taker only, in order", () => {
    using db = Emdb.openInMemory();
    const queue = new Queue(db);
    const ids = ["a", "b", "c"].map((text) => queue.push(text));
    expect(ids.map(() => queue.take()?.text)).toEqual(["a", "b", "c"]);
    expect(queue.take()).toBeUndefined();
    expect(queue.done(0)).toBe(true);
    expect(queue.done(0)).toBe(false);
  });
  test("puts what was taken and not done before what waits, and nothing else", () => {
    using db = Emdb.openInMemory();
    const queue = new Queue(db);
    for (const text of ["a", "b", "c", "d"]) queue.push(text);
    for (const isDone of [false, true, false]) {
      const job = queue.take();
      if (isDone && job !== undefined) queue.done(job.id);
    }
    const again = new Queue(db);
    expect(again.waitingCount).toBe(3);
    const order = [again.take(), again.take(), again.take(), again.take()].map((job) => job?.text);
    expect(order).toEqual(["a", "c", "d", undefined]);
    again.push("e");
    expect(again.take()?.text).toBe("e");
  });
});

test("the users keep both of their namespaces in step when a user is refused", () => {
  using db = Emdb.openInMemory();
  const users = new Users(db);
  const ada = { name: "Ada", email: "ada@example.org", visitCount: 0 };
  expect([users.add(1, ada), users.add(2, ada)]).toEqual([true, false]);
  expect(users.all()).toEqual([[1, ada]]);
  expect(users.byId(2)).toBeUndefined();
});
