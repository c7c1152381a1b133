/**
 * Typed records: `bun examples/typed-json.ts`.
 *
 * A namespace with codecs takes and gives values of a type. A codec of one's own checks what it reads; a codec that
 * throws writes nothing. `update` and `compareAndSwap` change a record in one step for every other writer, and a
 * transaction keeps a second namespace, from e-mail address to user, in step with the first.
 */

import { Emdb, codec, type Codec, type Namespace } from "emdb";

export interface User {
  readonly name: string;
  readonly email: string;
  readonly visitCount: number;
}

/** JSON that is a user; anything else is an error, on the way in and on the way out. */
export const userCodec: Codec<User> = {
  encode: (user) => JSON.stringify(checkedUser(user)),
  decode: (bytes) => checkedUser(JSON.parse(new TextDecoder().decode(bytes))),
};

function checkedUser(value: unknown): User {
  const user = Object(value) as Partial<Record<keyof User, unknown>>;
  if (typeof user.name !== "string" || typeof user.email !== "string" || typeof user.visitCount !== "number") {
    throw new TypeError(`this is no user: ${JSON.stringify(value)}`);
  }
  return { name: user.name, email: user.email, visitCount: user.visitCount };
}

export class Users {
  readonly #db: Emdb;
  readonly #byId: Namespace<number, User, number, User>;
  readonly #idByEmail: Namespace<string, number, string, number>;

  constructor(db: Emdb) {
    this.#db = db;
    this.#byId = db.namespace("users", { key: codec.uint32, value: userCodec });
    this.#idByEmail = db.namespace("users by e-mail", { key: codec.text, value: codec.uint32 });
  }

  /** Adds a user under both keys, or under none: false when the address is taken. */
  add(id: number, user: User): boolean {
    return this.#db.transaction((tx) => {
      const idByEmail = tx.namespace("users by e-mail");
      if (idByEmail.containsKey(user.email)) return false;
      tx.namespace("users").insert(codec.uint32.encode(id), userCodec.encode(user));
      idByEmail.insert(user.email, codec.uint32.encode(id));
      return true;
    });
  }

  byId(id: number): User | undefined {
    return this.#byId.get(id);
  }

  byEmail(email: string): User | undefined {
    const id = this.#idByEmail.get(email);
    return id === undefined ? undefined : this.#byId.get(id);
  }

  /** Counts a visit; undefined when there is no such user. */
  visit(id: number): User | undefined {
    return this.#byId.update(id, (user) => user && { ...user, visitCount: user.visitCount + 1 });
  }

  /** Renames a user who is still as the caller saw it. */
  rename(id: number, seen: User, name: string): boolean {
    return this.#byId.compareAndSwap(id, seen, { ...seen, name });
  }

  all(): [number, User][] {
    return [...this.#byId];
  }
}

function check(isTrue: boolean, what: string): void {
  if (!isTrue) throw new Error(`not so: ${what}`);
  console.log(what);
}

function main(): void {
  using db = Emdb.openInMemory();
  const users = new Users(db);
  const ada: User = { name: "Ada", email: "ada@example.org", visitCount: 0 };
  check(users.add(1, ada), "a user is added under both keys");
  check(!users.add(2, { ...ada, name: "Imposter" }), "an address is taken once");
  check(users.byEmail("ada@example.org")?.name === "Ada", "she is found by her address");
  check(users.visit(1)?.visitCount === 1, "a visit is counted");
  check(!users.rename(1, ada, "Augusta"), "who saw an old state changes nothing");
  check(users.rename(1, { ...ada, visitCount: 1 }, "Augusta"), "who saw the present one does");
  let isRefused = false;
  try {
    users.add(3, { name: "Nobody", email: "nobody@example.org" } as User);
  } catch (error) {
    isRefused = error instanceof TypeError;
  }
  check(isRefused && users.byEmail("nobody@example.org") === undefined, "what is no user is not written");
  check(users.all().length === 1, "one user is there");
}

if (import.meta.main) main();
