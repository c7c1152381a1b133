/** The two writes that change a secret, cut at every byte, in every order that a disk may leave. */

import { describe, expect, test } from "bun:test";
import { KEY_AREA_OFFSET, replaceSlot, unlock, type KeyPage, type SlotWrite } from "../../src/crypto/key-area.ts";
import { KEY_SLOT_BYTES } from "../../src/crypto/key-slot.ts";
import { newSlot } from "../../src/crypto/new-lock.ts";
import type { CallerSecret } from "../../src/crypto/caller-secret.ts";
import { bytesOf, cheapStretch, madePage, outcome, passphrase, rawSecret, seeded } from "./fixtures.ts";

const opens = (page: KeyPage, secret: CallerSecret) => outcome(() => unlock(page, secret, cheapStretch));

function written(page: KeyPage, write: SlotWrite): KeyPage {
  const keyArea = page.keyArea.slice();
  keyArea.set(write.bytes, write.fileOffset - KEY_AREA_OFFSET);
  return { ...page, keyArea };
}

/** The page after a power loss in the middle of a write: a part of it new, the rest old, zero or garbage. */
function* torn(page: KeyPage, write: SlotWrite): Generator<KeyPage> {
  const at = write.fileOffset - KEY_AREA_OFFSET;
  const old = page.keyArea.slice(at, at + KEY_SLOT_BYTES);
  for (let bytes = 0; bytes <= KEY_SLOT_BYTES; bytes++) {
    for (const rest of [old, new Uint8Array(KEY_SLOT_BYTES), bytesOf("garbage", KEY_SLOT_BYTES)]) {
      const head = new Uint8Array([...write.bytes.subarray(0, bytes), ...rest.subarray(bytes)]);
      const tail = new Uint8Array([...rest.subarray(0, bytes), ...write.bytes.subarray(bytes)]);
      yield written(page, { ...write, bytes: head });
      yield written(page, { ...write, bytes: tail });
    }
  }
}

function rotation(page: KeyPage, current: CallerSecret, next: CallerSecret, name: string): readonly SlotWrite[] {
  const { dataKey, slotIndex } = unlock(page, current, cheapStretch);
  return replaceSlot(slotIndex, newSlot(dataKey, { secret: next, home: page, random: seeded(name) }, cheapStretch));
}

const CHANGES = [
  ["key to key", rawSecret, () => rawSecret("next")],
  ["key to passphrase", rawSecret, passphrase],
  ["passphrase to key", passphrase, rawSecret],
] as const;

describe.each(CHANGES)("changing %s", (_, oldSecret, newSecret) => {
  const before = madePage({ secret: oldSecret() });
  const dataKey = before.dataKey.bytes.toHex();
  const [first, second] = rotation(before, oldSecret(), newSecret(), "rotation") as [SlotWrite, SlotWrite];
  const between = written(before, first);
  const after = written(between, second);

  test("takes two writes of a sector, and then only the new secret opens, with the same data key", () => {
    expect([first, second].map(({ fileOffset, bytes }) => [fileOffset, bytes.length])).toEqual([
      [1024, 512],
      [512, 512],
    ]);
    expect(opens(after, newSecret()).value?.dataKey.bytes.toHex()).toBe(dataKey);
    expect(["EMDB_KEY_MISMATCH", "EMDB_INVALID_CONFIG"]).toContain(String(opens(after, oldSecret()).code));
    expect(after.keyArea.subarray(0, KEY_SLOT_BYTES).every((byte) => byte === 0)).toBe(true);
  });
  test("lets both open between the writes", () => {
    expect(opens(between, oldSecret()).value?.dataKey.bytes.toHex()).toBe(dataKey);
    expect(opens(between, newSecret()).value?.dataKey.bytes.toHex()).toBe(dataKey);
  });
  test("opens with the old secret however the first write is torn", () => {
    for (const page of torn(before, first)) expect(opens(page, oldSecret()).value?.dataKey.bytes.toHex()).toBe(dataKey);
  });
  test("opens with the new secret however the second write is torn", () => {
    for (const page of torn(between, second))
      expect(opens(page, newSecret()).value?.dataKey.bytes.toHex()).toBe(dataKey);
  });
  test("can be done again, with either secret, after a crash between the writes, and forgets the old one", () => {
    for (const current of [oldSecret, newSecret]) {
      const last = rotation(between, current(), rawSecret("third"), "again").reduce(written, between);
      expect(opens(last, rawSecret("third")).value?.dataKey.bytes.toHex()).toBe(dataKey);
      expect(opens(last, oldSecret()).code).toBeDefined();
      expect(opens(last, newSecret()).code).toBeDefined();
    }
  });
});

test("a hundred changes in a row alternate between the slots", () => {
  let page: KeyPage = madePage({ secret: rawSecret("0") });
  const dataKey = opens(page, rawSecret("0")).value?.dataKey.bytes.toHex();
  for (let round = 1; round <= 100; round++) {
    page = rotation(page, rawSecret(String(round - 1)), rawSecret(String(round)), `round ${round}`).reduce(
      written,
      page,
    );
    const { value } = opens(page, rawSecret(String(round)));
    expect(value?.dataKey.bytes.toHex()).toBe(dataKey);
    expect(value?.slotIndex).toBe((round % 2) as 0 | 1);
  }
});
