import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { symbolAddress } from "../../src/ffi/library.ts";
import { linuxKernel } from "../../src/ffi/linux.ts";
import { copy } from "../../src/ffi/memory.ts";
import { PosixSystem } from "../../src/ffi/posix.ts";
import type { Address, FileHandle, Result } from "../../src/ffi/system.ts";
import { bytesOf, neverOpened, outcome, readText, system, TemporaryFolder } from "./temporary-folder.ts";

const isWindows = process.platform === "win32";
const isLinux = process.platform === "linux";

/** The address, or an error thrown. */
function mapped(address: Address | Result): Address {
  if (address <= 0) throw new Error(outcome(address));
  return address;
}

function textAt(address: Address, bytes: number): string {
  const into = new Uint8Array(bytes);
  copy(into, address, bytes);
  return new TextDecoder().decode(into);
}

/** How many mappings this process has of the file with this name. */
function mappingsOf(name: string): number {
  return readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => line.includes(name)).length;
}

/** Makes a view and lets go of it, on a stack of its own. */
function viewText(file: FileHandle, position: number, bytes: number): string {
  const view = system.mapView(file, { position, bytes });
  if (typeof view === "number") throw new Error(outcome(view));
  return new TextDecoder().decode(view);
}

test("a mapping shows the file and what is written into it later", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  const address = mapped(system.map(file, 10));
  expect(textAt(address, 10)).toBe("0123456789");
  expect(system.write(file, bytesOf("AB"), { position: 4, bytes: 2 })).toBe(2);
  expect(textAt(address, 10)).toBe("0123AB6789");
  expect(system.unmap(address, 10)).toBe(0);
});

test.skipIf(!system.canMapPastEnd)("pages behind the end of the file become readable as it grows", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "start");
  const bytes = 2 ** 34;
  const address = mapped(system.map(file, bytes));
  for (const position of [system.pageBytes, 5 * system.pageBytes, bytes - system.pageBytes]) {
    expect(system.write(file, bytesOf("grown"), { position, bytes: 5 })).toBe(5);
    expect(textAt(address + position, 5)).toBe("grown");
    expect(textAt(address, 5)).toBe("start");
  }
  expect(system.unmap(address, bytes)).toBe(0);
});

test.skipIf(system.canMapPastEnd)(
  "a mapping cannot reach behind the end of the file, and a longer one is made as it grows",
  () => {
    using folder = new TemporaryFolder();
    const file = folder.opened("a", "start");
    expect(outcome(system.map(file, 6))).toBe("EINVAL");
    const short = mapped(system.map(file, 5));
    expect(system.allocate(file, 100_000)).toBe(0);
    const long = mapped(system.map(file, 100_000));
    expect(system.write(file, bytesOf("grown"), { position: 80_000, bytes: 5 })).toBe(5);
    expect(textAt(long + 80_000, 5)).toBe("grown");
    expect(textAt(short, 5)).toBe("start");
    expect(system.unmap(short, 5)).toBe(0);
    expect(system.unmap(long, 100_000)).toBe(0);
  },
);

test("a mapping outlives its file handle", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  const address = mapped(system.map(file, 10));
  expect(folder.close(file)).toBe(0);
  expect(textAt(address, 10)).toBe("0123456789");
  expect(system.unmap(address, 10)).toBe(0);
});

test("writing into a private mapping changes it and not the file", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  const address = mapped(system.mapPrivate(file, 10));
  copy(address + 2, bytesOf("XY"), 2);
  expect(textAt(address, 10)).toBe("01XY456789");
  expect(readText(file, 0, 10)).toBe("0123456789");
  expect(system.unmap(address, 10)).toBe(0);
});

test("mapping nothing, or what was never opened, is an error and not a crash", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  expect(outcome(system.map(file, 0))).toBe("EINVAL");
  expect(system.mapView(file, { position: 3, bytes: 0 })).toHaveLength(0);
  expect(outcome(system.map(neverOpened, 10))).toBe("EBADF");
  expect(outcome(system.mapPrivate(neverOpened, 10))).toBe("EBADF");
  expect(outcome(system.mapView(neverOpened, { position: 0, bytes: 10 }))).toBe("EBADF");
});

test("a view begins at any byte and is as long as asked", () => {
  using folder = new TemporaryFolder();
  const bytes = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 7) & 0xff);
  const file = folder.opened("a", "");
  expect(system.write(file, bytes, { position: 0, bytes: bytes.length })).toBe(bytes.length);
  for (const position of [0, 1, 4095, 4096, 65_535, 65_536, 65_537, 131_072, 299_990]) {
    for (const length of [1, 10]) {
      const view = system.mapView(file, { position, bytes: length }) as Uint8Array;
      expect(view).toEqual(bytes.slice(position, position + length));
    }
  }
  const long = system.mapView(file, { position: 100, bytes: 299_900 }) as Uint8Array;
  expect(Bun.hash(long)).toBe(Bun.hash(bytes.subarray(100)));
});

// Windows does not let go of the name of a file that is mapped.
test.skipIf(isWindows)("a view outlives the handle and the name of its file", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  const view = system.mapView(file, { position: 2, bytes: 5 }) as Uint8Array;
  expect(folder.close(file)).toBe(0);
  system.unlink(folder.at("a"));
  Bun.gc(true);
  expect(new TextDecoder().decode(view)).toBe("23456");
});

test("writing into a view against the contract neither ends the process nor reaches the file", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  const view = system.mapView(file, { position: 2, bytes: 5 }) as Uint8Array;
  view.fill(0);
  expect(readText(file, 0, 10)).toBe("0123456789");
});

test("a view outlives the handle of its file", () => {
  using folder = new TemporaryFolder();
  const file = folder.opened("a", "0123456789");
  const view = system.mapView(file, { position: 2, bytes: 5 }) as Uint8Array;
  expect(folder.close(file)).toBe(0);
  Bun.gc(true);
  expect(new TextDecoder().decode(view)).toBe("23456");
});

test.skipIf(!isLinux)("a view is unmapped once it and its parts are collected, and not before", () => {
  using folder = new TemporaryFolder();
  const name = "viewed-and-let-go";
  const file = folder.opened(name, "0123456789");
  const kept = system.mapView(file, { position: 2, bytes: 5 }) as Uint8Array;
  const part = kept.subarray(1, 3);
  for (let count = 0; count < 200; count += 1) expect(viewText(file, 1, 4)).toBe("1234");
  for (let round = 0; round < 10; round += 1) Bun.gc(true);
  // A stale word on the stack may keep a few; the kernel keeps the live one.
  expect(mappingsOf(name)).toBeLessThan(20);
  expect(mappingsOf(name)).toBeGreaterThan(0);
  expect(new TextDecoder().decode(part)).toBe("34");
});

// The runtime, which cannot make a buffer of more than 4 GiB, has unmapped by itself: another thread may have that place by then.
test.skipIf(!isLinux)(
  "a view that is longer than any buffer is refused, and what was mapped is not unmapped twice",
  () => {
    using folder = new TemporaryFolder();
    const kernel = linuxKernel();
    let unmapped = 0;
    const munmap = (at: Address, bytes: number): number => (unmapped++, kernel.calls.munmap(at, bytes));
    const counted = Object.assign(munmap, { ptr: symbolAddress(kernel.calls.munmap) });
    const counting = new PosixSystem({ ...kernel, calls: { ...kernel.calls, munmap: counted } });
    const name = "longer-than-any-buffer";
    const file = folder.opened(name, "");
    const bytes = 5 * 2 ** 30;
    expect(counting.truncate(file, bytes)).toBe(0);
    expect(outcome(counting.mapView(file, { position: 0, bytes }))).toBe("ENOMEM");
    expect([unmapped, mappingsOf(name)]).toEqual([0, 0]);
  },
);

test("a thousand mappings made and undone leave none", () => {
  using folder = new TemporaryFolder();
  const name = "mapped-and-unmapped";
  const file = folder.opened(name, "0123456789");
  for (let count = 0; count < 1000; count += 1) {
    expect(system.unmap(mapped(system.map(file, 10)), 10)).toBe(0);
  }
  if (isLinux) expect(mappingsOf(name)).toBe(0);
});
