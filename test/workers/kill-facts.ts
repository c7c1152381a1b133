/** What the victims of the kill ring write, and what must hold of it. */

export const COUNTERS = 8;
export const GROUPS = 32;
export const MEMBERS = 5;

/** The keys that are only ever written and removed together. */
export function groupKeys(group: number): string[] {
  return Array.from({ length: MEMBERS }, (_, member) => `group ${group} ${member}`);
}

export function numberIn(value: Uint8Array | undefined): number {
  return value === undefined ? 0 : Number(Buffer.from(value).toString());
}

export function numberOf(count: number): string {
  return String(count);
}
