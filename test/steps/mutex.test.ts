/**
 * The writer's lock, in all orders of the steps of two and three threads that write, try, come, leave and die: see
 * `mutex-scene.ts` for what is judged.
 */

import { setDefaultTimeout, test } from "bun:test";
import type { Moment } from "./explorer.ts";
import { FIRST_NUMBER, Scene } from "./mutex-scene.ts";

setDefaultTimeout(600_000);

test("two that write, and whose time is up at any moment", () =>
  new Scene().writes(2).writes(1).expectFine({ timeoutsMax: 2 }));

test("two that write, of whom one dies", () => new Scene().writes(1).writes(2).expectFine({ deathsMax: 1 }));

test("three that write", () =>
  new Scene()
    .writes(1)
    .writes(1)
    .writes(1)
    .expectFine({ timeoutsMax: 0, clockStepsMs: [0] }));

test("three that write, of whom two die", () => {
  const scene = new Scene().writes(1).writes(1).writes(1, { isImmortal: true });
  scene.expectFine({ deathsMax: 2, timeoutsMax: 0, clockStepsMs: [0] });
});

test("one that writes and one that does not wait, or not for long, of whom one dies", () =>
  new Scene().writes(1).tries([0, 1]).expectFine({ deathsMax: 1, turnsMax: 3, hasTries: true }));

test("one that dies or not, one that waits for it, and one that comes and has its row", () =>
  new Scene()
    .writes(1)
    .writes(1)
    .comes({ isImmortal: true })
    .expectFine({ deathsMax: 1, clockStepsMs: [0] }));

test("one that leaves, one that waits, and one that has the row next, of whom one dies", () =>
  new Scene()
    .leaves()
    .writes(1)
    .comes()
    .expectFine({ deathsMax: 1, clockStepsMs: [0] }));

test("one that has the number of a thread that has died", () => {
  const comes = ({ threads: [first] }: Moment): boolean => first!.state === "dead";
  const scene = new Scene().writes(1).writes(1, { isImmortal: true });
  scene.comes({ number: FIRST_NUMBER, isImmortal: true, comes }).expectFine({ deathsMax: 1, clockStepsMs: [0] });
});

test("one that has waited for long is passed by once at most", () =>
  new Scene()
    .writes(3)
    .writes(1)
    .expectFine({ clockStepsMs: [0, 2], passedMax: 1 }));
