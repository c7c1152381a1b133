import { EmdbError } from "../errors.ts";
import { utf8Text } from "./text.ts";
import type { ByteCodec } from "./types.ts";

export const jsonCodec: ByteCodec<unknown, string> = {
  encode(value) {
    const text = stringified(value);
    // JSON has no word for these; storing nothing for something would lose it.
    if (text === undefined) {
      throw new EmdbError("EMDB_INVALID_ARGUMENT", `codec.json cannot encode ${typeof value}`);
    }
    return text;
  },
  decode: (bytes) => parsed(utf8Text(bytes)),
};

/**
 * What `jsonCodec` makes of stored text.
 *
 * @throws {EmdbError} EMDB_INVALID_ARGUMENT
 */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message quotes the text, which may be a secret.
    throw new EmdbError("EMDB_INVALID_ARGUMENT", `the ${Buffer.byteLength(text)} stored bytes are not JSON`);
  }
}

function stringified(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch (cause) {
    throw new EmdbError("EMDB_INVALID_ARGUMENT", "codec.json cannot encode this value (a cycle or a bigint?)", {
      cause,
    });
  }
}
