/**
 * Sessions of a web server, each with a time to live: `bun examples/session-store.ts`.
 *
 * A session is one record, its token the key. Reading it on each request moves its deadline on; whoever stays away
 * too long has none. The program starts a server on a free port, logs in and out as a client would, and checks
 * what it gets. With `--serve` it stays up, on PORT or 3000, until SIGINT or SIGTERM.
 */

import { Emdb, codec, type Namespace } from "emdb";

export interface Session {
  readonly user: string;
  readonly startedAtMs: number;
}

export interface SessionStore {
  /** The token of a new session. */
  start(user: string): string;
  /** The session of a token; its deadline moves on. Undefined when there is none any more. */
  touch(token: string): Session | undefined;
  end(token: string): boolean;
}

export function openSessions(db: Emdb, options: { readonly ttlMs: number }): SessionStore {
  const { ttlMs } = options;
  const sessions: Namespace<string, Session, string, Session> = db.namespace("sessions", {
    key: codec.text,
    value: codec.json<Session>(),
  });
  return {
    start(user) {
      const token = crypto.randomUUID();
      sessions.insert(token, { user, startedAtMs: Date.now() }, { ttlMs });
      return token;
    },
    // One step for every other writer: a session that ends meanwhile is not brought back.
    touch: (token) => sessions.update(token, (current) => current, { ttlMs }),
    end: (token) => sessions.remove(token) !== undefined,
  };
}

/** The token in the cookie of a request; empty when it has none. */
export const tokenOf = (request: Request): string =>
  /(?:^|; )session=([^;]+)/.exec(request.headers.get("cookie") ?? "")?.[1] ?? "";

export function sessionCookie(token: string, ttlMs: number): string {
  return `session=${token}; HttpOnly; SameSite=Lax; Max-Age=${Math.ceil(ttlMs / 1000)}`;
}

/** `POST /login?user=...`, `GET /me`, `POST /logout`. */
export function serveSessions(
  db: Emdb,
  options: { readonly ttlMs: number; readonly port: number },
): Bun.Server<undefined> {
  const sessions = openSessions(db, options);
  return Bun.serve({
    port: options.port,
    routes: {
      "/login": {
        async POST(request) {
          const user = new URL(request.url).searchParams.get("user");
          if (user === null || user === "") return new Response("who?", { status: 400 });
          const token = sessions.start(user);
          // The client may be told of its session once that survives a power loss.
          await db.flush();
          return new Response("welcome", { headers: { "set-cookie": sessionCookie(token, options.ttlMs) } });
        },
      },
      "/me": (request) => {
        const session = sessions.touch(tokenOf(request));
        return session === undefined ? new Response("log in first", { status: 401 }) : Response.json(session);
      },
      "/logout": { POST: (request) => new Response(sessions.end(tokenOf(request)) ? "bye" : "who?") },
    },
  });
}

function expectStatus(response: Response, status: number, what: string): void {
  if (response.status !== status) throw new Error(`${what}: ${response.status}, not ${status}`);
  console.log(`${what}: ${response.status}`);
}

/** What a browser would do. */
async function visit(server: Bun.Server<undefined>): Promise<void> {
  const at = (path: string): string => `http://localhost:${server.port}${path}`;
  expectStatus(await fetch(at("/me")), 401, "a stranger");
  const login = await fetch(at("/login?user=ada"), { method: "POST" });
  expectStatus(login, 200, "a login");
  const headers = { cookie: login.headers.get("set-cookie")?.split(";")[0] ?? "" };
  expectStatus(await fetch(at("/me"), { headers }), 200, "the user");
  expectStatus(await fetch(at("/logout"), { method: "POST", headers }), 200, "a logout");
  expectStatus(await fetch(at("/me"), { headers }), 401, "afterwards");
}

if (import.meta.main) {
  // Expired sessions are absent from every answer already; the sweep gives their space in the index back, and the
  // compaction what they and each moved deadline have left in the log.
  await using db = Emdb.openInMemory({ sweepIntervalMs: 60_000, autoCompact: true });
  if (process.argv.includes("--serve")) {
    const server = serveSessions(db, { ttlMs: 30 * 60_000, port: Number(process.env["PORT"] ?? 3000) });
    console.log(`http://localhost:${server.port}/me`);
    await new Promise<void>((resolve) => {
      for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => resolve());
    });
    await server.stop(true);
  } else {
    const server = serveSessions(db, { ttlMs: 30 * 60_000, port: 0 });
    await visit(server);
    await server.stop(true);
    console.log("the session store works");
  }
}
