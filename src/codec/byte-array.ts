/** What bytes are, for codecs and for all calls that take bytes. */

/** Works on views of any realm, and cannot be overridden by a subclass or a proxy: no code of the caller's runs. */
const tagOfView = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)?.get;

/** Whether it is a Uint8Array, of whatever realm, whatever it says of itself. Not `instanceof`, which knows one realm. */
export function isByteArray(given: unknown): given is Uint8Array {
  return ArrayBuffer.isView(given) && tagOfView?.call(given) === "Uint8Array";
}
