/**
 * What a codec is made of; `Codec` of the public types is this shape. `Encoded` says which kind of bytes `encode` gives,
 * so that a codec of a caller's own can be put together from these.
 */
export interface ByteCodec<T, Encoded extends string | Uint8Array | ArrayBuffer = string | Uint8Array | ArrayBuffer> {
  readonly encode: (value: T) => Encoded;
  /** `bytes` belongs to the caller. */
  readonly decode: (bytes: Uint8Array) => T;
}
