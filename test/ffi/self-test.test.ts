/** What is tried before anybody relies on the system: a call that does not do what it should is told from one that finds no memory. */

import { expect, test } from "bun:test";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import { selfTest } from "../../src/ffi/self-test.ts";
import type { System } from "../../src/ffi/system.ts";
import { faulty } from "../engine/engine-fixture.ts";

type MemoryCall = "reserve" | "commit" | "release";

/** The host, of which one call answers something else; and how much memory is reserved and not released. */
function answering(refused: MemoryCall, result: number): { readonly system: System; readonly held: () => number } {
  let held = 0;
  const system = faulty(hostSystem(), (call) => {
    if (call === refused && call !== "release") return result;
    if (call === "reserve") held += 1;
    if (call === "release") held -= 1;
    return call === refused ? result : undefined;
  });
  return { system, held: () => held };
}

test("the system that the tests run on passes", () => {
  expect(selfTest(hostSystem())).toBeUndefined();
});

test.each(["reserve", "commit", "release"] as const)(
  "where memory is short for %p that is what is said, and not that native calls do not work",
  (call) => {
    const { system, held } = answering(call, -Errno.ENOMEM);
    expect(() => selfTest(system)).toThrow(expect.objectContaining({ code: "EMDB_IO", errno: "ENOMEM" }));
    expect(held()).toBe(0);
  },
);

test.each([
  ["reserve", "reserving memory gave EINVAL"],
  ["commit", "committing memory gave EINVAL"],
  ["release", "releasing memory gave EINVAL"],
] as const)("a call that does not do what it should is named: %p", (call, words) => {
  const { system, held } = answering(call, -Errno.EINVAL);
  expect(selfTest(system)).toBe(words);
  expect(held()).toBe(0);
});
