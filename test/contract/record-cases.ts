import { expect, test } from "bun:test";
import type { Emdb } from "../../src/api/emdb.ts";
import type { Codec } from "../../src/api/types.ts";
import { codec } from "../../src/codec/codec.ts";
import { KEY_BYTES_MAX } from "../../src/limits.ts";
import { bytesOf, expectCode, type OnFresh, places, textOf } from "./fixture.ts";

/** Around what is read of a record at first, what texts have memory kept for, and what fits beside a key. */
const TEXT_UNITS = [1, 2, 100, 230, 231, 232, 233, 16_384, 16_385, 65_535, 65_600, 100_000];

const SHORT_UNITS_MAX = 233;

/** A text's bytes with letters in place of all but its last characters, where it is long. */
function mostlyLetters(text: string): Uint8Array {
  if (text.length <= SHORT_UNITS_MAX) return bytesOf(text);
  const last = bytesOf(Array.from(text.slice(-8)).slice(-3).join(""));
  const bytes = new Uint8Array(Buffer.byteLength(text)).fill(0x78);
  bytes.set(last, bytes.length - last.length);
  return bytes;
}

/** Single records: insert, get in all its forms, containsKey, remove, len, clear. */
export function recordCases(on: OnFresh): void {
  for (const place of places) {
    test(
      `${place.name} gives back what was inserted, in every form of get`,
      on(async (bench) => {
        place.of(bench.db).insert("key", "value");
        const space = place.of(await bench.settle());
        expect(textOf(space.get("key"))).toBe("value");
        expect(textOf(space.getZeroCopy("key"))).toBe("value");
        expect(space.getText("key")).toBe("value");
        expect(space.containsKey("key")).toBe(true);
        expect(space.getMany(["key", "none"]).map(textOf)).toEqual(["value", undefined]);
        expect(space.len()).toBe(1);
        expect(space.isEmpty()).toBe(false);
      }),
    );
    test(
      `${place.name} answers undefined for what is absent`,
      on(({ db }) => {
        const space = place.of(db);
        expect(space.get("none")).toBeUndefined();
        expect(space.getZeroCopy("none")).toBeUndefined();
        expect(space.getText("none")).toBeUndefined();
        expect(space.containsKey("none")).toBe(false);
        expect(space.remove("none")).toBeUndefined();
        expect(space.expiresAt("none")).toBeUndefined();
        expect(space.len()).toBe(0);
        expect(space.isEmpty()).toBe(true);
      }),
    );
    test(
      `${place.name} replaces, and remove returns what was there`,
      on(async (bench) => {
        const space = place.of(bench.db);
        space.insert("key", "first");
        space.insert("key", "second, and longer");
        expect(space.len()).toBe(1);
        expect(textOf(space.remove("key"))).toBe("second, and longer");
        expect(space.remove("key")).toBeUndefined();
        const after = place.of(await bench.settle());
        expect(after.containsKey("key")).toBe(false);
        expect(after.len()).toBe(0);
      }),
    );
    test(
      `${place.name} is empty after clear, and takes records again`,
      on(async (bench) => {
        const space = place.of(bench.db);
        space.insertMany([
          ["a", "1"],
          ["b", "2"],
        ]);
        space.clear();
        expect(space.len()).toBe(0);
        expect([...space.iter()]).toEqual([]);
        expect(place.of(await bench.settle()).get("a")).toBeUndefined();
        place.of(bench.db).insert("a", "again");
        expect(place.of(await bench.settle()).getText("a")).toBe("again");
      }),
    );
  }

  test(
    "the empty key and the empty value are a key and a value",
    on(async (bench) => {
      bench.db.insert("empty", "");
      expect(bench.db.getMany(["", "empty"])).toEqual([undefined, new Uint8Array(0)]);
      expect((await bench.settle()).getMany(["", "none", "empty"])).toEqual([undefined, undefined, new Uint8Array(0)]);
      bench.db.insert("", "of the empty key");
      expect(bench.db.getMany([""])).toEqual([bytesOf("of the empty key")]);
      const db = await bench.settle();
      expect(db.getText("")).toBe("of the empty key");
      expect(db.get("empty")).toEqual(new Uint8Array(0));
      expect(db.getText("empty")).toBe("");
      expect(db.containsKey("empty")).toBe(true);
      expect(db.remove("")).toEqual(bytesOf("of the empty key"));
      expect(db.containsKey("")).toBe(false);
    }),
  );
  test(
    "a string, its UTF-8 bytes and their ArrayBuffer are one key and one value",
    on(({ db }) => {
      for (const text of ["plain", "\u00e9t\u00e9", "\u{1f511}", "\ufeffmarked", "nul\0inside"]) {
        const bytes = bytesOf(text);
        db.insert(text, bytes);
        expect(db.getText(bytes)).toBe(text);
        db.insert(bytes, bytes.buffer as ArrayBuffer);
        expect(db.getText(bytes.buffer as ArrayBuffer)).toBe(text);
        expect(db.get(Buffer.from(text))).toEqual(bytes);
      }
      expect(db.len()).toBe(5);
    }),
  );
  test(
    "what comes out is over an ArrayBuffer, also where it went in over memory that threads share",
    on(async (bench) => {
      const shared = new Uint8Array(new SharedArrayBuffer(300_000)).fill(7);
      bench.db.insert(shared.subarray(0, 3), shared);
      const seen = [bench.db.update("updated", () => shared)];
      bench.db.transaction((tx) => {
        tx.insert("own", shared);
        seen.push(tx.get("own"), tx.get("updated"), tx.remove("own"));
      });
      const db = await bench.settle();
      seen.push(db.get("updated"), db.getZeroCopy("updated"), ...db.getMany(["updated"]), ...[...db].flat());
      const typed = db.typed({ key: codec.bytes, value: codec.bytes });
      seen.push(
        typed.get(shared.subarray(0, 3)),
        typed.update(bytesOf("typed"), () => shared),
        db.remove("updated"),
      );
      expect(new Set(seen.map((bytes) => bytes?.buffer.constructor))).toEqual(new Set([ArrayBuffer]));
    }),
  );
  test(
    "keys are not normalised: two spellings of one letter are two keys",
    on(({ db }) => {
      db.insert("\u00e9", "composed");
      db.insert("e\u0301", "decomposed");
      expect(db.getText("\u00e9")).toBe("composed");
      expect(db.len()).toBe(2);
    }),
  );
  test(
    "keys of every byte, of one byte and of none are told apart",
    on(async (bench) => {
      for (let byte = 0; byte < 256; byte += 1) bench.db.insert(new Uint8Array([byte]), new Uint8Array([byte, byte]));
      bench.db.insert("", "none");
      const db = await bench.settle();
      for (let byte = 0; byte < 256; byte += 1) {
        expect(db.get(new Uint8Array([byte]))).toEqual(new Uint8Array([byte, byte]));
      }
      expect(db.len()).toBe(257);
    }),
  );
  test(
    "a key that is another's prefix is another key",
    on(({ db }) => {
      for (const key of ["a", "a\0", "aa", "ab"]) db.insert(key, key);
      db.remove("a");
      expect(["a", "a\0", "aa", "ab"].map((key) => db.getText(key))).toEqual([undefined, "a\0", "aa", "ab"]);
    }),
  );
  test(
    "the longest key is taken, and one byte more is EMDB_TOO_LARGE naming both numbers",
    on(async (bench) => {
      const longest = new Uint8Array(KEY_BYTES_MAX).fill(7);
      bench.db.insert(longest, "kept");
      const error = expectCode("EMDB_TOO_LARGE", () => bench.db.insert(new Uint8Array(KEY_BYTES_MAX + 1), "not"));
      expect(error.message).toContain(String(KEY_BYTES_MAX));
      expect(error.message).toContain(String(KEY_BYTES_MAX + 1));
      const db = await bench.settle();
      expect(db.getText(longest)).toBe("kept");
      expect(db.len()).toBe(1);
    }),
  );
  test(
    "a value of a megabyte and a half comes back byte for byte",
    on(async (bench) => {
      const value = Uint8Array.from({ length: 1_500_001 }, (_, index) => (index * 31) % 251);
      bench.db.insert("large", value);
      const db = await bench.settle();
      expect(Buffer.compare(db.get("large") ?? new Uint8Array(0), value)).toBe(0);
      expect(Buffer.compare(db.getZeroCopy("large") ?? new Uint8Array(0), value)).toBe(0);
    }),
  );
  test(
    "what insert was given may be changed afterwards, and so may what get returned",
    on(({ db }) => {
      const key = bytesOf("key");
      const value = bytesOf("value");
      db.insert(key, value);
      key.fill(0);
      value.fill(0);
      db.get("key")?.fill(1);
      expect(db.getText("key")).toBe("value");
    }),
  );
  test(
    "a view from get or getZeroCopy keeps its bytes after overwrite, clear, compact and close",
    on(async (bench) => {
      const { db } = bench;
      db.insert("key", "as it was");
      const copy = db.get("key");
      const view = db.getZeroCopy("key");
      db.insert("key", "something else");
      db.clear();
      await bench.compact();
      expect(textOf(view)).toBe("as it was");
      await db.close();
      expect(textOf(view)).toBe("as it was");
      expect(textOf(copy)).toBe("as it was");
    }),
  );
  test(
    "text of every kind and length is read as it was written, and refused with one byte of it spoilt",
    on(async (bench) => {
      const alphabets = ["text", "caf\u00e9", "\u0442\u0435\u043a\u0441\u0442", "a\u{1f511}", "\ufffd", "\ufeff"];
      const write = (db: Emdb): void => {
        for (const [index, text] of texts.entries()) {
          db.insert(`${index}`, text);
          // The end of a record that is read in pieces is where one is forgotten. The runtime takes long over refusing a long
          // text of anything but letters.
          const spoilt = mostlyLetters(text);
          spoilt[spoilt.length - 1] = 0xff;
          db.insert(`${index} spoilt`, spoilt);
        }
      };
      const texts = alphabets.flatMap((words) =>
        TEXT_UNITS.map((units) => words.repeat(units).slice(0, units).toWellFormed()),
      );
      const check = (db: Emdb): void => {
        for (const [index, text] of texts.entries()) {
          // Not toBe of the texts: a megabyte of a message.
          const [plain, typed] = [db.getText(`${index}`), db.typed({ value: codec.text }).get(`${index}`)];
          expect([index, plain === text, typed === text, text.length]).toEqual([index, true, true, text.length]);
          for (const value of [codec.text, codec.json()] as Codec<unknown>[])
            expectCode("EMDB_INVALID_ARGUMENT", () => db.typed({ value }).get(`${index} spoilt`));
          expectCode("EMDB_INVALID_ARGUMENT", () => db.getText(`${index} spoilt`));
        }
      };
      write(bench.db);
      check(bench.db);
      check(await bench.settle());
    }),
  );
  test(
    "getText of bytes that are not UTF-8 is an error, and the bytes are still there",
    on(({ db }) => {
      db.insert("bytes", new Uint8Array([0xff, 0xfe]));
      expectCode("EMDB_INVALID_ARGUMENT", () => db.getText("bytes"));
      expect(db.get("bytes")).toEqual(new Uint8Array([0xff, 0xfe]));
    }),
  );
}
