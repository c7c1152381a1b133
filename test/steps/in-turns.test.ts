/**
 * Waiting for the writer's lock while the event loop turns, in all orders of the steps of threads that do so, some of them
 * several times at once, that write themselves meanwhile, leave, give up and die: see `mutex-scene.ts` for what is judged.
 */

import { setDefaultTimeout, test } from "bun:test";
import { Scene } from "./mutex-scene.ts";

setDefaultTimeout(600_000);

/** Nobody waits in vain for one to come but for one that has died. */
const ONE_PASS = { timeoutsMax: 0, clockStepsMs: [0], passedMax: 3 } as const;

test("one that waits in turns, whose time is up at any moment, and one that writes", () => {
  const scene = new Scene();
  scene
    .loops([scene.waits()])
    .writes(2)
    .expectFine({ ...ONE_PASS, timeoutsMax: 1 });
});

test("one that waits in turns until it has waited for two seconds, and one that writes", () => {
  const scene = new Scene();
  scene
    .loops([scene.waits()])
    .writes(1)
    .expectFine({ ...ONE_PASS, clockStepsMs: [0, 2000], leapsMax: 1 });
});

test("two that wait in turns on one thread, of whom one does not take the lock when it has it, and one that writes", () => {
  const scene = new Scene();
  scene
    .loops([scene.waits(), scene.waits({ takes: false })])
    .writes(1)
    .expectFine({ ...ONE_PASS, timeoutsMax: 1 });
});

test("one that waits in turns on a thread that writes itself, and one that writes", () => {
  const scene = new Scene();
  scene
    .loops([scene.waits(), scene.writesLater])
    .writes(1)
    .expectFine({ ...ONE_PASS, timeoutsMax: 1 });
});

test("two that wait in turns on a thread that leaves, and one that writes", () => {
  const scene = new Scene();
  const loop = [scene.waits(), scene.waits(), scene.leavesLater];
  scene.loops(loop, { isGoneAtEnd: true }).writes(1).expectFine(ONE_PASS);
});

test("one that waits in turns on a thread that leaves, one that waits behind it, and one that has the lock", () => {
  const scene = new Scene();
  const loop = [scene.waits(), scene.leavesLater];
  scene
    .loops(loop, { isGoneAtEnd: true })
    .writes(1)
    .writes(1)
    .expectFine({ ...ONE_PASS, isHeldFirst: true });
});

test("one that waits in turns on a thread that leaves, one that writes, and one that has the row next", () => {
  const scene = new Scene();
  const loop = [scene.waits(), scene.leavesLater];
  scene.loops(loop, { isGoneAtEnd: true }).writes(1).comes().expectFine(ONE_PASS);
});

test("one that waits in turns and gives up, one that waits behind it, and one that has the lock", () => {
  const scene = new Scene();
  scene
    .loops([scene.givesUp])
    .writes(1)
    .writes(1)
    .expectFine({ ...ONE_PASS, isHeldFirst: true });
});

test("one that waits in turns and one that writes, of whom one dies", () => {
  const scene = new Scene();
  scene
    .loops([scene.waits()])
    .writes(2)
    .expectFine({ ...ONE_PASS, deathsMax: 1 });
});

test("one that waits in turns and dies, also between its two counts, is waited for no more", () => {
  const scene = new Scene();
  scene
    .loops([scene.waits()])
    .writes(3, { isImmortal: true })
    .expectFine({ ...ONE_PASS, clockStepsMs: [100], deathsMax: 1 });
});

test("two threads that wait in turns, and one that has the lock", () => {
  const scene = new Scene();
  scene
    .loops([scene.waits()])
    .loops([scene.waits()])
    .writes(1)
    .expectFine({ ...ONE_PASS, isHeldFirst: true });
});

test("two threads that do long work", () => {
  const scene = new Scene();
  scene
    .loops([scene.slices(2)])
    .loops([scene.slices(1)])
    .expectFine(ONE_PASS);
});

test("one that does long work, another one that waits in turns on its thread, and one that writes", () => {
  const scene = new Scene();
  scene
    .loops([scene.slices(2), scene.waits()])
    .writes(1)
    .expectFine(ONE_PASS);
});
