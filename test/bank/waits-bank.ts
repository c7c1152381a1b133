/** The part of the bug bank that is about who waits for the writer's lock; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

const TURNS = "test/workers/turns.test.ts";
const IN_TURNS = "test/engine/lock-in-turns.test.ts";
const EVERY_ORDER = "test/steps/mutex.test.ts";
const EVERY_TURN = "test/steps/in-turns.test.ts";

export const WAITS: readonly PlantedFault[] = [
  fault("who writes without a pause takes the lock from those who wait", TURNS, "engine/threads/mutex.ts", [
    "    if (waiters >= MUTEX_LONG) this.#letLongBy();\n",
    "",
  ]),
  fault("who gets the lock does not tell the one who let it by", TURNS, "engine/threads/mutex.ts", [
    "      this.#countWaiting(-counted);\n      this.#noteTurn();\n",
    "      this.#countWaiting(-counted);\n",
  ]),
  {
    name: "who waits in turns waits for itself when it gives the lock back",
    probe: TURNS,
    seedCount: 1,
    edits: [
      {
        file: "src/engine/threads/mutex.ts",
        from: "return this.#inTurns === 0 ? all : all - IN_TURNS;",
        to: "return all;",
      },
      { file: "src/engine/threads/mutex.ts", from: "if (row !== this.#row && Atomics", to: "if (Atomics" },
    ],
  },
  fault("who leaves while it waits in turns is counted for ever", TURNS, "engine/threads/mutex.ts", [
    "    if (this.#inTurns > 0) this.#countWaiting(-IN_TURNS);\n    this.#inTurns = 0;\n",
    "    this.#inTurns = 0;\n",
  ]),
  fault("who gives up waiting in turns keeps the call that it has had", EVERY_TURN, "engine/threads/mutex.ts", [
    "        if (this.#depth === 0 && Atomics.load(this.#flags, MUTEX) === 0) Atomics.notify(this.#flags, MUTEX, 1);\n",
    "",
  ]),
  fault("an event loop that stands still has the call of who is behind it", EVERY_TURN, "engine/threads/mutex.ts", [
    "const still = Math.floor(waiters / MUTEX_TWICE) + (this.#inLine === undefined ? 0 : 1);",
    "const still = this.#inLine === undefined ? 0 : 1;",
  ]),
  fault("who died between its two counts is waited for again and again", EVERY_TURN, "engine/threads/mutex.ts", [
    " || !this.#isAnyWaiting(waitersMin)",
    "",
  ]),
  fault(
    "each that waits in turns on a thread counts until the last one has it",
    EVERY_TURN,
    "engine/threads/mutex.ts",
    [
      "if (this.#inTurns++ === 0) this.#countWaiting(IN_TURNS);",
      "this.#inTurns++;\n      this.#countWaiting(IN_TURNS);",
    ],
  ),
  fault("a lock that is lent and not taken is kept", TURNS, "engine/threads/mutex.ts", [
    "    if (this.#takeLent()) this.unlock();\n",
    "",
  ]),
  fault("long work waits for the lock and its event loop stands still", IN_TURNS, "engine/threads/held-steps.ts", [
    "const isWaiting = !mutex.beginStep({ needsLock: needsLock() });",
    "const isWaiting = false;\n    mutex.beginStep({ needsLock: false });",
  ]),
  fault("a flush waits for the lock and its event loop stands still", IN_TURNS, "engine/sync/group-commit.ts", [
    "      if (this.#mustWait) void",
    "      if (this.#isClosed) void",
  ]),
  fault("who gives the lock back looks for those who wait before it is free", EVERY_ORDER, "engine/threads/mutex.ts", [
    "    Atomics.store(this.#flags, MUTEX, 0);\n    const waiters = this.#waiters;\n",
    "    const waiters = this.#waiters;\n    Atomics.store(this.#flags, MUTEX, 0);\n",
  ]),
  fault("who has had the lock is let by once more", EVERY_ORDER, "engine/threads/mutex.ts", [
    "    if (this.#waiters < waitersMin || !this.#isAnyWaiting(waitersMin)) return true;\n",
    "",
  ]),
];
