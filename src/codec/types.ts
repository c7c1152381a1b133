/** What a codec is made of; `Codec` of the public types is this shape. */
export interface ByteCodec<T> {
  readonly encode: (value: T) => string | Uint8Array | ArrayBuffer;
  /** `bytes` belongs to the caller. */
  readonly decode: (bytes: Uint8Array) => T;
}
