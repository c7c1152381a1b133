/** The part of the bug bank that is about what callers give and get; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

export const API: readonly PlantedFault[] = [
  fault("of two bounds on one side the looser one holds", "test/contract/twin.test.ts", "api/range-bounds.ts", [
    'return (of.side === "lower" ? order > 0 : order < 0)',
    'return (of.side === "lower" ? order < 0 : order > 0)',
  ]),
  fault("of two equal bounds the inclusive one holds", "test/contract/twin.test.ts", "api/range-bounds.ts", [
    '"lower" ? order > 0 : order < 0',
    '"lower" ? order >= 0 : order <= 0',
  ]),
  fault("a very short time to live is none", "test/contract/twin.test.ts", "api/deadline.ts", [
    "store.clockMs() + Math.ceil(ttlMs)",
    "store.clockMs() + ttlMs",
  ]),
  fault("a close that failed fails again", "test/api/handle.test.ts", "api/handle.ts", [
    "this.#closing = closing.finally(() => (this.#closing = undefined));",
    "this.#closing = closing;",
  ]),
  fault("another evaluation of the module writes inside a transaction", "test/engine/lock.test.ts", "api/handle.ts", [
    'Symbol.for("emdb.gates.1")',
    'Symbol("emdb.gates.1")',
  ]),
  fault("a message about an argument runs into what it is", "test/api/arguments.test.ts", "api/describe.ts", [
    "  } catch {\n    return undefined;",
    "  } catch (cause) {\n    throw cause;",
  ]),
  fault("attach runs into what it is given", "test/api/arguments.test.ts", "api/emdb.ts", [
    "if (!isOptions(share) || (share as { readonly kind?: unknown }).kind",
    "if ((Object(share) as { readonly kind?: unknown }).kind",
  ]),
  fault(
    "a batch is written with other lengths than were checked",
    "test/api/moving-bytes.test.ts",
    "engine/engine.ts",
    ["sum !== lengths.sum", "Number.isNaN(sum)"],
  ),
  fault("an error of a caller's codec becomes another one", "test/api/batch-errors.test.ts", "api/collect.ts", [
    " || isFromCodec(error)",
    "",
  ]),
  fault("an open that is to find a database makes its folders", "test/engine/refusals.test.ts", "api/emdb.ts", [
    "createFolders: config.createIfMissing",
    "createFolders: true",
  ]),
  fault("a walk collects all of its records first", "test/engine/range-cost.test.ts", "api/record-iterator.ts", [
    "this.#records = this.#source.batch() ?? NONE;",
    "this.#records = [];\n      for (let all = this.#source.batch(); all !== undefined; all = this.#source.batch()) this.#records = [...this.#records, ...all];",
  ]),
  fault("a decode that remove calls writes", "test/contract/engine.test.ts", "api/read-modify-write.ts", [
    'return handle.guarded("remove", (store: Store) => {',
    "const store: Store = handle.writable();\n  return store.exclusively(() => {",
  ]),
  fault("a view is made of a closed handle", "test/contract/twin.test.ts", "api/keyspace.ts", [
    "    handle.store.count(space);\n    return new KeyspaceView",
    "    return new KeyspaceView",
  ]),
  fault("a batch that closes its handle is written by another's", "test/api/handle.test.ts", "api/keyspace.ts", [
    "    coded.handle.writable();\n    const lifetime = lifetimeOf(options);\n    const { keys, values, lengths } = collectEntries(coded, entries);\n    coded.handle.store.insertMany(",
    "    const store = coded.handle.writable();\n    const lifetime = lifetimeOf(options);\n    const { keys, values, lengths } = collectEntries(coded, entries);\n    store.insertMany(",
  ]),
  fault("a focus is made of a closed handle", "test/contract/twin.test.ts", "api/database.ts", [
    "    this.#handle.openLife();\n    return new FocusView",
    "    return new FocusView",
  ]),
  fault(
    "a program that has closed its database waits for what it had put off",
    "test/api/process-end.test.ts",
    "engine/door.ts",
    ["if (isWanted()) setImmediate(work);", "setImmediate(work);"],
  ),
  fault(
    "an old Bun that opens no library is not told that it is old",
    "test/ffi/surroundings.test.ts",
    "ffi/library.ts",
    ["  requireBun(version);", ""],
  ),
  fault(
    "a damaged header page is refused with no word of salvage",
    "test/engine/rare-refusals.test.ts",
    "engine/sealed/unlock.ts",
    ["`${what}; ${WHAT_HELPS}`", "what"],
  ),
  fault("bytes that a caller is given are those that it gave", "test/contract/twin.test.ts", "api/bytes.ts", [
    "encoder.encode(bytes) : new Uint8Array(bytes);",
    "encoder.encode(bytes) : (bytes as Uint8Array);",
  ]),
  fault("a group is removed behind a look at all of its values", "test/engine/range-cost.test.ts", "api/focus.ts", [
    "store.range(space, bounds, wanted));",
    "store.range(space, bounds));",
  ]),
  fault("a short range of keys reads the values as well", "test/engine/range-cost.test.ts", "engine/read/range.ts", [
    "moment, wanted };",
    'moment, wanted: "pairs" as const };',
  ]),
];
