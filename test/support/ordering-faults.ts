import type { Core } from "../../src/engine/core.ts";
import type { SpaceState, Spaces } from "../../src/engine/spaces.ts";
import type { SpaceMoment } from "../../src/engine/verify/verify-moment.ts";
import { OrderedCheck } from "../../src/engine/verify/verify-ordered.ts";

/** What verify finds wrong with the ordered index of every key space now; nothing where none is kept. */
export function orderingFaults(core: Core, spaces: Spaces): string[] {
  const { ordering, base, visible } = core;
  const faults: string[] = [];
  if (ordering === undefined) return faults;
  const factsOf = (space: SpaceState): SpaceMoment => ({
    space,
    createdAt: 0,
    isLive: true,
    clears: spaces.clears(space),
    ...spaces.counts(space),
  });
  const all = new Map([spaces.default, ...spaces.list()].map((space) => [space.id, factsOf(space)]));
  const moment = { end: visible - base, base, isExact: true, spaces: all, release: () => undefined };
  const problems = { add: (offset: number, reason: string) => void faults.push(`${reason} (byte ${offset})`) };
  const check = new OrderedCheck(core, spaces, { ordering, moment, problems });
  while (check.step());
  return faults;
}
