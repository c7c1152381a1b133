/**
 * Makes every access to shared memory a step of a baton, in this thread, for code that knows nothing of it.
 *
 * Typed arrays over shared buffers are made as proxies, `Atomics` and the system's calls are wrapped, and the module
 * that copies bytes is changed as it is loaded. A copy may be cut in two at a multiple of 8 bytes, with a step between:
 * only aligned words are one piece on any processor. So whatever is loaded has to be loaded after `instrument`.
 *
 * What this does not show: processors that let others see stores in another order.
 */

import { readFileSync } from "node:fs";

/** Who is told of each step before it is taken. */
export interface Pacer {
  /** Whether arrays that are made now are looked at; undefined where all of them are. */
  readonly isWatching?: boolean;
  /** `to` is where a store goes: to a word of an array, or to an address. Undefined where nothing is stored. */
  step(to?: number | "word"): void;
  /** As a step that found nothing to do but wait. */
  giveWay(): void;
  /** Sleeps until it is woken for `what`; false when its time was up. */
  sleep(what: number, hasTimeout: boolean): boolean;
  /** Wakes up to `count` of those who sleep for `what`. */
  wake(what: number, count: number): number;
}

const { load } = Atomics;
const arrays = new WeakMap<object, Int32Array | Float64Array>();

/** The array behind a proxy of one. */
export function bare<T>(array: T): T {
  return (arrays.get(array as object) ?? array) as T;
}

/** An array whose elements are read and written in steps. */
export function stepped<T extends Int32Array | Float64Array>(array: T, baton: Pacer): T {
  const proxy = new Proxy(array, {
    get(target, name): unknown {
      if (typeof name === "string" && name.charCodeAt(0) < 58) {
        baton.step();
        return target[name as unknown as number];
      }
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      if (name === "subarray")
        return (from: number, to: number): T => stepped<T>(target.subarray(from, to) as T, baton);
      return (...args: unknown[]): unknown => {
        baton.step("word");
        return (member as (...all: unknown[]) => unknown).apply(target, args);
      };
    },
    set(target, name, value): boolean {
      baton.step("word");
      target[name as unknown as number] = value as number;
      return true;
    },
  });
  arrays.set(proxy, array);
  return proxy;
}

/** Puts the baton in front of everything; before any module of the database is loaded. */
export function instrument(baton: Pacer, { cutsCopies = true } = {}): void {
  instrumentArrays(baton);
  instrumentAtomics(baton);
  instrumentCopies(baton, cutsCopies);
  // A dead thread collects nothing.
  globalThis.FinalizationRegistry = class {
    register(): void {}
    unregister(): boolean {
      return false;
    }
  } as unknown as typeof FinalizationRegistry;
}

function instrumentArrays(baton: Pacer): void {
  const globals = globalThis as unknown as Record<string, new (...args: unknown[]) => Int32Array>;
  for (const name of ["Int32Array", "Float64Array"]) {
    globals[name] = new Proxy(globals[name]!, {
      construct(target, args): object {
        const array = new target(...(args as unknown[]));
        const isWatched = array.buffer instanceof SharedArrayBuffer && baton.isWatching !== false;
        return isWatched ? stepped(array, baton) : array;
      },
    });
  }
}

type Elements = Int32Array;

/** Two threads mean the same word when it lies at the same place of a buffer of the same length. */
export function placeOf(view: Elements, index: number): number {
  const array = bare(view);
  return array.buffer.byteLength * 65_536 + array.byteOffset + index * array.BYTES_PER_ELEMENT;
}

function instrumentAtomics(baton: Pacer): void {
  const atomics = Atomics as unknown as Record<string, (...args: unknown[]) => unknown>;
  for (const name of ["add", "and", "exchange", "load", "or", "store", "sub"]) {
    const call = atomics[name]!;
    atomics[name] = (array, ...rest): unknown => {
      baton.step(name === "load" ? undefined : "word");
      return call(bare(array), ...rest);
    };
  }
  const { compareExchange } = Atomics;
  atomics["compareExchange"] = (array, index, expected, next): unknown => {
    baton.step("word");
    const found = compareExchange(bare(array) as Elements, index as number, expected as number, next as number);
    // Who failed would only try again.
    if (found !== expected) baton.giveWay();
    return found;
  };
  const wait = (array: unknown, index: number, value: number, timeoutMs = Infinity): string => {
    baton.step();
    const elements = bare(array) as Elements;
    if (load(elements, index) !== value) return "not-equal";
    return baton.sleep(placeOf(elements, index) | 0, timeoutMs !== Infinity) ? "ok" : "timed-out";
  };
  atomics["wait"] = wait as never;
  atomics["waitAsync"] = ((...args: Parameters<typeof wait>) => ({ async: false, value: wait(...args) })) as never;
  atomics["notify"] = (array, index, count = Infinity): number => {
    baton.step();
    return baton.wake(placeOf(bare(array) as Elements, index as number) | 0, count as number);
  };
}

interface Hooks {
  emdbStep?: (to?: number | "word") => void;
  /** How many bytes to copy first. */
  emdbCut?: (bytes: number) => number;
  /** What the package remembers of a thread's first run is forgotten. */
  emdbBegin?: () => void;
}

const COPY = "= calls.memcpy;";
const STEPPED_COPY = `= (to, from, bytes) => {
  globalThis.emdbStep(typeof to === "number" ? to : undefined);
  const first = globalThis.emdbCut(bytes);
  if (first === bytes || typeof to !== "number" || typeof from !== "number") return calls.memcpy(to, from, bytes);
  calls.memcpy(to, from, first);
  globalThis.emdbStep(to + first);
  calls.memcpy(to + first, from + first, bytes - first);
};`;

let copies = 0;

/** Where a thread keeps the databases that it has left and others had open (`src/engine/abandoned.ts`). */
const LEFT = Symbol.for("emdb.left-databases.1");

/** As if the thread had just begun: what is done depends on nothing that was done before. */
export function beginAnew(): void {
  copies = 0;
  (globalThis as { [LEFT]?: Map<string, unknown> })[LEFT]?.clear();
  (globalThis as unknown as Hooks).emdbBegin?.();
}

function instrumentCopies(baton: Pacer, cutsCopies: boolean): void {
  const hooks = globalThis as unknown as Hooks;
  hooks.emdbStep = (to) => baton.step(to);
  hooks.emdbCut = (bytes) => {
    copies += 1;
    // Whole words only, and whole units of what is compared: addresses of shared memory are aligned to 8.
    return cutsCopies && bytes > 8 && copies % 3 === 0 ? ((copies * 7) % (bytes >> 3)) * 8 || 8 : bytes;
  };
  changeModule(/src[\\/]ffi[\\/]memory\.ts$/, COPY, STEPPED_COPY);
  // Given back by ones and not by dozens: what is too early shows at once.
  // Every value that is in the file has a mapping of its own.
  changeModule(/src[\\/]limits\.ts$/, "ZERO_COPY_BYTES_MIN = 256 * KIB;", "ZERO_COPY_BYTES_MIN = 1;");
  changeModule(/src[\\/]ffi[\\/]reclaim\.ts$/, "const BATCH = 64;", "const BATCH = 1;");
  // The frames of each batch are built in their place.
  changeModule(/src[\\/]engine[\\/]engine\.ts$/, "const IN_PLACE_MIN = 32_768;", "const IN_PLACE_MIN = 2;");
}

/** What was not loaded yet. */
const unchanged = new Set<string>();

/** @throws when a module was loaded too early to be changed */
export function expectChanged(): void {
  if (unchanged.size > 0) throw new Error(`loaded as it is: ${[...unchanged].join("; ")}`);
}

/** What is changed in the modules that a filter names: the first plugin that answers for a module is the only one. */
const editsOf = new Map<string, [from: string, to: string][]>();

/** Changes one place of a module as it is loaded. */
export function changeModule(filter: RegExp, from: string, to: string): void {
  unchanged.add(from);
  const known = editsOf.get(filter.source);
  if (known !== undefined) return void known.push([from, to]);
  const edits: [from: string, to: string][] = [[from, to]];
  editsOf.set(filter.source, edits);
  Bun.plugin({
    name: `stepped ${filter.source}`,
    setup(build) {
      build.onLoad({ filter }, ({ path }) => {
        let text = readFileSync(path, "utf8");
        for (const [old, next] of edits) {
          if (!text.includes(old)) throw new Error(`"${old}" has moved`);
          unchanged.delete(old);
          text = text.replace(old, () => next);
        }
        return { contents: text, loader: "ts" };
      });
    },
  });
}
