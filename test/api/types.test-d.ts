/** What the types infer without annotations. Nothing runs: the compiler is the test. */

import type { BytesLike, Codec, Emdb, EmdbError, Keyspace, Namespace } from "../../src/index.ts";
import { codec } from "../../src/codec/codec.ts";

type IsSame<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Compiles only when both types are one. */
function same<A, B>(isSame: IsSame<A, B>): IsSame<A, B> {
  return isSame;
}

interface User {
  readonly name: string;
}

/** No member that the contract does not name: an error of the same shape is one for the compiler. */
export function errors(): void {
  same<Exclude<keyof EmdbError, keyof Error>, "code" | "path" | "syscall" | "errno" | "offset" | "holder">(true);
}

export function inference(db: Emdb): void {
  const plain: Keyspace = db;
  same<ReturnType<typeof plain.get>, Uint8Array | undefined>(true);

  const users = db.namespace("users", { key: codec.uint32, value: codec.json<User>() });
  same<typeof users, Namespace<number, User, number, User>>(true);
  const user = users.get(1);
  same<typeof user, User | undefined>(true);
  for (const [id, found] of users) {
    same<typeof id, number>(true);
    same<typeof found, User>(true);
  }
  const names = users.values().map((one) => one.name);
  same<ReturnType<typeof names.toArray>, string[]>(true);
  const updated = users.update(1, (current) => ({ name: `${current?.name}!` }));
  same<typeof updated, User | undefined>(true);
  users.range({ gte: 1, lt: 10, prefix: "bytes" });

  // @ts-expect-error the key is a number
  users.get("1");
  // @ts-expect-error the value is a user
  users.insert(1, { name: 5 });
  // @ts-expect-error a bound is a number
  users.range({ gte: "1" });

  const texts = db.typed({ value: codec.text });
  same<typeof texts, Keyspace<Uint8Array, string, BytesLike, string>>(true);
  const count = db.typed({ key: codec.text, value: codec.uint64 }).get("count");
  same<typeof count, bigint | undefined>(true);

  const plainNamespace = db.namespace("plain");
  same<typeof plainNamespace, Namespace>(true);

  const result = db.transaction((tx) => {
    tx.namespace("users").insert("key", "value");
    // @ts-expect-error a transaction within a namespace has no namespaces
    tx.namespace("users").namespace("deeper");
    return 5;
  });
  same<typeof result, number>(true);

  // @ts-expect-error the value is missing
  db.insert("key");
  // @ts-expect-error a number is no bytes
  db.insert("key", 5);
  // @ts-expect-error a codec of both or of the value
  db.typed({ key: codec.text });
  // @ts-expect-error handles are opened, not made
  void new (db.constructor as typeof Emdb)("path");
}

export const ownCodec: Codec<User> = {
  encode: (user) => user.name,
  decode: (bytes) => ({ name: new TextDecoder().decode(bytes) }),
};
