/**
 * Annotated hex dumps of the log, made by a reader of its own: it shares no code with `src/log`, and takes the
 * checksums from Bun, so that a dump that it accepts says the same in two implementations.
 *
 * A line is the offset in the file, up to eight bytes, and what they are. A line with only a `*` stands for
 * repetitions of the byte before it.
 */

interface Field {
  readonly bytes: number;
  readonly says: string;
}

const kinds = ["", "put", "remove", "clear", "create", "drop", "abort", "mark", "end", "sealed", "session"];
const places = ["alone", "first", "middle", "last"];
const PRIME_3 = 0xc2b2ae3d | 0;
const PRIME_4 = 0x27d4eb2f | 0;
const BYTES_PER_LINE = 8;

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");

function lines(bytes: Uint8Array, fields: readonly Field[], start: number): string {
  const out: string[] = [];
  let at = 0;
  for (const field of fields) {
    const end = at + field.bytes;
    const part = bytes.subarray(at, end);
    const isRepeated = part.length > 4 * BYTES_PER_LINE && part.every((byte) => byte === part[0]);
    for (let from = at; from < end; from += BYTES_PER_LINE) {
      const to = Math.min(from + BYTES_PER_LINE, end);
      const octets = [...bytes.subarray(from, to)].map((byte) => hex(byte, 2)).join(" ");
      const line = `${hex(start + from, 8)}  ${octets.padEnd(BYTES_PER_LINE * 3)} ${from === at ? field.says : ""}`;
      out.push(line.trimEnd());
      if (!isRepeated) continue;
      out.push("*");
      break;
    }
    at = end;
  }
  out.push(hex(start + bytes.length, 8));
  return out.join("\n");
}

/** The seed of a check at a place of the file. */
export function seedAt(salt: number, lsn: number): number {
  const units = BigInt(lsn) / 8n;
  let seed = (salt ^ Math.imul(Number(units & 0xffff_ffffn) | 0, PRIME_3)) | 0;
  seed = (seed + Math.imul(Number(units >> 32n) + 1, PRIME_4)) | 0;
  return (seed ^ (seed >>> 16)) >>> 0;
}

const xxh32 = (bytes: Uint8Array, seed: number): number => Bun.hash.xxHash32(bytes, seed);
const verdict = (isRight: boolean): string => (isRight ? "" : " (WRONG)");

/** The dump of a header page. */
export function dumpHeader(page: Uint8Array): string {
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  const check = verdict(view.getUint32(508, true) === xxh32(page.subarray(0, 508), 0));
  return lines(
    page,
    [
      { bytes: 8, says: 'magic: "emdb" 1a 0d 0a 00' },
      { bytes: 4, says: `format version ${view.getUint32(8, true)}` },
      { bytes: 4, says: `flags: ${view.getUint32(12, true) === 0 ? "none" : view.getUint32(12, true)}` },
      { bytes: 16, says: "file id" },
      { bytes: 8, says: `generation ${view.getBigUint64(32, true)}` },
      { bytes: 8, says: `created at ${view.getBigUint64(40, true)} ms` },
      { bytes: 4, says: `cipher ${view.getUint32(48, true)}` },
      { bytes: 8, says: `made end ${view.getBigUint64(52, true)}` },
      { bytes: 448, says: "zeros" },
      { bytes: 4, says: `check of the 508 bytes before${check}` },
      { bytes: 3584, says: "key area: zeros unless encrypted" },
    ],
    0,
  );
}

/** The salts of the sample file: generation 1, file id a0 a1 .. af. */
function salts(): { readonly header: number; readonly body: number } {
  const id = Uint8Array.from({ length: 24 }, (_, index) => (index < 16 ? 0xa0 + index : index === 16 ? 1 : 0));
  return { header: xxh32(id, 1), body: xxh32(id, 2) };
}

/** What a frame holds, read by offsets alone. */
export interface FrameReading {
  readonly kind: string;
  readonly place: string;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly space: number;
  readonly expiresAtMs: number;
  readonly prev: number;
  readonly durable: number;
  readonly isSound: boolean;
  readonly fields: readonly Field[];
}

const TEXT_BYTES_MAX = 32;
const show = (bytes: Uint8Array): string =>
  bytes.length > TEXT_BYTES_MAX ? `${bytes.length} bytes` : JSON.stringify(new TextDecoder().decode(bytes));

/** What stands where a plain frame has its value. */
function valueFields(kind: string, value: Uint8Array): Field[] {
  const bytes = value.length;
  if (kind === "session") {
    return [
      { bytes: 32, says: "salt" },
      { bytes: bytes - 32, says: "MAC" },
    ];
  }
  // A changed shape or length may make a plain frame look like one.
  if (kind !== "sealed" || bytes < 20) return [{ bytes, says: `value ${show(value)}` }];
  const counter = new DataView(value.buffer, value.byteOffset).getUint32(0, false);
  return [
    { bytes: 4, says: `counter ${counter}` },
    { bytes: bytes - 20, says: `ciphertext ${bytes - 20} bytes` },
    { bytes: 16, says: "tag" },
  ];
}

/** Reads the frame whose first byte stands at `lsn`. */
export function readFrame(bytes: Uint8Array, lsn: number): FrameReading {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const shape = view.getUint32(8, true);
  const keyBytes = shape >>> 16;
  const valueBytes = view.getUint32(12, true);
  const prevUnits = view.getUint32(16, true);
  const behind = view.getUint16(20, true);
  const kind = kinds[shape & 15] ?? "?";
  const place = places[(shape >>> 4) & 3] ?? "?";
  let at = 24 + keyBytes;
  let expiresAtMs = 0;
  let space = view.getUint16(22, true);
  let prev = prevUnits === 0 ? 0 : lsn - prevUnits * 8;
  const extension: Field[] = [];
  // A changed shape may speak of an extension that is not there.
  const wide = (from: number): number => (from + 8 > bytes.length ? 0 : Number(view.getBigUint64(from, true)));
  if ((shape & 64) !== 0) {
    expiresAtMs = wide(at);
    extension.push({ bytes: 8, says: `extension: expires at ${expiresAtMs} ms` });
    at += 8;
  }
  if ((shape & 128) !== 0) {
    space = at + 4 > bytes.length ? 0 : view.getUint32(at, true);
    extension.push({ bytes: 4, says: `extension: namespace ${space}` });
    at += 4;
  }
  if ((shape & 256) !== 0) {
    prev = lsn - wide(at) * 8;
    extension.push({ bytes: 8, says: `extension: previous version ${(lsn - prev) / 8} units back, at ${prev}` });
    at += 8;
  }
  const end = at + valueBytes;
  const body = bytes.subarray(24, end);
  const { header, body: bodySalt } = salts();
  const seed = seedAt(bodySalt, lsn);
  const bodyCheck = body.length <= 4096 ? xxh32(body, seed) : Bun.hash.crc32(body, seed);
  const isHeadRight = view.getUint32(0, true) === xxh32(bytes.subarray(4, 24), seedAt(header, lsn));
  const isBodyRight = view.getUint32(4, true) === bodyCheck;
  const durable = lsn - (behind & 2047) * 2 ** (behind >>> 11) * 8;
  const key = bytes.subarray(24, 24 + keyBytes);
  const value = bytes.subarray(at, end);
  const flags = [
    (shape & 64) === 0 ? "" : ", expiry",
    (shape & 128) === 0 ? "" : ", wide space",
    (shape & 256) === 0 ? "" : ", wide prev",
    (shape & 512) === 0 ? "" : ", clean",
  ].join("");
  const fields: Field[] = [
    { bytes: 4, says: `header check${verdict(isHeadRight)}` },
    { bytes: 4, says: `body check, ${body.length <= 4096 ? "XXH32" : "CRC-32"}${verdict(isBodyRight)}` },
    { bytes: 4, says: `shape: ${kind}, ${place}${flags}, key of ${keyBytes}` },
    { bytes: 4, says: `value of ${valueBytes}` },
    {
      bytes: 4,
      says: prevUnits === 0 ? "prev: none" : `prev: ${prevUnits} units back, at ${prev}`,
    },
    { bytes: 2, says: `behind: all before ${durable} was durable` },
    { bytes: 2, says: (shape & 128) === 0 ? `space ${space}` : "space: in the extension" },
    { bytes: keyBytes, says: `key ${show(key)}` },
    ...extension,
    ...valueFields(kind, value),
    { bytes: bytes.length - end, says: "pad" },
  ];
  const isPadZero = bytes.subarray(end).every((byte) => byte === 0);
  const isSound = isHeadRight && isBodyRight && isPadZero && bytes.length === end + ((8 - (end % 8)) % 8);
  return { kind, place, key, value, space, expiresAtMs, prev, durable, isSound, fields };
}

/** The dump of the frame whose first byte stands at `lsn`. */
export function dumpFrame(bytes: Uint8Array, lsn: number): string {
  return lines(bytes, readFrame(bytes, lsn).fields, lsn);
}
