/**
 * A guest book behind `Bun.serve`: `bun examples/guest-book.ts [--port 3000] [--database guest-book.emdb]`.
 *
 *   POST /login?user=ada     a session, which ends when it is not used for half an hour
 *   POST /messages           signs the book with the text of the body: 201 and the number of the message
 *   GET  /messages?after=N   what was written behind message N, in order
 *
 * What was answered with 201 survives a loss of power: each request flushes before it answers, and the flushes of
 * requests that come together share one sync. SIGTERM and SIGINT end the server cleanly: it takes no new
 * requests, answers those that it has, and closes the database.
 */

import { parseArgs } from "node:util";
import { Emdb, EmdbError, codec, type Namespace } from "emdb";
import { openSessions, sessionCookie, tokenOf, type SessionStore } from "./session-store.ts";

export interface Message {
  readonly user: string;
  readonly text: string;
  readonly writtenAtMs: number;
}

const SESSION_TTL_MS = 30 * 60_000;
const MESSAGES_PER_PAGE = 100;

class GuestBook {
  readonly #db: Emdb;
  readonly #messages: Namespace<number, Message, number, Message>;
  readonly #sessions: SessionStore;
  #last: number;

  constructor(db: Emdb) {
    this.#db = db;
    // `uint32` keeps the order of numbers, so a range gives the messages in the order of writing.
    this.#messages = db.namespace("messages", { key: codec.uint32, value: codec.json<Message>() });
    this.#sessions = openSessions(db, { ttlMs: SESSION_TTL_MS });
    this.#last = [...this.#messages.range({ reverse: true, limit: 1 })][0]?.[0] ?? 0;
  }

  async login(request: Request): Promise<Response> {
    const user = new URL(request.url).searchParams.get("user");
    if (!user) return new Response("who?", { status: 400 });
    const token = this.#sessions.start(user);
    await this.#db.flush();
    return new Response("welcome", { headers: { "set-cookie": sessionCookie(token, SESSION_TTL_MS) } });
  }

  async sign(request: Request): Promise<Response> {
    const session = this.#sessions.touch(tokenOf(request));
    if (session === undefined) return new Response("log in first", { status: 401 });
    const text = await request.text();
    this.#last += 1;
    const number = this.#last;
    this.#messages.insert(number, { user: session.user, text, writtenAtMs: Date.now() });
    await this.#db.flush();
    return Response.json({ number }, { status: 201 });
  }

  read(request: Request): Response {
    const after = Number(new URL(request.url).searchParams.get("after") ?? 0);
    if (!Number.isInteger(after) || after < 0 || after >= 2 ** 32) return new Response("after what?", { status: 400 });
    const page = this.#messages.range({ gt: after, limit: MESSAGES_PER_PAGE });
    return Response.json([...page].map(([number, message]) => ({ number, ...message })));
  }
}

export function serveGuestBook(db: Emdb, port: number): Bun.Server<undefined> {
  const book = new GuestBook(db);
  return Bun.serve({
    port,
    hostname: "127.0.0.1",
    routes: {
      "/login": { POST: (request) => book.login(request) },
      "/messages": { POST: (request) => book.sign(request), GET: (request) => book.read(request) },
    },
  });
}

/** The database, or the reason why there is none in one line: somebody else serves it, no permission, a newer format. */
function openOrEnd(path: string): Emdb {
  try {
    // Sessions that have ended are gone from every answer at once; the sweep gives their space in the index back, and
    // compactions in the background what is overwritten in the file.
    return Emdb.open(path, { rangeScans: true, sweepIntervalMs: 60_000, autoCompact: true });
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
    console.error(`${error.code}: ${error.message}`);
    process.exit(1);
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "3000" },
      database: { type: "string", default: "guest-book.emdb" },
    },
  });
  const db = openOrEnd(values.database);
  const server = serveGuestBook(db, Number(values.port));
  console.log(`listening on ${server.url.href}`);
  const end = async (): Promise<void> => {
    await server.stop();
    await db.close();
    console.log("closed");
  };
  process.once("SIGTERM", () => void end());
  process.once("SIGINT", () => void end());
}
