/** A system whose pages are larger than the host's, as on Apple silicon (16 KiB) and some kernels for arm64 (64 KiB). */

import { assertPages } from "../../src/ffi/checks.ts";
import type { Address, System } from "../../src/ffi/system.ts";

export interface LargePages {
  readonly system: System;
  /** Whether the page that an address is in has been given back, and not been asked for again. */
  isGivenBack(address: Address): boolean;
  /** How many bytes are. */
  readonly givenBackBytes: number;
}

/** Stops what such a system refuses: parts of pages. */
export function largePages(host: System, pageBytes: number): LargePages {
  const givenBack = new Set<Address>();
  /** What the host reserved, by where the first whole page in it begins. */
  const reserved = new Map<Address, { readonly address: Address; readonly bytes: number }>();
  const each = (address: Address, bytes: number, work: (page: Address) => void): void => {
    assertPages(address, bytes, pageBytes);
    for (let page = address; page < address + bytes; page += pageBytes) work(page);
  };
  const own = {
    pageBytes,
    reserve(bytes: number): Address {
      assertPages(pageBytes, bytes, pageBytes);
      const address = host.reserve(bytes + pageBytes);
      if (address < 0) return address;
      const aligned = Math.ceil(address / pageBytes) * pageBytes;
      reserved.set(aligned, { address, bytes: bytes + pageBytes });
      return aligned;
    },
    commit(address: Address, bytes: number): number {
      each(address, bytes, (page) => givenBack.delete(page));
      return host.commit(address, bytes);
    },
    decommit(address: Address, bytes: number): number {
      each(address, bytes, (page) => givenBack.add(page));
      return host.decommit(address, bytes);
    },
    release(address: Address, bytes: number): number {
      assertPages(address, bytes, pageBytes);
      const whole = reserved.get(address);
      reserved.delete(address);
      return whole === undefined ? host.release(address, bytes) : host.release(whole.address, whole.bytes);
    },
  };
  const system = new Proxy(host, {
    get(target, name) {
      if (Object.hasOwn(own, name)) return Reflect.get(own, name) as unknown;
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === "function" ? (member as (...all: unknown[]) => unknown).bind(target) : member;
    },
  });
  return {
    system,
    isGivenBack: (address) => givenBack.has(address - (address % pageBytes)),
    get givenBackBytes() {
      return givenBack.size * pageBytes;
    },
  };
}
