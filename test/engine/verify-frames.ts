/** The frames of a small sound log, for tests that damage them one by one. */

import { expect } from "bun:test";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { Errno } from "../../src/ffi/errno.ts";
import { hostSystem } from "../../src/ffi/host.ts";
import type { Opened } from "../../src/engine/assemble.ts";
import type { System } from "../../src/ffi/system.ts";
import { HEADER_PAGE_BYTES } from "../../src/limits.ts";
import { decodeHeader, saltsOf } from "../../src/log/header.ts";
import { Scanner } from "../../src/log/scanner.ts";

export interface FrameSpan {
  readonly start: number;
  readonly end: number;
}

/** Where each frame of the sound log at `path` begins and ends, up to `end`. */
export function framesOf(path: string, end: number): FrameSpan[] {
  const bytes = new Uint8Array(readFileSync(path));
  const verdict = decodeHeader(bytes.subarray(0, HEADER_PAGE_BYTES));
  if (verdict.kind !== "sound") throw new Error("the log's header is not sound");
  const system = hostSystem();
  const file = system.open(path, "read");
  try {
    const scanner = new Scanner({ system, file, path, salts: saltsOf(verdict.header), end }, HEADER_PAGE_BYTES);
    const spans: FrameSpan[] = [];
    while (scanner.next().kind === "frame") {
      spans.push({ start: scanner.lsn, end: scanner.lsn + scanner.facts.frameBytes });
    }
    return spans;
  } finally {
    system.close(file);
  }
}

/** The frame that a byte belongs to. */
export function frameAt(frames: readonly FrameSpan[], at: number): FrameSpan {
  const frame = frames.find(({ start, end }) => at >= start && at < end);
  if (frame === undefined) throw new Error(`no frame holds byte ${at}`);
  return frame;
}

/** Writes bytes into a file behind its owner's back. */
export function overwrite(path: string, at: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, at);
  closeSync(file);
}

/** The host's system, with some of its calls replaced. */
export function systemWith(calls: Partial<System>): System {
  return new Proxy(hostSystem(), {
    get(host, name: keyof System) {
      const own = calls[name];
      if (own !== undefined) return own;
      const value: unknown = host[name];
      return typeof value === "function" ? value.bind(host) : value;
    },
  });
}

/** Calls by which the disk cannot read stretches of the file of a name, from one byte to another, by whoever opens it to read. */
export function unreadable(fileName: string, isBad: (from: number, to: number) => boolean): Partial<System> {
  const host = hostSystem();
  let source = -1;
  return {
    open(name, mode) {
      const file = host.open(name, mode);
      if (mode === "read" && name.endsWith(fileName)) source = file;
      return file;
    },
    read(file, into, span) {
      const isRefused = file === source && isBad(span.position, span.position + span.bytes);
      return isRefused ? -Errno.EIO : host.read(file, into, span);
    },
  };
}

/** Begins a batch of which so many frames reach the file at once, and gives it up; returns where the first of them stands. */
export function giveUpBatch({ engine }: Opened, key: string, frameCount = 1, { valueBytes = 2_000_000 } = {}): number {
  const gone = engine.spaceNamed("gone");
  engine.dropSpace("gone");
  const start = engine.core.tail.end;
  const space = engine.defaultSpace;
  const never = { key: "never", value: "x", expiresAtMs: 0 };
  const keys = Array.from({ length: frameCount }, (_, index) => (index === 0 ? key : `${key} ${index}`));
  const long = keys.map((one) => ({ space, key: one, value: new Uint8Array(valueBytes), expiresAtMs: 0 }));
  expect(() => engine.writeBatch([...long, { space, ...never }, { space: gone, ...never }])).toThrow("was dropped");
  expect(engine.core.tail.end).toBeGreaterThan(start + valueBytes);
  return start;
}
